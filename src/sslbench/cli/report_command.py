"""The command ``sslbench-report``. Heavy libraries are imported where they are used: help stays fast."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sslbench import __version__
from sslbench.errors import UserError
from sslbench.system.atomic_files import write_atomically
from sslbench.system.paths import relative, seen_from
from sslbench.system.safe_files import read_text
from sslbench.system.text import escape_control

if TYPE_CHECKING:
    from sslbench.report.compare.comparison import Comparison
    from sslbench.report.compare.curves import Curve

_TITLE = "Results"
# What each option writes, and the endings of its files. No file that a report reads has one of these, so
# that none is written over.
_FILES = {
    "out": ("write the whole report as markdown", (".md", ".markdown")),
    "figure": ("draw accuracy over steps, a panel for each task", (".png", ".svg")),
    "csv": ("write one row per run", (".csv",)),
    "table": ("write one row per configuration", (".csv",)),
    "latex": ("write the summary for booktabs", (".tex",)),
    "html": ("write one page with tables and figures", (".html", ".htm")),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sslbench-report",
        description="Tables, figures and a page from the results of many runs, averaged over seeds.",
        epilog="Example: sslbench-report outputs --html report.html --out results.md --csv results.csv",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="DIR_OR_RUN",
        help="searched for result.json, status.json and the plans of sweeps, at any depth",
    )
    parser.add_argument("--seeds", action="store_true", help="print a row for each run too")
    parser.add_argument(
        "--baseline",
        metavar="ALGORITHM",
        help="compare all others with this one (default: those without unlabelled images, of the same views)",
    )
    for option, (what, endings) in _FILES.items():
        parser.add_argument(f"--{option}", type=Path, metavar=f"FILE{endings[0]}", help=what)
    parser.add_argument(
        "--title", default=_TITLE, metavar="TEXT", help="of the report, the page and the figure (%(default)s)"
    )
    parser.add_argument(
        "--note", type=Path, metavar="FILE.md", help="prose that --out repeats unchanged after the title"
    )
    return parser


def _command(args: argparse.Namespace) -> str:
    """The command line that makes the same files, with paths as `relative` shows them."""
    words = ["sslbench-report", *map(relative, args.runs)]
    for option in (*_FILES, "note"):
        if path := getattr(args, option):
            words += [f"--{option}", relative(path)]
    if args.baseline is not None:
        words += ["--baseline", args.baseline]
    if args.title != _TITLE:
        words += ["--title", args.title]
    return escape_control(shlex.join(words))


def _check_paths(args: argparse.Namespace) -> None:
    for option, (_, endings) in _FILES.items():
        path = getattr(args, option)
        if not path:
            continue
        target = Path(os.path.realpath(path))  # files are written through links
        if target.suffix.lower() not in endings:
            raise UserError(f"--{option} must end in {' or '.join(endings)}, not {relative(target)}")
        if os.path.lexists(target) and not os.path.isfile(target):  # noqa: PTH113 - raises nothing
            raise UserError(f"--{option} {relative(path)} is no ordinary file")
    if args.note and not args.out:
        raise UserError("--note goes into the markdown report: give --out too")
    used = [os.path.realpath(path) for option in (*_FILES, "note") if (path := getattr(args, option))]
    if len(set(used)) < len(used):
        names = ", ".join(f"--{option}" for option in _FILES)
        raise UserError(f"{names} and --note must be different files")


def _write(path: Path, content: bytes) -> None:
    try:
        # Through a link, which stays one.
        write_atomically(Path(os.path.realpath(path)), lambda part: part.write_bytes(content))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _read(args: argparse.Namespace) -> tuple[Comparison, dict[int, Curve]]:
    """The runs compared, and their curves where a file needs them; all warnings are the comparison's."""
    from sslbench.report.compare.comparison import compare
    from sslbench.report.compare.curves import gather_curves
    from sslbench.report.read.find import find_runs

    comparison = compare(find_runs(args.runs), args.baseline)
    curves, warnings = gather_curves(comparison.groups) if args.figure or args.html else ({}, [])
    return replace(comparison, warnings=[*comparison.warnings, *warnings]), curves


def _content(
    option: str, args: argparse.Namespace, comparison: Comparison, curves: dict[int, Curve]
) -> str | bytes:
    """What the file of an option holds."""
    title, path = escape_control(args.title), getattr(args, option)
    if option == "figure":
        from sslbench.report.figures.figure_file import render_figure

        ending = Path(os.path.realpath(path)).suffix.lower().removeprefix(".")
        return render_figure(comparison.groups, curves, title=title, file_format=ending)
    if option == "html":
        from sslbench.report.page.render import render_page

        return render_page(comparison, curves, title=title, command=_command(args), page=path)
    if option == "out":
        from sslbench.report.write.markdown import render_markdown

        note = read_text(args.note).rstrip("\n") if args.note else ""
        return render_markdown(comparison, title=title, command=_command(args), note=note)
    if option == "latex":
        from sslbench.report.write.latex import latex

        return latex(comparison)
    from sslbench.report.write.csv_files import groups_csv, runs_csv

    return runs_csv(comparison) if option == "csv" else groups_csv(comparison)


def _rendered(
    args: argparse.Namespace, comparison: Comparison, curves: dict[int, Curve]
) -> dict[Path, bytes]:
    """The content of each file, whose paths are as seen from its folder.

    Warnings have their paths from when a run is read: where there are some, all is read again from there.
    """
    files: dict[Path, bytes] = {}
    seen: dict[Path, tuple[Comparison, dict[int, Curve]]] = {}
    for option in _FILES:
        path = getattr(args, option)
        if not path or (option == "figure" and not curves):
            continue
        with seen_from(path.parent):
            if path.parent not in seen:
                seen[path.parent] = _read(args) if comparison.warnings else (comparison, curves)
            content = _content(option, args, *seen[path.parent])
        files[path] = content if isinstance(content, bytes) else content.encode()
    return files


def _report(args: argparse.Namespace) -> None:
    _check_paths(args)
    from sslbench.report.write.terminal import show

    comparison, curves = _read(args)
    # All is rendered before anything is written: an error leaves no half of a report.
    files = _rendered(args, comparison, curves)
    # Written before anything is shown: the reader of the table may stop reading.
    for path, content in files.items():
        _write(path, content)
    for line in comparison.warnings:
        print(f"sslbench-report: warning: {escape_control(line)}", file=sys.stderr)
    if args.figure and args.figure not in files:
        reason = "is not written: no run has curves to draw"
        print(f"sslbench-report: warning: {relative(args.figure)} {reason}", file=sys.stderr)
    if sys.stdout is None:  # the caller closed it
        return
    try:
        show(comparison, seeds=args.seeds)
        for path in files:
            print(f"wrote {relative(path)}")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence()
        raise UserError(f"cannot write the table: {error.strerror}") from error


def _silence() -> None:
    """Python writes what is left when it ends, and complains if it cannot."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: list[str] | None = None) -> None:
    """Run ``sslbench-report``.

    Args:
        argv: the arguments; None for those of the process.

    Raises:
        SystemExit: with a message on stderr, code 1 for what the user can mend, 2 for wrong usage.
    """
    args = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack the letters of a name, and ±
            stream.reconfigure(errors="replace")
    try:
        _report(args)
    except BrokenPipeError:  # the reader of the output has ended
        _silence()
        sys.exit(1)
    except UserError as error:
        print(f"sslbench-report: {escape_control(str(error))}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
