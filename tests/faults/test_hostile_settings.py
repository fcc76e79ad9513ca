"""A ``config.yaml`` in a run folder that names what is not ours, or is no configuration at all."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.hostile import NOT_JSON, REFUSED, SECRET, Sentinel, odd_files, one_line, remove
from sslbench.cli.eval_command import main as evaluate
from sslbench.config import saved
from sslbench.config.schema import GROUPS, Settings

Tried = Callable[[int], None]
Refused = Callable[..., str]


def _with(settings: dict[str, Any], key: str, value: object) -> str:
    """The settings as YAML with another value at a dotted key."""
    other = copy.deepcopy(settings)
    *place, last = key.split(".")
    node = other
    for name in place:
        node = node[name]
    node[last] = value
    return yaml.safe_dump(other)


def _targets(sentinel: Sentinel) -> list[dict[str, Any]]:
    """Nodes that run code when they are built, or imported."""
    return [
        {"_target_": "os.system", "command": sentinel.command},
        {"_target_": "os:system", "command": sentinel.command},
        {"_target_": "subprocess.Popen", "args": ["touch", str(sentinel.path)]},
        {"_target_": "builtins.exec", "_args_": [f"open({str(sentinel.path)!r}, 'w')"]},
        {"_target_": "sslbench.cli.eval_command.sys.modules.popitem"},
        {"_target_": "hydra.utils.call", "config": {"_target_": "os.system", "command": sentinel.command}},
        {"_target_": "payload.Thing"},
        {"_target_": "payload.Thing", "_partial_": None},
        {"_target_": "payload.Thing", "_partial_": True, "_recursive_": True, "_convert_": "all"},
    ]


@pytest.fixture
def payload(tmp_path: Path, sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that need only be imported."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "payload.py").write_text(f"open({str(sentinel.path)!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path / "modules")


@pytest.mark.thorough
@pytest.mark.usefixtures("payload")
@pytest.mark.fault("a config.yaml whose _target_ runs code, at every place of it", REFUSED)
def test_targets(folder: Path, sentinel: Sentinel, refused: Refused, tried: Tried, thorough: bool) -> None:
    path = folder / "config.yaml"
    settings = yaml.safe_load(path.read_text())
    keys = [*GROUPS, "dataset.images", "dataset.facts", "algorithm.distance", "algorithm.weight"]
    keys += ["model.hidden", "loss.typical", "logger.more"]
    count = 0
    for target in _targets(sentinel):
        for key in keys if thorough or not count else ("algorithm",):
            for value in (target, [[target]], {"in": {"it": target}}) if "." in key else (target,):
                path.write_text(_with(settings, key, value))
                said = refused("--json")
                assert f"{key}" in said
                assert "--trust" in said
                count += 1
    ours = {
        "algorithm": {"_target_": "sslbench.data.sources.mnist", "root": str(folder), "download": True},
        "model": {"_target_": "torch.optim.Adam", "_partial_": True},
        "algorithm.distance": {"_target_": "sslbench.models.ConvGenerator", "_partial_": True},
        "algorithm._partial_": True,
        "dataset.images._partial_": True,
        "loss._partial_": "yes",
        "optimizer._partial_": None,
        "model._target_": ["os.system"],
        "schedule._target_": {"a": "\x1b[31m"},
        "logger._target_": None,
    }
    for key, value in ours.items():
        path.write_text(_with(settings, key, value))
        refused()
    tried(count + len(ours))


@pytest.mark.thorough
@pytest.mark.usefixtures("payload")
@pytest.mark.fault(
    "a config.yaml that is no configuration: tags, aliases, nesting, wrong types",
    "refused in one line, or of no effect; nothing of it is executed",
)
def test_texts(folder: Path, sentinel: Sentinel, refused: Refused, tried: Tried, thorough: bool) -> None:
    path = folder / "config.yaml"
    good = path.read_text()
    settings = yaml.safe_load(good)
    bomb = "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(20))
    merged = "".join(f"a{n + 1}: &a{n + 1}\n  <<: [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(20))
    texts = [
        f"!!python/object/apply:os.system ['{sentinel.command}']",
        good + f"more: !!python/object/apply:os.system ['{sentinel.command}']",
        good + f"more: !!python/object/new:subprocess.Popen [['touch', '{sentinel.path}']]",
        good + "more: !!python/module:payload",
        good + "more: !!python/name:payload.Thing",
        good + "more: !!python/object/apply:pathlib.WindowsPath [a]",
        good + "more: !!timestamp x",
        f"a0: &a0 [1]\n{bomb}",
        f"a0: &a0 {{b: 1}}\n{merged}",
        "a: &a [*a]",
        "{a: " * 50_000,
        "- " * 50_000,
        good + "steps: " + "9" * 5000,
        good + "steps: 0x" + "f" * 5000,
        good + "? [a]\n: 1",
        good + "1: 2",
        "a" * 2**20,
    ]
    wrong = ["x", "", None, 5, [], [{}], {}, {"a": 1}, 2.5e300, float("nan"), 2**70, "2024-01-01"]
    keys = [*GROUPS, "num_labels", "steps", "seed", "threads", "batch", "choices", "dataset.images"]
    keys += ["dataset.facts", "algorithm.distance", "model.hidden", "algorithm.weight"]
    for content in [*map(str.encode, texts), *NOT_JSON.values()]:
        path.write_bytes(content)
        refused()
    harmless = 0
    pairs = [(key, value) for key in keys for value in wrong][:: 1 if thorough else 11]
    for key, value in pairs:
        path.write_text(_with(settings, key, value))
        harmless += _evaluated_or_refused(folder)
        sentinel.check()
    assert harmless < 0.3 * len(pairs)
    for name in (*GROUPS, "choices", "num_labels", "batch", "steps"):
        path.write_text(yaml.safe_dump({key: value for key, value in settings.items() if key != name}))
        harmless += _evaluated_or_refused(folder)
    remove(path)
    for make in odd_files(path).values():
        make()
        assert "config.yaml" in refused()
        remove(path)
    tried(len(texts) + len(NOT_JSON) + len(pairs) + len(GROUPS) + 4 + len(odd_files(path)))


def _evaluated_or_refused(folder: Path) -> bool:
    """Whether the change makes no difference to an evaluation (a wrong schedule, say); never a traceback."""
    with pytest.raises(SystemExit) as stop:
        evaluate([str(folder), "--json"])
    if stop.value.code in (0, 1):
        return True
    one_line(str(stop.value.code), "sslbench-eval")
    return False


@pytest.mark.thorough
@pytest.mark.fault("a config.yaml with interpolations to the environment", "they stay text")
def test_interpolations(
    folder: Path, refused: Refused, tried: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "config.yaml"
    settings = yaml.safe_load(path.read_text())
    images = settings["dataset"]["images"]
    monkeypatch.chdir(folder)
    (folder / SECRET).touch()
    escapes = ["${oc.env:SECRET}", "\\${oc.env:SECRET}", "\\\\${oc.env:SECRET}", "\\\\\\${oc.env:SECRET}"]
    texts = [
        *escapes,
        "${oc.env:SECRET}${oc.env:SECRET}",
        "${oc.decode:${oc.env:SECRET}}",
        "$${oc.env:SECRET}",
    ]
    for text in texts:
        dataset = {"_target_": "sslbench.data.sources.npz", "path": text, "images": images}
        path.write_text(_with(settings, "dataset", dataset))
        assert f"{text}: No such file" in refused()
        for key in ("algorithm.weight", "algorithm.unknown", "steps", "algorithm._target_", "precision"):
            path.write_text(_with(settings, key, text))
            refused()
    for text in ("${steps}", "${", "${}", "${data_root:}", "${hydra:run.dir}", "${oc.create:{a: 1}}"):
        path.write_text(_with(settings, "steps", text))
        refused()
    tried(6 * len(texts) + 6)


def test_what_looks_like_an_interpolation_is_kept(trained: Settings, tmp_path: Path) -> None:
    texts = ["${a}", "\\${a}", "\\\\${a}", "split_seed=${seed}", "${", "a: 'b'", "\ud800", "1e-3", "a\nb\x1b"]
    settings = Settings(**{**vars(trained), "overrides": texts})
    (tmp_path / "config.yaml").write_text(saved.save(settings))
    assert saved.load(tmp_path / "config.yaml") == settings


def test_targets_of_our_own_are_built_when_trusted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_method.py").write_text("from sslbench.algorithms.pi_model import PiModel as Own\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = folder / "config.yaml"
    path.write_text(_with(yaml.safe_load(path.read_text()), "algorithm._target_", "own_method.Own"))
    with pytest.raises(SystemExit) as stop:
        evaluate([str(folder), "--json"])
    assert "algorithm._target_=own_method.Own does not come with sslbench" in str(stop.value.code)
    with pytest.raises(SystemExit) as stop:
        evaluate([str(folder), "--json", "--trust"])
    assert stop.value.code == 0
    assert json.loads(capsys.readouterr().out)["agrees"]


@pytest.mark.fault("a hostile config.yaml in the folder where a run is to train", REFUSED)
def test_folder_of_a_new_run(
    sslbench: Callable[..., int],
    folder: Path,
    sentinel: Sentinel,
    tried: Tried,
    capsys: pytest.CaptureFixture[str],
    thorough: bool,
) -> None:
    path = folder / "config.yaml"
    settings = yaml.safe_load(path.read_text())
    texts = [_with(settings, "algorithm", target) for target in _targets(sentinel)[:6]]
    texts += [_with(settings, "algorithm.distance", value) for value in ([1], "x", None)]
    texts += [f"!!python/object/apply:os.system ['{sentinel.command}']", "{a: " * 50_000, "a: &a [*a]"]
    texts = texts[:: 1 if thorough else 4]
    for text in texts:
        path.write_text(text)
        assert sslbench(f"run_dir={folder}", "logger=none", "device=cpu") == 1
        one_line(capsys.readouterr().err, "sslbench")
        sentinel.check()
    tried(len(texts))
