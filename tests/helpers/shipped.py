"""The algorithms that are shipped, and what makes each of them act on a network that has learnt nothing."""

from __future__ import annotations

from sslbench.config.schema import conf_dir

ALGORITHMS = sorted(path.stem for path in (conf_dir() / "algorithm").glob("*.yaml"))

#: An untrained network is sure of nothing: no image would reach the shipped thresholds. With so few images a
#: class, the second round draws from a part of them.
OVERRIDES = {
    "label_vectors": ["algorithm.min_similarity=-1.0", "algorithm.num_per_class=20"],
    "pseudo_label": ["algorithm.threshold=0.0"],
}
