from __future__ import annotations

from pathlib import Path

import pytest

from helpers.figure_runs import all_sections, make_grid
from helpers.report_runs import make_run, run_maker
from sslbench.report.figures.sections import Section

__all__ = ["make_run"]


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of `make_grid`, which no test changes."""
    runs = tmp_path_factory.mktemp("grid") / "runs"
    make_grid(run_maker(runs))
    return runs


@pytest.fixture(scope="session")
def grid_sections(grid: Path) -> dict[str, Section]:
    """The figures of `grid`, drawn once for all tests."""
    return all_sections(grid)
