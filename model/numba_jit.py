"""Loops over frames that NumPy cannot do at once: compiled when their module is imported, or loaded from disk.

Importing this brings numba, which takes a while: modules that use it are imported where they are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def inlined(function: Function) -> Function:
    """Compile a function as part of the compiled ones that call it."""
    return cast(Function, njit(nogil=True)(function))


def compiled(signature: str) -> Callable[[Function], Function]:
    """Compile a function now, to run without the interpreter's lock; kept on disk where that is possible.

    Args:
        signature: the types of its arguments, as numba writes them: `(f4[:,::1], i8)`.
    """

    def compile_function(function: Function) -> Function:
        try:
            return cast(Function, njit(signature, nogil=True, cache=True)(function))
        except Exception:  # no folder can be written to, the disk is full, or what lies there is damaged
            return cast(Function, njit(signature, nogil=True)(function))

    return compile_function
