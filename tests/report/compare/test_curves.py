from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.report_runs import MakeRun, metrics
from sslbench.errors import UserError
from sslbench.report.compare.curves import Curve, gather_curves, read_curves
from sslbench.report.compare.groups import group_runs
from sslbench.report.read.find import find_runs
from sslbench.rundir.parsing import load_result


def _gather() -> tuple[dict[int, Curve], list[str]]:
    return gather_curves(group_runs(find_runs([Path("runs")]).runs))


def test_the_later_line_of_a_step_counts(make_run: MakeRun) -> None:
    folder = make_run(steps=300, test_acc_last=0.4)
    (folder / "metrics.jsonl").write_text(metrics([0.1, 0.2, 0.3], 300) + metrics([0.15, 0.4], 300))
    curves = read_curves(load_result(folder / "result.json"))
    assert {step: test for step, (test, _) in curves.items()} == {100: 0.1, 150: 0.15, 200: 0.2, 300: 0.4}


def test_mean_and_band_over_the_steps_that_all_runs_have(make_run: MakeRun) -> None:
    for seed, accs in enumerate([(0.1, 0.3, 0.5, 0.9), (0.2, 0.6), (0.3, 0.4, 0.4, 0.8)]):
        (make_run("vat", seed, test_acc_last=accs[-1]) / "metrics.jsonl").write_text(metrics(accs))
    found, warnings = _gather()
    curve = found[1]
    assert warnings == []
    assert curve.n == 3
    np.testing.assert_array_equal(curve.steps, [1000, 2000])
    np.testing.assert_allclose(curve.mean, [30, 230 / 3])
    np.testing.assert_allclose(curve.low, [20, 60])
    np.testing.assert_allclose(curve.high, [40, 90])
    np.testing.assert_allclose(curve.valid, [29, 227 / 3])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        (b"", "has no step with"),
        (b'{"step": 0, "val/acc": 0.1, "test/acc": 0.1}\n{"step"\n{}', "line 2: not a log point"),
        (b'{"step": 0, "val/acc": 0.1, "test/acc": null}\n', "has no step with test/acc and val/acc"),
        (b'{"step": 0, "train/loss": 0.1}\n', "has no step with test/acc and val/acc"),
        (b'{"step": 1e400, "val/acc": 0.1, "test/acc": 0.1}\n{}\n', "line 1: not a log point"),
        (b'{"step": true, "val/acc": 0.1, "test/acc": 0.1}\n{}\n', "line 1: not a log point"),
        (b'{"step": 0, "val/acc": NaN, "test/acc": 0.1}\n{}\n', "line 1: not a log point"),
        (b'{"step": 0, "val/acc": 7, "test/acc": 0.1}\n{}\n', "line 1: not a log point"),
        (b'{"step": 0, "val/acc": -0.1, "test/acc": 0.1}\n{}\n', "line 1: not a log point"),
        (b'{"step": 0, "val/acc": "x", "test/acc": 0.1}\n{}\n', "line 1: not a log point"),
        (b'{"step": ' + 5000 * b"9" + b"}\n{}\n", "line 1: not a log point"),
        (100_000 * b"[" + b"\n{}\n", "line 1: not a log point"),
        (b"\xff\n", "metrics.jsonl is not"),
        (metrics([0.5, 0.898]).encode() + b'{"step": 20', "line 5: not a log point"),
        (metrics([0.5, 0.898]).encode()[:-20], "line 4: not a log point"),
        (
            metrics([0.5, 0.898], 4000)[: len(metrics([0.5], 2000))].encode(),
            "is 0.5, but 0.898 in result.json",
        ),
        (metrics([0.5, 0.898], 1900).encode(), "the last evaluation is that of step 1900, not of step 2000"),
        (metrics([0.5, 0.898], 2100).encode(), "the last evaluation is that of step 2100, not of step 2000"),
        (metrics([0.5, 0.898001]).encode(), "the last test/acc is 0.898001, but 0.898 in result.json"),
    ],
)
def test_damaged_metrics_leave_the_run_out_with_a_warning(
    make_run: MakeRun, content: bytes | None, message: str
) -> None:
    make_run("vat", 0)
    path = make_run("vat", 1) / "metrics.jsonl"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    found, warnings = _gather()
    assert found[1].n == 1
    (warning,) = warnings
    assert message in warning
    assert path.as_posix() in warning
    assert "\n" not in warning
    with pytest.raises(UserError, match=message):
        read_curves(load_result(path.with_name("result.json")))


def test_runs_without_a_common_step_have_no_curve(make_run: MakeRun) -> None:
    make_run("vat", 0)
    path = make_run("vat", 1, steps=7, test_acc_last=0.1) / "metrics.jsonl"
    path.write_text('{"step": 7, "val/acc": 0.1, "test/acc": 0.1}\n')
    found, warnings = _gather()
    assert found == {}
    assert "no step was evaluated in all of its runs" in warnings[0]


def test_a_log_without_its_last_newline_and_one_of_rounded_numbers_are_whole(make_run: MakeRun) -> None:
    path = make_run("vat", 0, test_acc_last=0.1 + 0.2) / "metrics.jsonl"
    path.write_text(metrics([0.1, 0.3]).rstrip("\n"))
    found, warnings = _gather()
    assert warnings == []
    assert found[1].n == 1
