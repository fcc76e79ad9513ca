"""Real W&B runs without a network, read back with W&B's own reader."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from omegaconf import OmegaConf
from PIL import Image
from wandb.sdk.mailbox import MailboxClosedError

from helpers.wandb_files import log_out, points_of, records_of, summary_of
from sslbench.config.schema import conf_dir
from sslbench.errors import UserError
from sslbench.tracking import RunInfo, WandbTracker

MakeRun = Callable[..., RunInfo]

NOT_LOGGED_IN = "Not logged in to W&B: logging offline into {folder}; upload afterwards with `wandb sync`"


@pytest.fixture(autouse=True)
def _logged_out(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    log_out(monkeypatch, tmp_path_factory.mktemp("home"))
    yield
    wandb.teardown()


def curve(run_dir: Path, key: str) -> list[tuple[int, float]]:
    return [(point["step"], point[key]) for point in points_of(run_dir) if key in point]


def test_a_run_reads_back_as_it_was_logged(
    make_run: MakeRun, tmp_path: Path, result: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    tracker = WandbTracker(project="study", entity="team", mode="offline", tags=["mine", "digits"])
    tracker.start(run)
    for step in range(5, 105, 5):
        metrics = {"train/loss": 1 / step, "images_seen": 64 * step}
        tracker.log(
            step, metrics | ({"val/acc": step / 200, "test/acc": step / 300} if step % 25 == 0 else {})
        )
    tracker.close("finished", result)

    seen = summary_of(tmp_path)
    assert seen["config"] == run.config
    assert seen["config"]["algorithm"]["views"] == ["weak", "weak"]
    assert re.fullmatch(rf"{re.escape(run.run_id)}-[0-9a-f]{{8}}", seen["run_id"])
    assert seen["name"] == run.name
    assert (seen["project"], seen["entity"]) == ("study", "team")
    assert sorted(seen["tags"]) == ["100 labels", "digits", "mine", "pi_model"]
    assert (seen["state"], seen["exit_code"]) == ("finished", 0)
    assert {key: value for key, value in seen["summary"].items() if not key.startswith("_")} == {
        "step": 100,
        "images_seen": 6400,
        "train/loss": 0.01,
        "val/acc": 0.5,
        "test/acc": pytest.approx(1 / 3),
        "best/val_acc": 0.9375,
        "best/step": 75,
        "best/test_acc": 0.92125,
        "best/test_ece": 0.0321,
        "final/test_acc": 0.91,
        "final/test_acc_median20": 0.915,
        "final/train_seconds": 83.4,
        "final/steps_per_second": 1.2,
    }

    [written] = records_of(tmp_path, "run")
    assert (written["run_group"], written["job_type"]) == (run.group, "train")
    assert curve(tmp_path, "train/loss") == [(step, 1 / step) for step in range(5, 105, 5)]
    assert curve(tmp_path, "val/acc") == [(step, step / 200) for step in (25, 50, 75, 100)]
    star = [metric for metric in records_of(tmp_path, "metric") if metric.get("glob_name") == "*"]
    assert [metric["step_metric"] for metric in star] == ["step"]

    [folder] = (tmp_path / "wandb").glob("offline-run-*")
    assert capsys.readouterr().out == f"W&B: upload with `wandb sync {folder}`\n"


def test_the_clients_environment_counts_unless_the_configuration_says_otherwise(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"PROJECT": "of the shell", "ENTITY": "lab", "TAGS": "night,long", "NOTES": "third try"}
    for name, value in variables.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for folder, tracker in {
        "environment": WandbTracker(mode="offline", tags=["mine"]),
        "configuration": WandbTracker(project="study", entity="team", mode="offline"),
    }.items():
        (tmp_path / folder).mkdir()
        tracker.start(make_run(run_dir=tmp_path / folder))
        tracker.log(1, {"train/loss": 1.0})
        tracker.close("interrupted", None)
    seen = summary_of(tmp_path / "environment")
    assert (seen["project"], seen["entity"]) == ("of the shell", "lab")
    assert sorted(seen["tags"]) == ["100 labels", "digits", "long", "mine", "night", "pi_model"]
    [written] = records_of(tmp_path / "environment", "run")
    assert written["notes"] == "third try"
    seen = summary_of(tmp_path / "configuration")
    assert (seen["project"], seen["entity"]) == ("study", "team")


def test_without_a_project_it_is_sslbench(make_run: MakeRun, tmp_path: Path) -> None:
    tracker = WandbTracker(mode="offline")
    tracker.start(make_run())
    tracker.close("finished", None)
    assert summary_of(tmp_path)["project"] == "sslbench"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_logged(make_run: MakeRun, tmp_path: Path, channels: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 4, channels), dtype=np.uint8)
    tracker = WandbTracker(mode="offline")
    tracker.start(make_run())
    tracker.log(5, {"train/loss": 0.5})
    tracker.log_image(5, "generated", picture)
    tracker.close("finished", None)
    [path] = (tmp_path / "wandb").glob("offline-run-*/files/media/images/generated_*.png")
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image).reshape(picture.shape), picture)
    assert curve(tmp_path, "generated.path") == [(5, f"media/images/{path.name}")]
    assert curve(tmp_path, "train/loss") == [(5, 0.5)]
    assert len(points_of(tmp_path)) == 1


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_run_that_did_not_finish_is_marked(make_run: MakeRun, tmp_path: Path, status: str) -> None:
    tracker = WandbTracker(mode="offline")
    tracker.start(make_run())
    tracker.log(5, {"train/loss": float("nan")})
    tracker.close(status, None)
    seen = summary_of(tmp_path)
    assert seen["exit_code"] == 1
    assert not [key for key in seen["summary"] if key.startswith(("best/", "final/"))]


def test_not_logged_in_is_said_once(
    make_run: MakeRun, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_run(run_dir=tmp_path / "two words")
    run.run_dir.mkdir()
    tracker = WandbTracker()
    tracker.start(run)
    tracker.log(5, {"train/loss": 0.5})
    tracker.close("finished", None)
    out, err = capfd.readouterr()
    [folder] = (run.run_dir / "wandb").glob("offline-run-*")
    assert out.splitlines() == [
        NOT_LOGGED_IN.format(folder=run.run_dir / "wandb"),
        f"W&B: upload with `wandb sync '{folder}'`",
    ]
    assert err == ""


def test_online_without_a_login_is_refused(make_run: MakeRun) -> None:
    with pytest.raises(UserError, match="wandb login"):
        WandbTracker(mode="online").start(make_run())


def test_offline_by_environment_needs_no_login(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracker = WandbTracker()
    tracker.start(make_run())
    tracker.close("finished", None)
    assert summary_of(tmp_path)["state"] == "finished"
    assert "Not logged in" not in capsys.readouterr().out


def test_disabled_by_environment_writes_nothing(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tracker = WandbTracker()
    tracker.start(make_run())
    tracker.log(5, {"train/loss": 0.5})
    tracker.close("finished", None)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == "W&B: off (its mode is set to disabled)\n"


@pytest.mark.parametrize("mode", ["auto", "online"])
def test_without_a_network_the_run_goes_on_offline(
    make_run: MakeRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mode: str,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    tracker = WandbTracker(mode=mode)
    tracker.start(make_run())
    tracker.log(5, {"train/loss": 0.5})
    tracker.close("finished", None)
    assert curve(tmp_path, "train/loss") == [(5, 0.5)]
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("W&B: cannot go online (")
    assert first.endswith(f"; logging offline into {tmp_path / 'wandb'}")
    assert last.startswith("W&B: upload with `wandb sync ")


def test_a_key_of_the_wrong_form_is_no_reason_to_stop(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    tracker = WandbTracker()
    tracker.start(make_run())
    tracker.close("finished", None)
    assert summary_of(tmp_path)["state"] == "finished"
    assert "WANDB_API_KEY" in capsys.readouterr().out


def test_a_resumed_offline_run_holds_the_whole_curve(make_run: MakeRun, tmp_path: Path) -> None:
    history = [{"step": step, "train/loss": 1 / step, "images_seen": 64 * step} for step in (10, 20, 30)]
    tracker = WandbTracker(mode="offline")
    tracker.start(make_run(first_step=30, history=history))
    tracker.log(40, {"train/loss": 7.0})
    tracker.close("finished", None)
    assert curve(tmp_path, "train/loss") == [(10, 1 / 10), (20, 1 / 20), (30, 1 / 30), (40, 7.0)]
    assert curve(tmp_path, "images_seen") == [(10, 640), (20, 1280), (30, 1920)]


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MailboxClosedError()])
def test_an_error_of_the_client_ends_only_the_logging(
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    pictures: bool,
) -> None:
    tracker = WandbTracker(mode="offline")
    tracker.start(make_run())

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(wandb.run, "log", fail)
    for step in (5, 10):
        if pictures:
            tracker.log_image(step, "generated", np.zeros((2, 2, 1), dtype=np.uint8))
        tracker.log(step, {"train/loss": 0.5})
    tracker.close("finished", None)
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("W&B: stopped (")
    assert wandb.run is None, "or the next run of this process would not find a login"


KILL_THE_CLIENT = """
import os, signal, subprocess, sys, time
from pathlib import Path
from sslbench.tracking import RunInfo, WandbTracker

def run(name):
    folder = Path(sys.argv[1]) / name
    folder.mkdir()
    return RunInfo(name, name, "group", [], {}, folder, 10, 0)

tracker = WandbTracker(mode="offline")
tracker.start(run("killed"))
tracker.log(1, {"train/loss": 0.5})
pids = subprocess.run(["pgrep", "-P", str(os.getpid()), "wandb-core"], capture_output=True, text=True).stdout
for pid in pids.split():
    os.kill(int(pid), signal.SIGKILL)
time.sleep(0.5)
for step in range(2, 5):
    tracker.log(step, {"train/loss": 0.5})
tracker.close("finished", None)
print("trained", flush=True)
tracker = WandbTracker(mode="offline")
tracker.start(run("next"))
tracker.log(1, {"train/loss": 0.25})
tracker.close("finished", None)
"""


@pytest.mark.skipif(shutil.which("pgrep") is None, reason="needs pgrep")
def test_a_dead_client_ends_neither_the_run_nor_the_sweep(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILL_THE_CLIENT, str(tmp_path)], check=True, capture_output=True, text=True
    )
    stopped, trained, upload = ended.stdout.splitlines()
    assert stopped.startswith("W&B: stopped (")
    assert trained == "trained"
    assert upload.startswith("W&B: upload with `wandb sync ")
    assert curve(tmp_path / "next", "train/loss") == [(1, 0.25)]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ({"mode": "ofline"}, "did you mean 'offline'"),
        ({"mode": None}, "auto, online, offline"),
        ({"project": "a/b"}, "without any of"),
        ({"project": ""}, r"logger\.project"),
        ({"tags": "mine"}, r"logger\.tags=\[mine\]"),
        ({"tags": ["x" * 65]}, "1 to 64 characters"),
    ],
)
def test_wrong_arguments_name_the_remedy(arguments: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        WandbTracker(**arguments)


def test_only_a_started_run_imports_the_client() -> None:
    script = """
import sys
from sslbench.tracking import NullTracker, WandbTracker
WandbTracker()
NullTracker().close("finished", None)
assert "wandb" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_configuration_gives_the_defaults() -> None:
    arguments: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "logger" / "wandb.yaml"))
    assert arguments.pop("_target_") == "sslbench.tracking.WandbTracker"
    tracker = WandbTracker(**arguments)
    assert vars(tracker) == vars(WandbTracker())
    assert arguments.keys() == {key for key in vars(tracker) if not key.startswith("_")}


def test_a_folder_keeps_its_id_and_a_new_one_gets_its_own(make_run: MakeRun, tmp_path: Path) -> None:
    ids = []
    # The last but one was killed before its first checkpoint.
    for first_step, folder in ((0, "one"), (10, "one"), (0, "one"), (0, "other")):
        (tmp_path / folder).mkdir(exist_ok=True)
        tracker = WandbTracker(mode="offline")
        tracker.start(make_run(first_step=first_step, run_dir=tmp_path / folder))
        ids.append((tmp_path / folder / "wandb" / "run-id.txt").read_text())
        tracker.close("finished", None)
    assert ids[0] == ids[1] == ids[2] != ids[3]
