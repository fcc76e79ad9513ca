"""The algorithms that are shipped, and what makes each of them act on a network that has learnt nothing."""

from __future__ import annotations

from sslbench.config import conf_dir

ALGORITHMS = sorted(path.stem for path in (conf_dir() / "algorithm").glob("*.yaml"))

#: An untrained network reaches no shipped threshold. With few images of each class, the second round of label
#: vectors draws from a part of the unlabelled images.
OVERRIDES = {
    "label_vectors": ["algorithm.num_per_class=20"],
    "pseudo_label": ["algorithm.threshold=0.0"],
}
