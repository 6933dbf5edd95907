"""What is compiled runs whether or not it can be kept on disk."""

from __future__ import annotations

from typing import Any

import numba
import pytest

from model import prefix_search as chapter


def test_compiled_runs_where_its_code_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bool] = []

    def njit_without_a_place(*arguments: Any, cache: bool = False, **settings: Any) -> Any:
        kept.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(*arguments, **settings)

    monkeypatch.setattr(chapter, "njit", njit_without_a_place)

    @chapter.compiled("(i8,)")
    def twice(number: int) -> int:
        return 2 * number

    assert twice(21) == 42
    assert kept == [True, False]
