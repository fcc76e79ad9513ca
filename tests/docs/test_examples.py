"""The classes and files that the documents print work as they are printed."""

from __future__ import annotations

import csv
import importlib
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslbench.cli.report_command import main as report

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHORT = ["steps=4", "eval_every=2", "batch.labelled=4", "device=cpu", "threads=1"]
TINY_MODEL = ["model=mlp", "model.hidden=[8]"]

Sslbench = Callable[..., int]


def printed(page: str, language: str, part: str) -> str:
    """The one block of code in `language` on a page that contains `part`."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    [block] = [block for block in blocks if part in block]
    assert isinstance(block, str)
    return block


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project of docs/extend.md, importable from the working directory."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = {
        "my_entropy_min": printed("extend.md", "python", "class EntropyMinimisation"),
        "my_models": printed("extend.md", "python", "small_resnet18"),
        "my_loggers": printed("extend.md", "python", "class CsvLogger"),
        "my_data": printed("data.md", "python", "def image_folders"),
    }
    choices = {
        "algorithm/my_entropy_min": printed("extend.md", "yaml", "EntropyMinimisation").replace(
            "sslbench.algorithms.entropy_min", "my_entropy_min"
        ),
        "model/small_resnet18": printed("extend.md", "yaml", "my_models"),
        "logger/csv": printed("extend.md", "yaml", "my_loggers"),
        "dataset/image_folders": printed("data.md", "yaml", "my_data"),
    }
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text)
    for name, text in choices.items():
        path = tmp_path / "my_conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    importlib.invalidate_caches()
    yield tmp_path
    for name in modules:
        sys.modules.pop(name, None)


def result(folder: Path) -> dict[str, object]:
    [path] = (folder / "outputs").glob("*/result.json")
    read: dict[str, object] = json.loads(path.read_text())
    return read


def test_algorithm(package: Path, sslbench: Sslbench) -> None:
    words = ["--config-dir", "my_conf", "algorithm=my_entropy_min", "logger=none"]
    assert sslbench(*words, *SHORT, *TINY_MODEL) == 0
    assert result(package)["algorithm"] == "my_entropy_min"


def test_the_printed_algorithm_is_the_one_that_is_shipped() -> None:
    source = (DOCS.parent / "src/sslbench/algorithms/entropy_min.py").read_text()
    assert printed("extend.md", "python", "class EntropyMinimisation") == source
    config = (DOCS.parent / "conf/algorithm/entropy_min.yaml").read_text()
    assert printed("extend.md", "yaml", "EntropyMinimisation") == config


def test_logger(package: Path, sslbench: Sslbench) -> None:
    assert sslbench("--config-dir", "my_conf", "algorithm=supervised", "logger=csv", *SHORT, *TINY_MODEL) == 0
    [log] = (package / "outputs").glob("*/val_acc.csv")
    rows = list(csv.DictReader(log.read_text().splitlines()))
    assert [row["step"] for row in rows] == ["2", "4"]
    points = [json.loads(line) for line in (log.parent / "metrics.jsonl").read_text().splitlines()]
    assert [float(row["val_acc"]) for row in rows] == [p["val/acc"] for p in points if "val/acc" in p]


IMAGE_FOLDERS = [
    *("--config-dir", "my_conf", "algorithm=supervised", "logger=none", *SHORT),
    *("dataset=image_folders", "dataset.path=images", "dataset.size=8", "num_labels=4", "num_valid=10"),
]


@pytest.fixture
def images(package: Path) -> Path:
    """Two classes of colour images of 9x12 pixels, among files and folders that are none."""
    draws = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 3)):
        for name in ("cat", "dog"):
            folder = package / "images" / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = draws.integers(0, 256, (9, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.{('png', 'JPG')[index % 2]}")
    train = package / "images" / "train"
    (train / ".ipynb_checkpoints").mkdir()
    for stray in (train / "notes.txt", train / "cat" / "notes.txt"):
        stray.write_text("stray")
    return train


def test_image_folders(images: Path, package: Path, sslbench: Sslbench) -> None:
    assert sslbench(*IMAGE_FOLDERS, *TINY_MODEL) == 0
    assert result(package)["algorithm"] == "supervised"
    arrays = importlib.import_module("my_data").image_folders("images", size=8)
    assert arrays.x_train.shape == (40, 8, 8, 3)
    assert arrays.y_train.tolist() == [0] * 20 + [1] * 20
    assert arrays.x_test.shape == (6, 8, 8, 3)


def test_model_of_torchvision(images: Path, package: Path, sslbench: Sslbench) -> None:
    assert sslbench(*IMAGE_FOLDERS, "model=small_resnet18") == 0
    assert result(package)["model"] == "small_resnet18"


def test_a_broken_image_is_one_line(
    images: Path, sslbench: Sslbench, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "cat" / "broken.png").write_bytes(b"no image")
    assert sslbench(*IMAGE_FOLDERS, *TINY_MODEL) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "broken.png cannot be read as an image: mend or delete it" in line


def commands(program: str) -> list[str]:
    """The command lines of `program` in blocks of shell on all pages, without comments and placeholders."""
    pages = [DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md", *DOCS.glob("*.md")]
    blocks = [
        block for page in pages for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.S | re.M)
    ]
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    own = ("group=choice", "--config-dir", "...", "RUN_DIR", "RUNS")
    return sorted(
        {line for line in lines if line.startswith(f"{program} ") and not any(word in line for word in own)}
    )


def first_of(override: str) -> str:
    """A swept override with the first of its values."""
    key, equals, value = override.partition("=")
    if not equals:  # such as `~key`, which takes one out
        return override
    value = re.sub(r"range\((\d+).*\)", r"\1", value)
    return f"{key}={value}" if "[" in value else f"{key}={value.split(',')[0]}"


@pytest.mark.parametrize("line", commands("sslbench"))
def test_commands_compose(line: str, sslbench: Sslbench, tmp_path: Path) -> None:
    typed = [word for word in shlex.split(line, comments=True)[1:] if word != "-m"]
    assert sslbench(*map(first_of, typed), "--cfg", "job") == 0


def test_options_of_the_report_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        report(["--help"])
    known = set(re.findall(r"--[a-z]+", capsys.readouterr().out))
    lines = commands("sslbench-report")
    assert len(lines) >= 3
    for line in lines:
        assert set(re.findall(r"--[a-z]+", line)) <= known, line
