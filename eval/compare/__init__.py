"""Comparison of evaluations, clip by clip (`python -m eval compare`)."""
