"""Weights & Biases. The only file that knows the client, and it imports it when a run starts, not before."""

from __future__ import annotations

import contextlib
import inspect
import os
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from sslbench.errors import UserError, did_you_mean, in_one_line
from sslbench.system.atomic_files import write_text_atomically
from sslbench.system.text import ellipsize, escape_control
from sslbench.tracking.tracker import RunInfo

if TYPE_CHECKING:
    import wandb

_MODES = ("auto", "online", "offline")

#: W&B's summary keys and the fields of ``result.json`` that they show.
_SUMMARY = {
    "best/val_acc": "val_acc_best",
    "best/step": "step_best",
    "best/test_acc": "test_acc",
    "best/test_balanced_acc": "test_balanced_acc",
    "best/test_class_acc": "test_class_acc",
    "best/test_confusion": "test_confusion",
    "best/test_ece": "test_ece",
    "final/test_acc": "test_acc_last",
    "final/test_acc_median20": "test_acc_median20",
    "final/train_seconds": "train_seconds",
    "final/steps_per_second": "steps_per_second",
}

#: Without a network the client's own limit of 90 s would be waited for at the start of each run of a sweep.
_INIT_SECONDS = 30.0
#: The client's own limit is none: a network lost at the end would hold up the sweep for ever.
_FINISH_SECONDS = 300.0

#: Characters that W&B takes.
_LONGEST_NAME, _LONGEST_TAG = 128, 64


@final
class WandbTracker:
    """Shows the run on W&B, and never stops training.

    W&B shows what ``metrics.jsonl`` holds: when the client fails during a run, one line says so and training
    continues. All curves are drawn over ``step``.

    A resumed run keeps its id, and W&B has each of its points once. The client takes no step that is
    not beyond the last one that W&B has. So points are logged under their own step, a resumed run logs its
    whole history again, and what W&B has is left out. The history mends what was lost: the client sends only
    every 15 s, the newest point only after the next, and it dies with the run. Points that are trained again
    and left out are equal to those that W&B has. Offline, and under an id that is new at W&B, the whole
    history is logged: the newest offline folder holds all curves. Earlier pictures stay in ``pictures/``.

    Offline, the client does not learn of the resumption: an upload would number the steps that W&B has anew,
    instead of leaving them out.

    Started by an agent of a W&B sweep, a run takes the id, project and entity that the agent gives it: under
    any other id it would not belong to the sweep.

    Attributes:
        project: W&B project, created when missing; by default ``WANDB_PROJECT``, else ``sslbench``.
        entity: W&B user or team; by default ``WANDB_ENTITY``, else the one that the login names.
        mode: ``auto`` (online when logged in, else offline; WANDB_MODE is respected), ``online`` or
            ``offline``.
        tags: added to the run's own tags and those of ``WANDB_TAGS``. The notes are those of ``WANDB_NOTES``.
    """

    def __init__(
        self,
        project: str | None = None,
        entity: str | None = None,
        mode: str = "auto",
        tags: Sequence[str] = (),
    ) -> None:
        if mode not in _MODES:
            raise ValueError(
                f"logger.mode={mode!r}: use one of {', '.join(_MODES)}{did_you_mean(str(mode), _MODES)}"
            )
        for key, name in {"project": project, "entity": entity}.items():
            if name is not None and not _is_name(name):
                raise ValueError(
                    f"logger.{key}={name!r}: use a name of at most {_LONGEST_NAME} printable "
                    f"characters, without any of / \\ # ? % :"
                )
        if isinstance(tags, str):
            raise ValueError(f"logger.tags={tags!r}: write a list, logger.tags=[{tags}]")
        if wrong := [tag for tag in tags if not tag.strip() or len(tag) > _LONGEST_TAG]:
            raise ValueError(f"logger.tags={wrong}: a W&B tag has 1 to {_LONGEST_TAG} characters")
        self.project, self.entity, self.mode, self.tags = project, entity, mode, tuple(tags)
        self._run: wandb.Run | None = None
        self._offline = False

    def start(self, run: RunInfo) -> None:
        """Open the W&B run.

        Raises:
            UserError: ``mode=online`` without a login.
        """
        folder = run.run_dir / "wandb"
        try:
            mode = self._choose_mode(folder)
            if mode == "online":
                self._run = self._init(run, mode)
                print(f"W&B: {self._run.url}", flush=True)
        except UserError:
            raise
        except Exception as error:
            print(f"W&B: cannot go online ({in_one_line(error)}); logging offline into {folder}", flush=True)
            _reset_client()  # the failed attempt still holds the run id
            mode = "offline"
        if mode == "offline":
            with self._without_failing():
                self._offline = True
                self._run = self._init(run, mode)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        with self._without_failing():
            _log(self._run, {"step": step, **metrics})

    def log_image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        if self._run is None:
            return
        import wandb

        with self._without_failing():
            _log(self._run, {"step": step, name: wandb.Image(image)})

    def close(self, status: str, result: Mapping[str, Any] | None) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        upload = f"`wandb sync {shlex.quote(str(Path(run.dir).parent))}`"
        try:
            if result is not None:
                run.summary.update({k: result[f] for k, f in _SUMMARY.items() if result.get(f) is not None})
            run.finish(exit_code=0 if status == "finished" else 1)
        except Exception as error:
            print(f"W&B: not all is uploaded ({in_one_line(error)}); try {upload}", flush=True)
            _reset_client()
        else:
            if self._offline:
                print(f"W&B: upload with {upload}", flush=True)

    def _choose_mode(self, folder: Path) -> Literal["online", "offline", "disabled"]:
        settings = _quiet_client()
        if self.mode == "offline" or (self.mode == "auto" and settings.mode in ("offline", "dryrun")):
            return "offline"
        if self.mode == "auto" and settings.mode == "disabled":
            print("W&B: off (its mode is set to disabled)", flush=True)
            return "disabled"
        if _logged_in():
            return "online"
        if self.mode == "online":
            raise UserError(
                "logger.mode=online: not logged in to W&B; run `wandb login`, or use logger.mode=auto"
            )
        print(
            f"Not logged in to W&B: logging offline into {folder}; upload afterwards with `wandb sync`",
            flush=True,
        )
        return "offline"

    def _init(self, run: RunInfo, mode: Literal["online", "offline"]) -> wandb.Run:
        import wandb

        client = _quiet_client()
        in_sweep = client.sweep_id is not None
        # In the folder and not in the checkpoint: a run that was killed before its first one trains the same
        # again, and is not to leave the beginning of its curves behind at W&B.
        id_file = run.run_dir / "wandb" / "run-id.txt"
        # The run id alone would not do: it is the same for everyone who trains this configuration, and after
        # the folder was deleted, so that W&B would append to curves of another run.
        run_id = id_file.read_text().strip() if id_file.is_file() else f"{run.run_id}-{secrets.token_hex(4)}"
        tags = (*run.tags, *(client.run_tags or ()), *self.tags)
        # The program is what the dashboard shows as the run's command, with the process's arguments.
        settings: dict[str, Any] = {"silent": True, "console": "off", "program": "sslbench"}
        if "WANDB_INIT_TIMEOUT" not in os.environ:
            settings["init_timeout"] = _INIT_SECONDS
        if "WANDB_FINISH_TIMEOUT" not in os.environ:
            settings |= {"finish_timeout": _FINISH_SECONDS, "finish_timeout_raises": True}
        opened = wandb.init(
            project=None if in_sweep else self.project or client.project or "sslbench",
            entity=None if in_sweep else self.entity,
            id=None if in_sweep else run_id,
            name=run.name,
            group=run.group,
            job_type="train",
            tags=list(dict.fromkeys(ellipsize(escape_control(tag), _LONGEST_TAG) for tag in tags)),
            config=dict(run.config),
            dir=run.run_dir,
            mode=mode,
            resume="allow" if mode == "online" else None,
            reinit="finish_previous",
            settings=wandb.Settings(**settings),
        )
        opened.define_metric("step")
        opened.define_metric("*", step_metric="step")
        _keep_nodes(opened, run.config)
        id_file.parent.mkdir(exist_ok=True)
        write_text_atomically(id_file, opened.id + "\n")
        for point in run.history:
            _log(opened, point)
        return opened

    @contextlib.contextmanager
    def _without_failing(self) -> Iterator[None]:
        """Stop logging in place of what the block raises: the client's own process may have died, say."""
        try:
            yield
        except Exception as error:
            self._run = None
            print(f"W&B: stopped ({in_one_line(error)}); training and metrics.jsonl go on", flush=True)
            _reset_client()


def _keep_nodes(opened: wandb.Run, config: Mapping[str, Any]) -> None:
    """Keep below ``resolved`` the nodes that the choices of a W&B sweep have displaced.

    The client puts the parameters of a sweep over the configuration and locks them, so that ``algorithm`` is
    ``vat`` and not its arguments. It must stay so: by these values the sweep knows which runs it has had.
    """
    shown: Any = opened.config
    nodes = {key: value for key, value in config.items() if isinstance(value, Mapping)}
    displaced = {key: node for key, node in nodes.items() if not isinstance(shown.get(key), Mapping)}
    if displaced:
        shown.update({"resolved": displaced}, allow_val_change=True)


def _log(opened: wandb.Run | None, point: Mapping[str, Any]) -> None:
    """Log `point` unless W&B has its step already: the client would drop it too, with a warning each."""
    step = int(point["step"])
    if opened is not None and step >= opened.starting_step:
        opened.log(dict(point), step=step)


def _quiet_client() -> wandb.Settings:
    """The client's settings as environment and files give them, with its own messages turned off.

    ``silent`` is also given to each run, but what the client prints outside a run obeys only this one.
    """
    import wandb

    return wandb.setup(wandb.Settings(silent=True)).settings


def _logged_in() -> bool:
    """Whether the client has credentials, found without a network and without asking for them."""
    import wandb

    if "prompt" in inspect.signature(wandb.login).parameters:
        return wandb.login(prompt=False, verify=False)
    return bool(wandb.api.api_key)  # how clients before that parameter answer; newer ones warn of it


def _reset_client() -> None:
    """Forget a client that failed, so that the next run of a sweep begins with a new one."""
    import wandb

    # Stopping a client that has died raises in its turn, or even exits with the dead process's code.
    with contextlib.suppress(SystemExit, Exception):
        wandb.teardown()
    wandb.run = None  # left behind, it would be taken for an open run, in which no login is looked for


def _is_name(text: str) -> bool:
    """Whether W&B takes it for a project or an entity, which are parts of addresses."""
    short = 0 < len(text.strip()) <= len(text) <= _LONGEST_NAME
    return short and text.isprintable() and not set(text) & set("/\\#?%:")
