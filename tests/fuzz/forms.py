"""Every stored form: a file of `tests.fuzz.scene`, how it is damaged, and the commands that read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.damaged_bytes import Damaged, damaged_bytes
from tests.fuzz.damaged_checkpoints import damaged_checkpoint
from tests.fuzz.damaged_tables import damaged_table
from tests.fuzz.damaged_tars import damaged_tar, damaged_wav
from tests.fuzz.damaged_text import damaged_text
from tests.fuzz.damaged_values import damaged_json, damaged_json_lines, damaged_yaml
from tests.fuzz.damaged_videos import damaged_video
from tests.fuzz.sealed import seal_dataset, seal_report


@dataclass(frozen=True)
class Form:
    """A stored form.

    Attributes:
        file: of the scene.
        damage: a strategy of its damaged content; None: only what may stand in its place is tried.
        commands: that read it, by name (`tests.fuzz.commands`).
        checked_by: those of them that compare its checksum: what is not as it was written is never used in silence.
        seal: makes checksums fit: of a folder, and the damaged file in it; None: there are none outside of the file.
        folder: of the scene, that checksums are kept in.
    """

    file: str
    damage: Callable[[bytes], st.SearchStrategy[Damaged]] | None
    commands: tuple[str, ...]
    checked_by: tuple[str, ...] = ()
    seal: Callable[[Path, Path], None] | None = None
    folder: str = "data"


_READERS = ("verify", "info", "preview", "tokenizer", "train", "eval", "build again")
_CHECKPOINT_READERS = ("import", "init", "init vsr", "init lip2speech", "eval", "synthesize")
_CHECKSUMS = ("verify", "build again")
_REPORT = ("compare", "eval again")

FORMS: dict[str, Form] = {
    "manifest": Form("data/manifest.json", damaged_json, (*_READERS, "train asr"), ("build again",)),
    "plan": Form("data/plan.json", damaged_json, ("verify", "info", "build again")),
    # what another's lock says is waited for, for a minute: only what stands in its place is tried
    "build lock": Form("data/build.lock", None, ("build again",)),
    "sidecar": Form("data/test-000000.json", damaged_json, ("verify", "build again"), ("build again",), seal_dataset),
    "index": Form("data/index.parquet", damaged_table, (*_READERS, "calibrate"), _READERS, seal_dataset),
    "error list": Form(
        "data/errors.jsonl",
        damaged_json_lines,
        ("verify", "info", "preview", "eval", "build again"),
        _CHECKSUMS,
        seal_dataset,
    ),
    "shard": Form(
        "data/train-000000.tar", damaged_tar, (*_READERS, "preview with videos", "train asr"), _CHECKSUMS, seal_dataset
    ),
    "evaluated shard": Form(
        "data/test-000000.tar", damaged_tar, ("eval", "eval with asr", "preview"), (), seal_dataset
    ),
    "shard of videos": Form(
        "data-mkv/train-000000.tar",
        damaged_tar,
        ("verify mkv", "preview mkv", "train mkv"),
        ("verify mkv",),
        seal_dataset,
        "data-mkv",
    ),
    "tokenizer": Form("data/tokenizer.model", damaged_bytes, ("train", "import tokenizer", "resume", "verify")),
    "checkpoint": Form(
        "runs/main/best.pt", damaged_checkpoint, ("model info", "release", *_CHECKPOINT_READERS), _CHECKPOINT_READERS
    ),
    "exported checkpoint": Form("runs/main/best.pt", damaged_checkpoint, ("export",)),
    "ASR checkpoint": Form("runs/asr/best.pt", damaged_checkpoint, ("init asr", "eval with asr")),
    "vocoder checkpoint": Form(
        "runs/vocoder/best.pt", damaged_checkpoint, ("model info vocoder", "eval with vocoder"), ("eval with vocoder",)
    ),
    "released file": Form("release.pt", damaged_checkpoint, ("model info release", "eval of a release")),
    "published checkpoint": Form("published.pt", damaged_checkpoint, ("model info published", "import published")),
    "resume state": Form(
        "runs/main/checkpoints/step-00000002.pt", damaged_checkpoint, ("resume", "resume a file"), ("resume",)
    ),
    "training log": Form("runs/main/log.jsonl", damaged_json_lines, ("resume",)),
    "bad batches": Form("runs/main/bad-batches.jsonl", damaged_json_lines, ("resume",)),
    "run lock": Form("runs/main/lock", damaged_text, ("resume",)),
    "run settings": Form("runs/main/settings.json", damaged_json, ("resume",)),
    "settings": Form("settings.yaml", damaged_yaml, ("build by settings", "train by settings", "eval by settings")),
    "evaluation": Form("reports/a/evaluation.json", damaged_json, ("compare", "eval again")),
    "clips table": Form("reports/a/clips.parquet", damaged_table, _REPORT, _REPORT, seal_report, "reports/a"),
    "report checksums": Form("reports/a/SHA256SUMS", damaged_text, _REPORT, _REPORT),
    "summary": Form("reports/a/summary.json", damaged_json, _REPORT, _REPORT),
    "batch record": Form(
        "reports/a/batches/000000.json", damaged_json, ("eval again",), ("eval again",), seal_report, "reports/a"
    ),
    "report wav": Form(
        "reports/a/wav/network/main/speaker1/00002.wav", damaged_wav, _REPORT, _REPORT, seal_report, "reports/a"
    ),
    "corpus video": Form("corpus/LRS2-BBC/main/speaker0/00000.mp4", damaged_video, ("build", "preview with videos")),
    "mp4": Form("mine/s/1.mp4", damaged_video, ("build folder", "synthesize")),
    "avi": Form("mine/s/2.avi", damaged_video, ("build folder",)),
    "mkv": Form("mine/s/3.mkv", damaged_video, ("build folder",)),
    "ts": Form("mine/s/4.ts", damaged_video, ("build folder",)),
    "face video": Form("faces/1.mp4", damaged_video, ("track", "build tracked", "synthesize a face")),
    "wav": Form(
        "sounds/s/1.wav", damaged_wav, ("build with sounds", "eval with a reference", "synthesize by coordinates")
    ),
    "transcript": Form("corpus/LRS2-BBC/main/speaker0/00000.txt", damaged_text, ("build",)),
    "timed transcript": Form("corpus/LRS2-BBC/pretrain/speaker2/00010.txt", damaged_text, ("build",)),
    "plain transcript": Form("mine/s/1.txt", damaged_text, ("build folder",)),
    "alignment": Form("grid/alignments/s1/bbaf2n.align", damaged_text, ("build grid",)),
    "coordinates": Form("corpus/LRS2_crop/preprocess_main.txt", damaged_text, ("build",)),
    "coordinates of a folder": Form(
        "mine/coordinates.txt", damaged_text, ("build folder", "synthesize by coordinates")
    ),
    "split list": Form("corpus/train.txt", damaged_text, ("build", "build again")),
    "split list of a folder": Form("mine/all.txt", damaged_text, ("build with sounds",)),
}
