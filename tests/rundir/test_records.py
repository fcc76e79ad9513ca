from __future__ import annotations

import pytest

from sslbench.rundir.records import balanced_accuracy, class_accuracies


def test_a_class_without_images_has_no_accuracy_and_does_not_count() -> None:
    accuracies = class_accuracies([[3, 1, 0], [0, 0, 0], [5, 1, 4]])
    assert accuracies == (0.75, None, 0.4)
    assert balanced_accuracy(accuracies) == pytest.approx((0.75 + 0.4) / 2)
