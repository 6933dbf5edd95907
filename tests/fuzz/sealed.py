"""Make checksums fit what was damaged: a dataset's shards, index, error list, sidecars; a report's tables, records."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_UNREADABLE: tuple[type[Exception], ...] = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, OSError, RecursionError),
    *(pa.ArrowException, tarfile.TarError),
)


def seal_dataset(folder: Path, damaged: Path) -> None:
    """Let manifest, index and sidecars of a dataset say what a damaged file now is, as far as they can be read."""
    with suppress(*_UNREADABLE):
        if damaged.suffix == ".tar":
            _seal_shard(folder, damaged)
        elif damaged.name not in ("manifest.json", "plan.json", "index.parquet", "errors.jsonl"):
            _seal_sidecar(damaged)
    _seal_manifest(folder)


def _seal_shard(folder: Path, shard: Path) -> None:
    """Index rows and sidecar of a shard: where its members now lie."""
    content = shard.read_bytes()
    places: dict[str, dict[str, int]] = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for info in tar:
            key, _, extension = info.name.partition(".")
            member = {"roi.npy": "roi", "roi.mkv": "roi", "mel.npy": "mel"}.get(extension, extension)
            places.setdefault(key, {}).update({f"{member}_offset": info.offset_data, f"{member}_size": info.size})
    index = folder / "index.parquet"
    table = pq.read_table(index)
    rows = [_moved(row, shard.name, places) for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), index, compression="zstd", store_schema=False)
    sidecar = shard.with_suffix(".json")
    stored = json.loads(sidecar.read_bytes())
    body = stored["sidecar"]
    body["rows"] = [_moved(row, shard.name, places) for row in body["rows"]]
    body |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    sidecar.write_bytes(json.dumps(stored, ensure_ascii=False).encode())
    _seal_sidecar(sidecar)


def _moved(row: dict[str, Any], shard: str, places: dict[str, dict[str, int]]) -> dict[str, Any]:
    found = places.get(row["key"], {}) if row["shard"] == shard else {}
    return row | {name: value for name, value in found.items() if name in row}


def _seal_sidecar(sidecar: Path) -> None:
    """The digest that a sidecar has of itself."""
    stored = json.loads(sidecar.read_bytes())
    body = json.dumps(stored["sidecar"], ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.sha256(body.encode()).hexdigest()
    sidecar.write_bytes(f'{{"format":{json.dumps(stored["format"])},"digest":"{digest}","sidecar":{body}}}\n'.encode())


def _seal_manifest(folder: Path) -> None:
    """What the manifest says of shards, index and error list."""
    path = folder / "manifest.json"
    with suppress(*_UNREADABLE):
        manifest = json.loads(path.read_bytes())
        for entries in manifest["splits"].values():
            for entry in entries:
                with suppress(*_UNREADABLE):
                    content = (folder / entry["name"]).read_bytes()
                    entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name in manifest["sha256"]:
            with suppress(*_UNREADABLE):
                manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        with suppress(*_UNREADABLE):
            manifest["totals"]["bytes"] = sum(e["bytes"] for entries in manifest["splits"].values() for e in entries)
        path.write_bytes((json.dumps(manifest, ensure_ascii=False, indent=1) + "\n").encode())


def seal_report(folder: Path, damaged: Path) -> None:
    """Let an evaluation's records and checksums say what a damaged file of it now is, as far as they can be read."""
    with suppress(*_UNREADABLE):
        if damaged.parent.name == "batches":
            _seal_record(damaged)
        elif damaged.suffix == ".wav":
            digest = hashlib.sha256(damaged.read_bytes()).hexdigest()
            for record in folder.glob("batches/*.json"):
                _seal_record(record, {str(damaged.relative_to(folder)): digest})
        else:
            sums = folder / "SHA256SUMS"
            lines = [line for line in sums.read_text().splitlines() if not line.endswith(f"  {damaged.name}")]
            digest = hashlib.sha256(damaged.read_bytes()).hexdigest()
            sums.write_text("\n".join([*lines, f"{digest}  {damaged.name}"]) + "\n")


def _seal_record(path: Path, files: dict[str, str] | None = None) -> None:
    """The digest that the record of a micro-batch has of itself."""
    record = json.loads(path.read_bytes())["record"]
    if files:
        record["files"] |= {name: digest for name, digest in files.items() if name in record["files"]}
    text = json.dumps(record, indent=1, ensure_ascii=False).encode()
    path.write_bytes(b'{"sha256": "%s",\n"record": %s}\n' % (hashlib.sha256(text).hexdigest().encode(), text))
