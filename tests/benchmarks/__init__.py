"""Measurements: each is a ratio against something run beside it, the median of several runs. None is a test."""
