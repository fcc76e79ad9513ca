"""Distances between predictions, and the entropy of one."""

from __future__ import annotations

from sslbench.losses.distances import ce, js, kl, l1, mse
from sslbench.losses.entropy import entropy

__all__ = ["ce", "entropy", "js", "kl", "l1", "mse"]
