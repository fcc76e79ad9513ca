"""How thorough the tests are, and the table of what the tests marked ``fault`` have tried.

A fault test says in its marker what it does and what must hold, and tells how often it has done it:

    @pytest.mark.fault("SIGKILL at a random moment", "the same command ends with the undisturbed result")
    def test_...(tried: Callable[[int], None], thorough: bool) -> None:
        ...
        tried(25 if thorough else 3)

`make faults` runs them with ``--thorough`` and puts the table where ``--fault-table`` says. What is marked
``thorough`` is run only then: it costs much and finds little that a cheaper test of the same kind does not.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

_BEGIN, _END = "<!-- table of faults -->", "<!-- end of the table of faults -->"


@dataclass
class _Row:
    fault: str
    promise: str
    times: int = 0
    failed: bool = False
    skipped: bool = False

    def __str__(self) -> str:
        held = "**no**" if self.failed else "not tried" if self.skipped and not self.times else "yes"
        return f"| {self.fault} | {self.times} | {self.promise} | {held} |"


class FaultTable:
    """Collects the outcome of each fault test, from whichever worker ran it, and shows the table."""

    def __init__(self, target: Path | None) -> None:
        self._target = target
        self._rows: dict[tuple[str, str], _Row] = {}
        self._began = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in one phase of one test."""
        found = dict(report.user_properties)
        if "fault" not in found:
            return
        fault, promise = found["fault"]
        row = self._rows.setdefault((fault, promise), _Row(fault, promise))
        if report.when == "call" and report.passed:
            row.times += int(found.get("tried", 1))
        row.failed |= report.failed
        row.skipped |= report.skipped

    def lines(self) -> list[str]:
        """The table in Markdown, sorted, so that the order of the workers makes no difference."""
        head = ["| What was done | Times | What must hold | Held |", "| --- | ---: | --- | --- |"]
        return head + [str(row) for _, row in sorted(self._rows.items())]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, and write it where it is wanted."""
        if not self._rows:
            return
        terminalreporter.section("faults")
        for line in self.lines():
            terminalreporter.write_line(line)
        if self._target is not None:
            text = self._target.read_text(encoding="utf-8")
            before, rest = text.split(_BEGIN)
            after = rest.split(_END)[1]
            minutes = (time.monotonic() - self._began) / 60
            machine = f"{platform.system()}, Python {platform.python_version()}, {os.cpu_count()} CPU cores"
            where = f"`make faults` took {minutes:.1f} minutes ({machine})."
            middle = "\n".join(["", where, "", *self.lines(), ""])
            self._target.write_text(f"{before}{_BEGIN}\n{middle}\n{_END}{after}", encoding="utf-8")


def add_options(parser: pytest.Parser) -> None:
    """The options of thorough runs."""
    parser.addoption(
        "--thorough",
        action="store_true",
        help="also the tests marked thorough; fault tests try all they can",
    )
    parser.addoption("--fault-table", type=Path, help="fault tests: the document to put the table into")


def configure(config: pytest.Config) -> None:
    """Show the table at the end, in the process that prints."""
    thorough, target = config.getoption("--thorough"), config.getoption("--fault-table")
    if (thorough or target) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FaultTable(target), "fault-table")


def note(item: pytest.Item) -> None:
    """Skip what is only for a thorough look; let the report of a fault test carry what it is about."""
    if item.get_closest_marker("thorough") and not item.config.getoption("--thorough"):
        pytest.skip("only with --thorough (make faults)")
    marker = item.get_closest_marker("fault")
    if marker is not None:
        fault, promise = marker.args
        item.user_properties.append(("fault", (fault, promise)))


Tried = Callable[[int], None]
