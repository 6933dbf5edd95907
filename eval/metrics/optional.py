"""Packages of the extras `whisper` and `judges`, imported on first use: scoring works without them."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any


class PackageMissingError(ValueError):
    """A package that a metric or an ASR model needs is not installed."""


def import_extra(name: str, extra: str) -> Any:
    """Import a package, or a module in it, of an extra; `PackageMissingError` says how to install what is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside these packages: setup.cfg says what works together
            return import_module(name)
    except ImportError as error:
        raise PackageMissingError(
            f"the package {name} cannot be imported ({error}): in the folder of lip-to-speech, "
            f"pip install -e '.[{extra}]'"
        ) from error
