"""Which semi-supervised method works, on your labels, at your budget."""

__version__ = "0.1.0"
