"""The algorithms that are shipped, and what makes each of them act on a network that has learnt nothing."""

from __future__ import annotations

from sslbench.config.schema import conf_dir

ALGORITHMS = sorted(path.stem for path in (conf_dir() / "algorithm").glob("*.yaml"))

#: An untrained network does not reach the shipped threshold.
OVERRIDES = {
    "cowmix": ["algorithm.threshold=0.0"],
    "cutmix": ["algorithm.threshold=0.0"],
    "dash": ["algorithm.weighting.threshold.minimum=3.0"],
    "debiaspl": ["algorithm.weighting.threshold=0.0"],
    "defixmatch": ["algorithm.weighting.threshold=0.0"],
    "fixmatch": ["algorithm.weighting.threshold=0.0"],
    "fullmatch": ["algorithm.weighting.threshold=0.2"],
    "marginmatch": ["algorithm.weighting.inner.threshold=0.0"],
    "pseudo_label": ["algorithm.threshold=0.0"],
    "refixmatch": ["algorithm.weighting.threshold=0.2"],
    "shrinkmatch": ["algorithm.weighting.threshold=0.2"],
    "uda": ["algorithm.weighting.threshold=0.0"],
}
