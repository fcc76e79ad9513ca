"""The commit that a result was computed with."""

import subprocess
from pathlib import Path


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, with ``-dirty`` if ``src`` or ``conf`` differ.

    None for an installed package, and without git.
    """
    checkout = Path(__file__).resolve().parents[3]
    if not (checkout / ".git").exists():
        return None
    try:
        commit = _git(checkout, "rev-parse", "HEAD")
        changed = _git(checkout, "status", "--porcelain", "--", "src", "conf")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("-dirty" if changed else "")


def _git(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", checkout, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
