"""``resume=RUN_DIR``: the settings of an interrupted run, from its own folder."""

from pathlib import Path

from sslbench.config import saved
from sslbench.config.data_file import absolute
from sslbench.config.identity import PLACE
from sslbench.config.schema import Settings
from sslbench.config.trust import require_trusted_targets
from sslbench.errors import UserError

#: Keys that may be typed beside ``resume``: where and on what the run continues, and what it reports.
_FREE = {*PLACE} - {"output_root", "run_dir", "resume"}


def resumed(typed: Settings) -> Settings:
    """The saved settings of the run in the folder ``typed.resume``, with the typed values of what may change.

    Raises:
        UserError: the folder holds no run, or a typed key would make it another run.
    """
    if not typed.resume:
        raise UserError("resume= names no folder: give that of a run")
    folder = Path(typed.resume).expanduser().absolute()
    config_yaml = folder / "config.yaml"
    settings = saved.load(config_yaml)
    require_trusted_targets(settings, config_yaml, "type the command again that began the run")
    if "root" in settings.dataset:
        settings.dataset["download"] = False  # the author of the file says where it would be written
    for override in typed.overrides:
        key = override.partition("=")[0].lstrip("+~")
        group, _, rest = key.partition(".")
        if key == "resume":
            continue
        if group not in _FREE:
            raise UserError(
                f"resume={typed.resume} continues with the configuration that the run began with: leave out "
                f"{override}, or start another run"
            )
        if group == "logger":
            _take_logger(settings, typed, rest.partition(".")[0])
        else:
            setattr(settings, key, getattr(typed, key))
        if key == "data_root" and "root" in settings.dataset:
            settings.dataset["root"] = absolute(typed.data_root)
    settings.run_dir = str(folder)
    return settings


def _take_logger(settings: Settings, typed: Settings, argument: str) -> None:
    """Put the typed logger, or one typed argument of it, into `settings`."""
    if not argument:
        settings.logger, settings.choices["logger"] = typed.logger, typed.choices["logger"]
    elif settings.choices["logger"] == typed.choices["logger"]:
        settings.logger[argument] = typed.logger.get(argument)
    else:
        logger = settings.choices["logger"]
        raise UserError(f"the run began with logger={logger}: logger.{argument} needs logger=... before it")
