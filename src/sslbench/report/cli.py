"""The command ``sslbench-report``. Heavy libraries are imported where they are used: help stays fast."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sslbench.errors import UserError
from sslbench.files import write_atomically
from sslbench.report.beside import read_published, render_beside
from sslbench.report.markdown import ON_CHOICE, SUMMARY_COLUMNS, not_finished, render_markdown, summary_row
from sslbench.report.results import RunResult, find_runs, relative
from sslbench.report.summary import Group, group_runs, without_copies

_TITLE = "Results"
_FIGURE_FORMATS = (".png", ".svg")
_WIDTH_WITHOUT_TERMINAL = 220  # characters: a pipe has no width, and 80 would break the table's cells


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sslbench-report",
        description="Tables and figures from the result.json files of many runs, averaged over seeds.",
        epilog="Example: sslbench-report outputs --out results.md --figure results.png --csv results.csv",
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="DIR_OR_RUN", help="searched for result.json, at any depth"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the whole report as markdown")
    parser.add_argument(
        "--figure", type=Path, metavar="FILE.png", help="draw accuracy over steps (.png or .svg)"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE.csv", help="write one row per run")
    parser.add_argument(
        "--title", default=_TITLE, metavar="TEXT", help="of the report and the figure (%(default)s)"
    )
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="FILE.yaml",
        help="published numbers for --out to set beside the runs' (example: docs/results/notes/seeds.yaml)",
    )
    parser.add_argument(
        "--note", type=Path, metavar="FILE.md", help="prose that --out takes in unchanged, after the title"
    )
    return parser


def _command(args: argparse.Namespace) -> str:
    """The command line that makes the same files, with paths as seen from the working directory."""
    words = ["sslbench-report", *map(relative, args.runs)]
    for option in ("out", "figure", "csv"):
        if path := getattr(args, option):
            words += [f"--{option}", relative(path)]
    if args.title != _TITLE:
        words += ["--title", args.title]
    for option in ("beside", "note"):
        if path := getattr(args, option):
            words += [f"--{option}", relative(path)]
    return shlex.join(words)


def _check_paths(args: argparse.Namespace) -> None:
    if args.figure and args.figure.suffix.lower() not in _FIGURE_FORMATS:
        raise UserError(f"--figure must end in {' or '.join(_FIGURE_FORMATS)}, not {args.figure.name}")
    for option in ("note", "beside"):
        if getattr(args, option) and not args.out:
            raise UserError(f"--{option} goes into the markdown report: give --out too")
    used = [path.resolve() for path in (args.out, args.figure, args.csv, args.note, args.beside) if path]
    if len(set(used)) < len(used):
        raise UserError("--out, --figure, --csv, --note and --beside must be different files")


def _read_note(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text") from error


def _show(groups: Sequence[Group]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name, right in SUMMARY_COLUMNS:
        table.add_column(name, justify="right" if right else "left")
    for group in groups:
        # Text, so that a bracket in a name is not taken for markup.
        table.add_row(*map(Text, summary_row(group)))
    console = Console()
    (console if console.is_terminal else Console(width=_WIDTH_WITHOUT_TERMINAL)).print(table)


def _csv(runs: Sequence[RunResult]) -> str:
    import pandas as pd

    rows = []
    for run in runs:
        row = asdict(run)
        row["folder"] = relative(run.folder)
        row["overrides"] = json.dumps(run.overrides)
        for name in ("metrics_best", "metrics_last"):
            row[name] = json.dumps(row[name])
        rows.append(row)
    return pd.DataFrame(rows).to_csv(index=False)


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, lambda part: part.write_bytes(content))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    print(f"wrote {path}")


def _report(args: argparse.Namespace) -> None:
    _check_paths(args)
    note = _read_note(args.note) if args.note else ""
    runs, unfinished = find_runs(args.runs)
    runs, copies = without_copies(runs)
    groups = group_runs(runs)
    published = read_published(args.beside) if args.beside else []
    # All is rendered before anything is written: an error leaves no half of a report.
    files: dict[Path, bytes] = {}
    if args.out:
        parts = [note, *([render_beside(published, groups)] if published else [])]
        note = "\n\n".join(part for part in parts if part)
        text = render_markdown(groups, unfinished, title=args.title, command=_command(args), note=note)
        files[args.out] = text.encode()
    if args.figure:
        from sslbench.report.figure import render_figure

        file_format = args.figure.suffix.lower().removeprefix(".")
        files[args.figure] = render_figure(groups, title=args.title, file_format=file_format)
    if args.csv:
        files[args.csv] = _csv(runs).encode()
    _show(groups)
    print(ON_CHOICE)
    if copies:
        print(f"left out as copies: {', '.join(relative(run.folder) for run in copies)}")
    if unfinished:
        print(not_finished(unfinished))
    for path, content in files.items():
        _write(path, content)


def main(argv: list[str] | None = None) -> None:
    """Run ``sslbench-report``.

    Args:
        argv: the arguments; None for those of the process.

    Raises:
        SystemExit: with a message on stderr, code 1 for what the user can mend, 2 for wrong usage.
    """
    args = _parser().parse_args(argv)
    try:
        _report(args)
    except UserError as error:
        print(f"sslbench-report: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
