"""Versions of Python and of libraries, to record what a result was made with."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Versions of Python and of those packages that are installed, by name.

    PyTorch's is that of its build (`2.13.0+cpu`), which its package does not always name.
    """
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if "torch" in found:
        from torch.version import __version__ as build

        found["torch"] = build
    return found
