"""Damage to parquet tables: columns and cells changed, rows repeated, metadata that lies."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tests.fuzz.damaged_bytes import Damaged, damaged_bytes
from tests.fuzz.damaged_values import ODD_TEXTS

_INTEGERS = (None, -1, 0, 1, 3, 2**31 - 1, -(2**31))
_LONG = (*_INTEGERS, 2**40, 2**62, 2**63 - 1, -(2**63))
_FLOATS = (None, -1.0, 0.0, float("nan"), float("inf"), 1e308)
_MANY = 3_000_000


@st.composite
def damaged_table(draw: st.DrawFn, content: bytes) -> Damaged:
    """A parquet file of a table that is not the one that was written, or of none."""
    way = draw(st.sampled_from(["bytes", "cell", "cell", "cell", "type", "drop", "rename", "twice", "rows", "add"]))
    if way == "bytes":
        return draw(damaged_bytes(content))
    table = pq.read_table(io.BytesIO(content))
    number = draw(st.integers(0, table.num_columns - 1))
    name = table.column_names[number]
    if way == "cell":
        what, table = draw(_with_cell(table, number))
    elif way == "type":
        kind = draw(st.sampled_from([pa.int8(), pa.string(), pa.float64(), pa.binary(), pa.bool_(), pa.null()]))
        filled = pa.nulls(len(table), kind) if pa.types.is_null(kind) else pa.array([_ZERO[kind]] * len(table), kind)
        what, table = f"of {kind}", table.set_column(number, name, filled)
    elif way == "drop":
        what, table = "dropped", table.remove_column(number)
    elif way == "rename":
        new = draw(st.sampled_from(ODD_TEXTS))
        what = f"renamed {new[:30]!r}"
        table = table.rename_columns([new if at == number else each for at, each in enumerate(table.column_names)])
    elif way == "twice":
        what, table = "twice", table.append_column(name, table.column(number))
    elif way == "add":
        new = draw(st.sampled_from(["stray_module:run", "stray_module.score", "x", *ODD_TEXTS]))
        what, table = f"beside {new[:30]!r}", table.append_column(new, pa.array([0.5] * len(table)))
    else:
        what, table = draw(_with_rows(table))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=draw(st.sampled_from(["zstd", "snappy", "none"])))
    return f"{name[:30]}: {what}", buffer.getvalue()


_ZERO: dict[Any, Any] = {pa.int8(): 1, pa.string(): "x", pa.float64(): 0.5, pa.binary(): b"\xff\xfe", pa.bool_(): True}


@st.composite
def _with_cell(draw: st.DrawFn, table: pa.Table, number: int) -> tuple[str, pa.Table]:
    if not len(table):
        return "no rows", table
    field = table.schema.field(number)
    values = table.column(number).to_pylist()
    row = draw(st.integers(0, len(values) - 1))
    kinds: list[tuple[Any, tuple[Any, ...]]] = [
        (pa.types.is_int32, _INTEGERS),
        (pa.types.is_int64, _LONG),
        (pa.types.is_floating, _FLOATS),
        (pa.types.is_string, (None, *ODD_TEXTS, '{"stray_module:run": 3}', "[" * 20_000)),
    ]
    options = next((options for fits, options in kinds if fits(field.type)), (None, []))
    values[row] = draw(st.sampled_from(options))
    changed = pa.array(values, field.type)
    return f"row {row} {repr(values[row])[:40]}", table.set_column(number, field.name, changed)


@st.composite
def _with_rows(draw: st.DrawFn, table: pa.Table) -> tuple[str, pa.Table]:
    way = draw(st.sampled_from(["none", "first alone", "reversed", "doubled", "very many"]))
    if way == "none" or not len(table):
        return "no rows", table.slice(0, 0)
    order = {"first alone": [0], "reversed": list(range(len(table)))[::-1], "doubled": [*range(len(table))] * 2}
    if way in order:
        return f"rows {way}", table.take(order[way])
    one = table.slice(0, 1)
    return "very many rows", pa.table({name: pa.repeat(one[name][0], _MANY) for name in set(table.column_names)})
