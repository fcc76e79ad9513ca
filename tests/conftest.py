from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data_root() -> Path:
    """The folder of the official data sets, for tests marked `real_data`; skips where there is none."""
    root = os.environ.get("SSLBENCH_DATA")
    if not root:
        pytest.skip("set SSLBENCH_DATA to the folder that holds MNIST/raw")
    if not (Path(root) / "MNIST" / "raw").is_dir():
        pytest.skip(f"SSLBENCH_DATA={root} has no MNIST/raw")
    return Path(root)
