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
from sslbench.system.paths import relative
from sslbench.system.text import escape_control

if TYPE_CHECKING:
    from sslbench.report.compare.comparison import Comparison
    from sslbench.report.compare.curves import Curves

_TITLE = "Results"
# No file that a report reads has one of these, so that none is written over.
_ENDINGS = {
    "out": (".md", ".markdown"),
    "html": (".html", ".htm"),
    "figure": (".png", ".svg"),
    "csv": (".csv",),
    "table": (".csv",),
    "latex": (".tex",),
}
_INPUTS = ("beside", "note")


def _place(text: str) -> Path:
    if not text:  # of an empty variable; the path would be the working directory
        raise argparse.ArgumentTypeError("a folder has a name, and this is empty")
    return Path(text)


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
        type=_place,
        metavar="DIR_OR_RUN",
        help="searched for result.json, status.json and the plans of sweeps, at any depth",
    )
    parser.add_argument("--seeds", action="store_true", help="print a row for each run too")
    parser.add_argument(
        "--html", type=Path, metavar="FILE.html", help="write one page with tables and figures"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the whole report as markdown")
    parser.add_argument(
        "--figure",
        type=Path,
        metavar="FILE.png",
        help="draw accuracy over steps, a panel for each task (.png or .svg)",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE.csv", help="write one row per run")
    parser.add_argument("--table", type=Path, metavar="FILE.csv", help="write one row per configuration")
    parser.add_argument("--latex", type=Path, metavar="FILE.tex", help="write the summary for booktabs")
    parser.add_argument(
        "--title", default=_TITLE, metavar="TEXT", help="of the report, the page and the figure (%(default)s)"
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
    for option in ("out", "figure", "csv", "table", "latex", "html"):
        if path := getattr(args, option):
            words += [f"--{option}", relative(path)]
    if args.title != _TITLE:
        words += ["--title", args.title]
    for option in _INPUTS:
        if path := getattr(args, option):
            words += [f"--{option}", relative(path)]
    return escape_control(shlex.join(words))


def _check_paths(args: argparse.Namespace) -> None:
    for option, endings in _ENDINGS.items():
        path = getattr(args, option)
        if not path:
            continue
        target = Path(os.path.realpath(path))
        for name in (path, target):
            if name.suffix.lower() not in endings:
                through = "" if name == path else f", a link to {relative(target)}"
                raise UserError(f"--{option} must end in {' or '.join(endings)}, not {path.name}{through}")
        if os.path.lexists(target) and not os.path.isfile(target):  # noqa: PTH113 - raises nothing
            raise UserError(f"--{option} {relative(path)} is no ordinary file")
    for option in _INPUTS:
        if getattr(args, option) and not args.out:
            raise UserError(f"--{option} goes into the markdown report: give --out too")
    options = (*_ENDINGS, *_INPUTS)
    used = [os.path.realpath(path) for option in options if (path := getattr(args, option))]
    if len(set(used)) < len(used):
        names = ", ".join(f"--{option}" for option in options[:-1])
        raise UserError(f"{names} and --{options[-1]} must be different files")


def _read_note(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text") from error


def _write(path: Path, content: bytes) -> None:
    try:
        # Through a link, which stays one.
        write_atomically(Path(os.path.realpath(path)), lambda part: part.write_bytes(content))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _figure(args: argparse.Namespace, comparison: Comparison, curves: Curves) -> bytes:
    from sslbench.report.figures.figure_file import render_figure

    file_format = Path(os.path.realpath(args.figure)).suffix.lower().removeprefix(".")
    return render_figure(
        comparison.groups, curves.of, title=escape_control(args.title), file_format=file_format
    )


def _rendered(args: argparse.Namespace, comparison: Comparison) -> tuple[dict[Path, bytes], list[str]]:
    """The content of each file that was asked for, and every warning."""
    from sslbench.report.write.markdown import render_markdown
    from sslbench.report.write.published import read_published, render_beside

    note = _read_note(args.note) if args.note else ""
    published = read_published(args.beside) if args.beside else []
    title, command = escape_control(args.title), _command(args)
    files: dict[Path, bytes] = {}
    if args.figure or args.html:
        from sslbench.report.compare.curves import gather_curves

        curves = gather_curves(comparison.groups)
        warnings = [*comparison.warnings, *curves.warnings]
        if args.figure and not curves.of:
            warnings.append(f"{relative(args.figure)} is not written: no run has curves to draw")
        elif args.figure:
            files[args.figure] = _figure(args, comparison, curves)
        comparison = replace(comparison, warnings=warnings)
        if args.html:
            from sslbench.report.page import render_page

            page = render_page(comparison, curves, title=title, command=command, page=args.html)
            files[args.html] = page.encode()
    if args.csv or args.table or args.latex:
        from sslbench.report.write.tables import groups_csv, latex, runs_csv

        writers = {args.csv: runs_csv, args.table: groups_csv, args.latex: latex}
        files |= {path: writer(comparison).encode() for path, writer in writers.items() if path}
    if args.out:
        parts = [note, *([render_beside(published, comparison.groups)] if published else [])]
        text = "\n\n".join(part for part in parts if part)
        files[args.out] = render_markdown(comparison, title=title, command=command, note=text).encode()
    return files, comparison.warnings


def _report(args: argparse.Namespace) -> None:
    _check_paths(args)
    from sslbench.report.compare.comparison import compare
    from sslbench.report.read.find import find_runs
    from sslbench.report.write.terminal import show

    comparison = compare(find_runs(args.runs))
    # All is rendered before anything is written: an error leaves no half of a report.
    files, warnings = _rendered(args, comparison)
    # Written before anything is shown: whoever reads the table may stop reading.
    for path, content in files.items():
        _write(path, content)
    for line in warnings:
        print(f"sslbench-report: warning: {escape_control(line)}", file=sys.stderr)
    if sys.stdout is None:  # closed by whoever called
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
    except BrokenPipeError:  # whoever read the output has seen enough
        _silence()
        sys.exit(1)
    except UserError as error:
        print(f"sslbench-report: {escape_control(str(error))}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
