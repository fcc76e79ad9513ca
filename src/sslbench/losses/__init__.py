"""Distances between predictions, and the entropy of one."""

from __future__ import annotations

from sslbench.losses.distances import ce
from sslbench.losses.distances import js
from sslbench.losses.distances import kl
from sslbench.losses.distances import l1
from sslbench.losses.distances import mse
from sslbench.losses.entropy import entropy

__all__ = ["ce", "entropy", "js", "kl", "l1", "mse"]
