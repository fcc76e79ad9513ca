"""Carrying out one run."""
