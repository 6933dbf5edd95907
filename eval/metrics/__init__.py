"""Metrics of synthesized speech: a pair of waveforms to figures, and a pair of texts to error counts.

Importing this is cheap: neither torch, Ray, librosa nor a package of an extra is imported.
"""

from eval.metrics.registry import Display, Metric
from eval.metrics.waveforms import MetricError, Wave

__all__ = ["Display", "Metric", "MetricError", "Wave"]
