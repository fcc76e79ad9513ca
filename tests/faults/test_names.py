"""Names of any kind: no folder outside the output folder, no broken line, and what W&B takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.odd_names import CONTROL, NAMES
from helpers.results import write_result
from sslbench.config.file_names import check_folder, file_name
from sslbench.config.schema import Settings
from sslbench.errors import UserError
from sslbench.run.train import check
from sslbench.sweep.local import LocalRunner
from sslbench.sweep.planned_run import PlannedRun
from sslbench.tracking import WandbTracker

Sslbench = Callable[..., int]
Tried = Callable[[int], None]

TINY = ["model=mlp", "model.hidden=[4]", "steps=2", "eval_every=2", "device=cpu", "threads=1", "logger=none"]

_RESERVED_AT_WANDB = set("/\\#?%:;,'\"")


def _named(settings: Settings, name: str) -> Settings:
    for group in ("algorithm", "dataset", "loss", "model"):
        settings.choices[group] = name
    return settings


@pytest.mark.fault(
    "names of choices with separators, dots, markup, control characters, up to 5,000 characters",
    "the folder lies directly in the output folder, and W&B takes the id, group and name",
)
def test_the_folder_of_a_run_stays_in_the_output_folder(
    settings_of: Callable[..., Settings], tmp_path: Path, tried: Tried
) -> None:
    settings = settings_of("seed=4294967295")
    root = tmp_path / "outputs"
    root.mkdir()
    for name in NAMES:
        folder = _named(settings, name).directory()
        assert folder.parent == root
        assert folder.resolve().parent == root.resolve()
        assert folder.name.isprintable()
        assert not folder.name.startswith((".", "-"))
        assert len(folder.name.encode()) <= 255
        folder.mkdir(exist_ok=True)
        for given in (settings.run_id, settings.group, settings.name):
            assert not set(given) & _RESERVED_AT_WANDB
            assert given == given.strip()
            assert len(given) <= 128 - len("-01234567"), "what is added to make an id at W&B"
    assert len(list(root.iterdir())) > 50
    tried(len(NAMES))


def test_long_names_are_kept_apart_by_the_hash(settings_of: Callable[..., Settings]) -> None:
    one, other = (_named(settings_of(f"steps={steps}"), "x" * 300) for steps in (10, 20))
    assert one.run_id != other.run_id
    assert one.name == other.name
    assert len(one.run_id) < 120


@pytest.mark.parametrize(
    "name", ["vat-kl-digits-100", "mean_teacher", "seeds_vat.2", "müller", "数据", "a+b", "a@b", "_x"]
)
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert file_name(name) == name


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("a\nb", "control character"),
        ("a\0b", "control character"),
        ("\x1b[31m", "control character"),
        ("a\u2028b", "control character"),
        ("\udcff", "half of one"),
        ("x" * 300, "File name too long"),
        ("y/" * 3000, "File name too long"),
    ],
)
@pytest.mark.parametrize("key", ["output_root", "run_dir"])
def test_a_folder_that_cannot_be_is_one_line(
    key: str, place: str, told: str, sslbench: Sslbench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sslbench(*TINY, f"{key}='{place}'") == 1
    out, err = capfd.readouterr()
    assert told in err
    assert len(err.splitlines()) == 1
    assert err.removesuffix("\n").isprintable()
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_into_a_folder_that_cannot_be_is_told(
    sslbench: Sslbench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    preset = tmp_path / "own" / "sweep" / "mine.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text('# @package _global_\nhydra: {sweep: {dir: "a\\x1bb"}}\n')
    assert sslbench("--config-dir", "own", *TINY, "sweep=mine", "-m") == 1
    err = capfd.readouterr().err
    assert "a\\x1bb' holds a control character" in err
    assert len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_folders_may_be_called_what_they_like() -> None:
    for path in ("a b", "é", "数据", "👩‍🔬", "$x", "a'b", "../x", "~", "<b>", "a\u00a0b"):
        check_folder(path, "output_root")


# --- the real command ---

_TYPED = [
    *("..x", "-rf", "<b>x", "a|b&c%d_e", "a'b", 'a"b', "a\\b", "a\nb", "\x1b[31mred", "\u202ex", "🙂"),
    *("x" * 200, "[red]", "a b", "$x$", "a,b", "sub/../x"),
]


@pytest.mark.thorough
@pytest.mark.fault(
    "choices of the user's own called ..x, -rf, <b>x, a newline, an escape sequence and the like",
    "a run of each: a folder in the output folder, and no control character on the terminal",
)
def test_own_choices_of_any_name(
    sslbench: Sslbench,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    tried: Tried,
    thorough: bool,
) -> None:
    names = _TYPED if thorough else _TYPED[:9]
    algorithms = tmp_path / "own" / "algorithm"
    (algorithms / "sub").mkdir(parents=True)
    for name in names:
        file = algorithms / f"{name}.yaml"
        file.write_text("_target_: sslbench.algorithms.supervised.Supervised\n", encoding="utf-8")
        quoted = name.replace("'", "\\'")
        assert sslbench("--config-dir", "own", *TINY, f"algorithm='{quoted}'") == 0, name
        out, _ = capfd.readouterr()
        assert not CONTROL.search(out), name
    made = sorted(path.name for path in (tmp_path / "outputs").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs", "own"]
    assert made
    assert all(name.isprintable() and not name.startswith((".", "-")) for name in made)
    tried(len(names))


@pytest.mark.thorough
@pytest.mark.fault(
    "a sweep over choices of the user's own with quotes, bars, markup and an escape sequence in their names",
    "each run has a folder in the output folder, and the terminal gets no control character",
)
def test_a_sweep_over_own_choices(
    sslbench: Sslbench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tried: Tried,
) -> None:
    names = ["a|b", "<b>", "a'b", "a\\b", "a\nb", "\x1b[31m", "a,b", "[red]", "..x", "-rf"]
    algorithms = tmp_path / "own" / "algorithm"
    algorithms.mkdir(parents=True)
    for name in names:
        text = "_target_: sslbench.algorithms.supervised.Supervised\n"
        (algorithms / f"{name}.yaml").write_text(text, encoding="utf-8")

    def finish(runner: LocalRunner, todo: Sequence[PlannedRun]) -> None:
        for run in todo:
            run.folder.mkdir(parents=True)
            write_result(run.folder, run.run_id)

    monkeypatch.setattr(LocalRunner, "run", finish)
    typed = ",".join("'" + name.replace("'", "\\'") + "'" for name in names)
    assert sslbench("--config-dir", "own", *TINY, f"algorithm={typed}", "-m") == 0
    out, err = capfd.readouterr()
    assert not CONTROL.search(out + err)
    folders = {path.name for path in (tmp_path / "outputs").iterdir()} - {"sweeps"}
    fronts = {name.split("-digits")[0] for name in folders}
    assert fronts == {file_name(f"{name}-digits").removesuffix("-digits") for name in names}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs", "own"]
    tried(len(names))


# --- W&B ---


@pytest.mark.thorough
@pytest.mark.fault(
    "logger.project, logger.entity and logger.tags of any text", "one line, or what W&B's own client takes"
)
def test_what_wandb_is_sent(settings_of: Callable[..., Settings], tried: Tried) -> None:
    import wandb

    settings = settings_of("logger=wandb")
    taken = 0
    for name in NAMES:
        for key, value in (("project", name), ("entity", name), ("tags", [name])):
            with suppress(UserError):
                logger = check(replace(settings, logger={**settings.logger, key: value})).logger
                assert isinstance(logger, WandbTracker)
                wandb.Settings(project=logger.project, entity=logger.entity, run_tags=logger.tags)
                taken += 1
    assert taken > len(NAMES)
    tried(3 * len(NAMES))
