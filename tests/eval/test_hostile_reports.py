"""Report folders that were damaged or made up: compared to the same figures, or refused by one sentence."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.compare.command import run
from eval.report.waveforms import WaveformError, read_waveform
from eval.result_schema import ResultsError
from eval.results import ABOUT_NAME, CHECKSUMS_NAME, CLIPS_NAME, Evaluation
from shards.format.wav import encode_wav
from tests.eval.evaluations import all_rows, evaluation_of

KEYS = ["main/s/1", "main/s/2", "main/t/3"]
STRANGE: list[Any] = [
    *(None, True, -1, 0, 1 << 62, 10**400, 1e308, -0.0, "", "x" * 200_000, "\x1b[2J<script>", "../../x"),
    *([], {}, [None], {"a": None}, "\ud800", "\N{RIGHT-TO-LEFT OVERRIDE}"),
]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two reports, `a` and `b`, and what their comparison is."""
    folder = tmp_path_factory.mktemp("reports")
    rows = all_rows(KEYS)
    rows[0] |= {"pesq": None, "failed": json.dumps({"pesq": "too short"})}
    evaluation_of(folder / "a", rows)
    evaluation_of(folder / "b", [row | {"estoi": row.get("estoi") and row["estoi"] + 0.1} for row in all_rows(KEYS)])
    assert run([str(folder / "a"), str(folder / "b"), "--out", str(folder / "good")]) == 0
    return folder


def flip(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 8])):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def damaged_bytes(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    stop = min(len(content), start + chance.choice([1, 4, 64]))
    ways: list[Callable[[], bytes]] = [
        lambda: flip(content, chance),
        lambda: flip(content, chance),
        lambda: content[:start],
        lambda: content[:start] + chance.randbytes(stop - start) + content[stop:],
        lambda: content[:start] + bytes(stop - start) + content[stop:],
        lambda: content[:start] + b"\xff" * (stop - start) + content[stop:],
        lambda: content[:start] + content[stop:],
        lambda: content[:stop] + content[start:],
    ]
    return chance.choice(ways)()


def damaged_about(content: bytes, chance: random.Random) -> bytes:
    """Another value, a value too many or too few, at any level."""
    about = json.loads(content)
    at = about
    while inner := [value for value in at.values() if isinstance(value, dict)]:
        if chance.random() < 0.4:
            break
        at = chance.choice(inner)
    name = chance.choice([*at, "more"])
    if chance.random() < 0.2:
        at.pop(name, None)
    else:
        at[name] = chance.choice(STRANGE)
    return json.dumps(about).encode("utf-8", "surrogatepass")


def damaged_table(content: bytes, chance: random.Random) -> bytes:
    """Another table: values, types, columns, encodings; its checksum is not compared."""
    table = pq.read_table(pa.BufferReader(content))
    name = chance.choice(table.column_names)
    place = table.column_names.index(name)
    rows = len(table)
    kind = table.schema.field(name).type
    values = table[name].to_pylist()
    large = ["[" * 50_000, "z" * 5_000_000, float("nan"), float("inf"), 2**31 - 1]
    values[chance.randrange(rows)] = chance.choice(STRANGE + large)
    types = [kind, pa.null(), pa.string(), pa.int64()]
    nested = pa.list_(pa.struct({"a": pa.int8()}))
    made: list[Callable[[], pa.Table]] = [
        lambda: table.set_column(place, name, pa.array(values, kind)),
        lambda: table.set_column(place, name, pa.array(values, kind)),
        lambda: table.set_column(place, name, pa.array(values, kind)),
        lambda: table.set_column(place, name, pa.nulls(rows, chance.choice(types))),
        lambda: table.set_column(place, name, pa.array([None] * rows, nested)),
        lambda: table.set_column(place, name, pa.array(["x"] * rows).dictionary_encode()),
        lambda: table.drop_columns([name]),
        lambda: table.append_column(chance.choice([name, "", "x" * 5000, "wer", "os:system"]), table[name]),
        lambda: table.rename_columns([chance.choice([one, one, "x"]) for one in table.column_names]),
        lambda: table.slice(0, chance.randrange(rows)),
        lambda: pa.concat_tables([table, table]),
        lambda: pa.table({"key": pa.array([], pa.string())}),
        lambda: table.replace_schema_metadata({b"ARROW:schema": chance.randbytes(60)}),
        lambda: table.set_column(place, name, pa.array([b"\xff"] * rows, pa.binary()).view(pa.string())),
    ]
    written = pa.BufferOutputStream()
    pq.write_table(
        chance.choice(made)(),
        written,
        compression=chance.choice(["zstd", "none", "gzip", "snappy"]),
        use_dictionary=chance.random() < 0.5,
        store_schema=chance.random() < 0.5,
        row_group_size=chance.choice([1, 1000]),
        data_page_version=chance.choice(["1.0", "2.0"]),
    )
    return bytes(written.getvalue())


FORMS: dict[str, tuple[str, Callable[[bytes, random.Random], bytes], bool]] = {
    "evaluation": (ABOUT_NAME, damaged_bytes, False),
    "evaluation's values": (ABOUT_NAME, damaged_about, False),
    "table": (CLIPS_NAME, damaged_bytes, True),
    "table without checksum": (CLIPS_NAME, damaged_bytes, False),
    "table's values": (CLIPS_NAME, damaged_table, False),
    "checksums": (CHECKSUMS_NAME, damaged_bytes, True),
    "wav": ("wav/network/main/s/1.wav", damaged_bytes, False),
}
"""File, how it is damaged, and whether its figures are then either refused or the same."""


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("form", FORMS)
def test_compare_of_a_damaged_report_is_refused_or_has_the_same_figures(
    form: str, seed: int, reports: Path, tmp_path: Path
) -> None:
    damaged = damaged_report(form, seed, reports, tmp_path)
    if damaged is None:
        return
    refused = ""
    try:
        run([str(damaged), str(reports / "b"), "--out", str(tmp_path / "out")])
    except (ValueError, OSError) as error:
        refused = str(error)
    if refused:
        assert str(damaged) in refused or "no clip is in every evaluation" in refused or "no metric can" in refused
        assert len(refused) < 5000
    elif FORMS[form][2]:
        found, good = (json.loads((at / "comparison.json").read_text()) for at in (tmp_path / "out", reports / "good"))
        assert found["metrics"] == good["metrics"]


def damaged_report(form: str, seed: int, reports: Path, folder: Path) -> Path | None:
    """A damaged copy of the first report; None where no parquet file can hold what was drawn."""
    name, damage, checked = FORMS[form]
    shutil.copytree(reports / "a", folder / "a")
    if not checked:
        (folder / "a" / CHECKSUMS_NAME).unlink()
    file = folder / "a" / name
    try:
        file.write_bytes(damage(file.read_bytes(), random.Random(f"{form} {seed}")))
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return None
    return folder / "a"


def repeated_text(folder: Path) -> None:
    """A text of 20 MB that a dictionary holds once, in each of many rows."""
    table = pq.read_table(folder / CLIPS_NAME)
    rows = table.take(pa.array([0] * 2000))
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * (20 << 20)]))
    place = table.column_names.index("text")
    pq.write_table(rows.set_column(place, "text", text), folder / CLIPS_NAME, store_schema=False, compression="zstd")


def fifo(name: str) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return replace


def device(folder: Path) -> None:
    (folder / CLIPS_NAME).unlink()
    (folder / CLIPS_NAME).symlink_to("/dev/zero")


def circle(folder: Path) -> None:
    (folder / CLIPS_NAME).unlink()
    (folder / CLIPS_NAME).symlink_to(folder / CLIPS_NAME)


def sparse(folder: Path) -> None:
    with (folder / ABOUT_NAME).open("r+b") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (repeated_text, r"clips\.parquet: .*bytes of rows: .* is allowed"),
        (fifo(CLIPS_NAME), r"clips\.parquet: a FIFO"),
        (fifo(ABOUT_NAME), r"evaluation\.json: a FIFO"),
        (fifo(CHECKSUMS_NAME), r"SHA256SUMS: a FIFO"),
        (device, r"clips\.parquet: a device"),
        (circle, r"clips\.parquet: not readable: Too many levels"),
        (sparse, r"evaluation\.json: 1,099,511,627,776 bytes"),
    ],
)
def test_evaluation_open_refuses_files_that_are_no_results(
    damage: Callable[[Path], None], found: str, reports: Path, tmp_path: Path
) -> None:
    shutil.copytree(reports / "a", tmp_path / "a")
    damage(tmp_path / "a")
    if damage is repeated_text:
        (tmp_path / "a" / CHECKSUMS_NAME).unlink()
    with pytest.raises(ResultsError, match=found):
        Evaluation.open(tmp_path / "a")


def test_compare_refuses_a_report_folder_that_is_a_link_to_itself(reports: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ResultsError, match=r"loop/evaluation\.json: not readable: Too many levels of symbolic links"):
        run([str(tmp_path / "loop"), str(reports / "b"), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("linked", [False, True])
def test_page_shows_no_waveform_that_is_a_fifo_or_leads_out(linked: bool, reports: Path, tmp_path: Path) -> None:
    shutil.copytree(reports / "a", tmp_path / "a")
    for key in KEYS:
        file = tmp_path / "a" / f"wav/network/{key}.wav"
        file.unlink()
        if linked:
            file.symlink_to(reports / "a" / f"wav/network/{key}.wav")
        else:
            os.mkfifo(file)
    run([str(tmp_path / "a"), str(reports / "b"), "--out", str(tmp_path / "out")])
    page = (tmp_path / "out" / "report.html").read_text()
    why = "lies outside of the report&#39;s folder" if linked else "cannot be read"
    assert f"wav/network/main/s/1.wav {why}" in page


@pytest.mark.parametrize("place", [16, 40])
def test_waveform_whose_header_claims_gigabytes_is_read_as_far_as_it_goes_or_refused(
    place: int, tmp_path: Path
) -> None:
    content = bytearray(encode_wav(np.ones(640, np.int16)))
    content[place : place + 4] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(content)
    if place == 40:
        assert len(read_waveform(tmp_path, "a.wav", 1000)) == 640
        return
    with pytest.raises(WaveformError, match=r"a\.wav cannot be read"):
        read_waveform(tmp_path, "a.wav", 1000)


@pytest.mark.parametrize(("room", "name"), [(500, "comparison.json"), (20_000, "report.html")])
def test_compare_names_the_file_that_a_full_disk_has_no_room_for(
    room: int, name: str, reports: Path, tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(OSError, match=name):
            run([str(reports / "a"), str(reports / "b"), "--out", str(tmp_path / "out")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "out" / name).exists()
