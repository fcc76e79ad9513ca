"""Data sets, splits, and batches made on the training device."""
