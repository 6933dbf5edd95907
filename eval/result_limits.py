"""Limits of an evaluation's stored results, looked at before memory is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

MAX_ABOUT_BYTES = 16 << 20
"""Of `evaluation.json`."""

MAX_ROWS, MAX_COLUMNS, MAX_ROW_BYTES = 5_000_000, 500, 4 << 30
"""Of `clips.parquet`: bytes are those of rows that are not compressed."""

MAX_LEVELS = 8
"""Of values inside each other."""


def check_about_size(path: Path) -> None:
    """Refuse a JSON file that is too large (`ValueError`) or no regular one; `OSError` where it cannot be looked at."""
    if path.stat().st_size > MAX_ABOUT_BYTES or not path.is_file():
        found = f"{path.stat().st_size:,} bytes" if path.is_file() else "no regular file"
        raise ValueError(f"{found}, and at most {MAX_ABOUT_BYTES:,} bytes are allowed")


def check_table_size(path: Path) -> None:
    """Refuse a parquet file of too many rows, columns or bytes (`ValueError`): a small file may claim billions."""
    if path.exists() and not path.is_file():
        raise ValueError("no regular file")
    described = pq.read_metadata(path)
    groups = (described.row_group(number) for number in range(described.num_row_groups))
    for what, found, allowed in (
        ("rows", described.num_rows, MAX_ROWS),
        ("columns", described.num_columns, MAX_COLUMNS),
        ("bytes of rows", sum(group.total_byte_size for group in groups), MAX_ROW_BYTES),
    ):
        if found > allowed:
            raise ValueError(f"{found:,} {what}, and at most {allowed:,} are allowed")


def is_deep(content: Any, levels: int = MAX_LEVELS) -> bool:
    """Whether values lie inside each other on more levels than these."""
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return levels == 0 or any(is_deep(part, levels - 1) for part in parts)
