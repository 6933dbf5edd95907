"""Scores, of sound against sound and of words against words. NumPy only: neither torch nor Ray is imported.

speech.py     STOI, ESTOI, PESQ of a pair of waveforms
words.py      errors in words and in characters of a pair of texts
scorers.py    pairs scored in processes of their own, while the caller goes on
packages.py   what each needs of the `eval` extra, imported when it is first used
"""

from eval.metrics.packages import PackageMissingError
from eval.metrics.scorers import Scored, Scorers
from eval.metrics.speech import SPEECH, MetricError, estoi, pesq_narrow, pesq_wide, stoi
from eval.metrics.words import Errors, character_errors, normalised, total, word_errors

__all__ = [
    "SPEECH",
    "Errors",
    "MetricError",
    "PackageMissingError",
    "Scored",
    "Scorers",
    "character_errors",
    "estoi",
    "normalised",
    "pesq_narrow",
    "pesq_wide",
    "stoi",
    "total",
    "word_errors",
]
