"""Distances between predictions, the supervised loss, and the entropy of a prediction."""

from sslbench.losses.classification import cross_entropy, entropy, one_hot
from sslbench.losses.distances import ce, js, kl, l1, mse

__all__ = ["ce", "cross_entropy", "entropy", "js", "kl", "l1", "mse", "one_hot"]
