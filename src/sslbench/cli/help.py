"""What ``sslbench --help`` prints.

Written here and not through Hydra, which takes two seconds to list its groups.
"""

import textwrap
from pathlib import Path

from sslbench.config.schema import conf_dir
from sslbench.errors import UserError

_WIDTH = 100

_HEAD = """\
sslbench trains a semi-supervised image classifier and evaluates it.

Usage: sslbench [group=choice ...] [key=value ...]        -m: sweep over comma-separated values

Groups and their choices (group=choice; sslbench algorithm=vat --help explains the keys of a choice):
"""

_TAIL = """\

Plain keys (key=value), with their defaults:
  num_labels, num_valid       labelled and validation images (default: typical of the data set)
  seed=0                      all that is random, and by default which images are labelled
  split_seed=${seed}          which images are labelled; split_seed=0: the same for every seed
  steps=1000  eval_every=100  length of the run, steps between evaluations (log_every=50: losses)
  batch.labelled=50  batch.unlabelled=100
  device=auto|cpu|cuda  precision=auto|fp32|bf16  threads=N  deterministic=true
  weight_decay_on=kernels     no weight decay on biases and batch norm
  graph=true  compile=true    faster steps: recorded CUDA graphs, torch.compile
  checkpoint_every=60s        seconds (60s) or steps (500) between checkpoints
  profile=true                where the time of a step goes, in the run's folder
  data_root=DIR               default: $SSLBENCH_DATA, else the user's cache folder
  output_root=outputs  run_dir=DIR  labelled_in_unlabelled=true
  resume=DIR                  continue the run in this folder; so does the command that began it

Sweeps (-m, or sweep=PRESET): every combination of comma-separated values. The same command again
skips finished runs and continues interrupted ones.
  launcher=local|slurm|slurm_local|ray       side by side; default: one after the other
  retry_failed=true                          run again what failed before
  fail_fast=true  jobs_per_gpu=1             stop at the first failure; runs on one GPU at a time

Examples:
  sslbench                                          VAT on digits, which need no download
  sslbench algorithm=vat dataset=svhn               downloads SVHN on first use
  sslbench algorithm=fixmatch dataset=mnist strong=trivialaugment
  sslbench dataset=npz dataset.path=my.npz model=wrn_28_2 num_labels=100
  sslbench experiment=seeds/vat_mnist seed=1        a published setting, ready made
  sslbench -m algorithm=pi_model,vat loss=mse,l1,kl,js seed=0,1,2
  sslbench sweep=losses dataset=mnist launcher=local output_root=outputs/losses

Also: --cfg job prints the configuration without training; --config-dir DIR adds your own groups.

sslbench-eval RUN_DIR evaluates a finished run again; sslbench-report DIR compares runs.
Tab completion: eval "$(sslbench -sc install=bash)"
"""


def groups(folders: list[Path]) -> dict[str, list[str]]:
    """The groups in `folders` and their choices, each in alphabetical order, without Hydra's own groups.

    A choice may lie in a folder of its group: ``seeds/vat_mnist`` is one of the group ``experiment``.
    """
    found: dict[str, set[str]] = {}
    for folder in folders:
        for path in folder.glob("*/**/*.yaml"):
            group, *choice = path.relative_to(folder).with_suffix("").parts
            if group != "hydra":
                found.setdefault(group, set()).add("/".join(choice))
    return {group: sorted(found[group]) for group in sorted(found)}


def _choice_text(override: str, file: Path) -> str:
    """A choice as its file has it, whose comments say what each key means."""
    text = file.read_text(encoding="utf-8")
    group = "" if text.startswith("# @package _global_") else f"{override.partition('=')[0]}."
    return f"{override}; type {group}KEY=VALUE to change a key of it:\n\n{text}"


def help_text(overrides: list[str], config_dir: str | None) -> str:
    """The whole help; with overrides such as ``algorithm=vat``, the files of these choices in its place.

    Raises:
        UserError: the folder that ``--config-dir`` adds is not there.
    """
    folders = [conf_dir()]
    if config_dir is not None:
        added = Path(config_dir).absolute()
        if not added.is_dir():
            raise UserError(f"--config-dir {config_dir}: there is no such folder")
        folders.append(added)
    files = [(o, folder / f"{o.replace('=', '/', 1)}.yaml") for o in overrides for folder in folders]
    if chosen := [_choice_text(override, file) for override, file in files if file.is_file()]:
        return "\n".join(chosen)
    listed = groups(folders)
    column = max(map(len, listed)) + 2
    lines = [
        textwrap.fill(
            ", ".join(choices),
            _WIDTH,
            initial_indent=f"  {group:<{column}}",
            subsequent_indent=" " * (column + 2),
            break_on_hyphens=False,
        )
        for group, choices in listed.items()
    ]
    return _HEAD + "\n".join(lines) + "\n" + _TAIL
