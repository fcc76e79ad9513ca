"""Checks of single values of a configuration, without importing anything heavy."""

from operator import attrgetter

from sslbench.config.file_names import check_folder
from sslbench.config.identity import SEEDS
from sslbench.config.intervals import Interval
from sslbench.config.schema import Settings
from sslbench.errors import UserError, did_you_mean

_POSITIVE = (
    *("num_labels", "num_valid", "steps", "eval_every", "log_every"),
    *("batch.labelled", "batch.unlabelled", "jobs_per_gpu", "threads"),
)
#: More than a machine has cores; many more bring it down.
_MOST_THREADS = 1024
#: Of steps and the like: the last whole number that a float holds exactly.
_LARGEST = 2**53


def check_values(settings: Settings) -> None:
    """Raise a `UserError` that names a plain key with a wrong value, and the remedy."""
    for key in ("data_root", "output_root", "run_dir"):
        check_folder(getattr(settings, key) or "", key)
    for key in _POSITIVE:
        value = attrgetter(key)(settings)
        if value is None:
            continue
        if value < 1:
            raise UserError(f"{key}={value} must be at least 1")
        if value > (largest := _MOST_THREADS if key == "threads" else _LARGEST):
            raise UserError(f"{key} must be at most {largest}")
    facts = settings.dataset.get("facts", {})
    if not isinstance(facts, dict) or not all(isinstance(fact, int) and fact > 0 for fact in facts.values()):
        raise UserError("dataset.facts must be whole numbers of at least 1, by name")
    if "num_classes" in facts:  # of a well-known set: refused before it is loaded, or even downloaded
        from sslbench.data.splits import check_counts

        check_counts(settings.num_labels, settings.num_valid, facts["num_classes"], facts.get("num_train"))
    for key in SEEDS:
        if not 0 <= getattr(settings, key) < 2**32:
            raise UserError(f"{key}={getattr(settings, key)} must be from 0 to {2**32 - 1}")
    try:
        Interval.parse(settings.checkpoint_every)
    except ValueError as error:
        raise UserError(f"checkpoint_every={error}") from error
    if settings.resume is not None:
        raise UserError(
            "resume takes the folder of one run, and no sweep: to complete a sweep, type its command again"
        )
    for key, allowed in (("device", ("auto", "cpu", "cuda")), ("precision", ("auto", "fp32", "bf16"))):
        value = getattr(settings, key)
        if value not in allowed:
            hint = "; did you mean 'cuda'?" if value == "gpu" else did_you_mean(value, allowed)
            raise UserError(f"{key}={value} is not one of {', '.join(allowed)}{hint}")
