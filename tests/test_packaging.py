"""The wheel works away from the checkout; the source archive has what its README names."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import sslbench
from sslbench.config.schema import conf_dir

CHECKOUT = Path(__file__).resolve().parents[1]


def test_wheel_runs_without_the_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("sslbench-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    shipped = {
        f"sslbench/conf/{path.relative_to(conf_dir()).as_posix()}" for path in conf_dir().rglob("*.yaml")
    }
    assert shipped <= names
    assert {"sslbench/py.typed", "hydra_plugins/sslbench_sweeper/__init__.py"} <= names
    assert {
        f"sslbench/report/page/templates/{name}" for name in ("page.html", "page.css", "sort.js")
    } <= names
    assert not [name for name in names if name.endswith((".gz", ".npz", ".mat"))]

    # Before the editable install on the path, as in an environment that has the wheel alone.
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    where = [sys.executable, "-c", "import sslbench.config.schema as c; print(c.conf_dir())"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert Path(found.stdout.strip()) == tmp_path / "site" / "sslbench" / "conf"
    small = [
        "model=mlp",
        "model.hidden=[8]",
        "steps=2",
        "eval_every=2",
        "logger=none",
        "device=cpu",
        "threads=1",
    ]
    own = ["algorithm=pi_model", "seed=0,1", "output_root=out"]
    train = [sys.executable, "-m", "sslbench", "-m", *small, *own]
    done = subprocess.run(train, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*/result.json"))) == 2


def test_the_source_archive_has_what_its_readme_needs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    [archive] = tmp_path.glob("sslbench-*.tar.gz")
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    needed = (
        "Makefile",
        "CONTRIBUTING.md",
        "conf/config.yaml",
        "benchmarks/speed.py",
        "docs/images/digits.png",
    )
    assert set(needed) <= names
    assert not [name for name in names if name.startswith((".venv", "outputs", "shared"))]


def test_version_is_stated_once() -> None:
    assert f'version = "{sslbench.__version__}"' in (CHECKOUT / "pyproject.toml").read_text()
