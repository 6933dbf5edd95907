"""Packages of the extras. Whoever never scores anything does without them, so they are imported on first use."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any


class PackageMissingError(ValueError):
    """A package that a metric needs is not installed."""


def package(name: str, extra: str = "eval") -> Any:
    """The package of this name, imported.

    Args:
        name: of the package, or of a module in it.
        extra: of ours, that installs it.

    Raises:
        PackageMissingError: it is not installed; says how to install it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it will miss one day: what works together is stated in setup.cfg
            return import_module(name)
    except ImportError as error:
        raise PackageMissingError(
            f"scores need the package {name}, which cannot be imported ({error}): in the folder of lip-to-speech, "
            f"pip install -e '.[{extra}]'"
        ) from error
