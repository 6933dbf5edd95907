"""Packages of the `eval` extra. Whoever never scores anything does without them, so they are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class PackageMissingError(ValueError):
    """A package that a metric needs is not installed."""


def package(name: str) -> Any:
    """The package of this name, imported.

    Raises:
        PackageMissingError: it is not installed; says how to install it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise PackageMissingError(
            f"scores need the package {name}, which cannot be imported ({error}): pip install lip-to-speech[eval]"
        ) from error
