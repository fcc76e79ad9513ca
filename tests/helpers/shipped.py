"""The algorithms that are shipped, and what makes each of them act on a network that has learnt nothing."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sslbench.config.schema import conf_dir

ALGORITHMS = sorted(path.stem for path in (conf_dir() / "algorithm").glob("*.yaml"))


def _with_marks() -> list[Any]:
    seen: set[str] = set()
    found = []
    for name in ALGORITHMS:
        target = yaml.safe_load((conf_dir() / "algorithm" / f"{name}.yaml").read_text())["_target_"]
        found.append(pytest.param(name, marks=[pytest.mark.thorough] if target in seen else []))
        seen.add(target)
    return found


#: For tests that cost much: the first algorithm of each class, and with ``--thorough`` all.
FIRST_OF_EACH_CLASS = _with_marks()

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
