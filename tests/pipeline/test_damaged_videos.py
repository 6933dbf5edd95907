"""Whatever bytes of a video or wav are damaged: a sample comes out, or the reason why its clip is skipped."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import soundfile

from pipeline.clip import Corpus, build_samples
from pipeline.config import BuildSettings
from pipeline.corpora import CorpusClip
from pipeline.media.errors import ClipError
from shards.format.sidecar import Reason
from tests.corpora import click_track, pictures, write_video

KINDS = ("mp4", "fragmented.mp4", "avi", "mkv", "ts", "mov", "wav")
CASES = 15
"""Of each kind; many more are slow."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small file of each kind: half a second, B-frames where the kind has them, sound."""
    folder = tmp_path_factory.mktemp("whole")
    sound, frames = click_track(0.5, 0.2), pictures(12, size=(64, 64))
    made: dict[str, bytes] = {}
    for kind in KINDS:
        path = folder / f"a.{kind}"
        if kind == "wav":
            soundfile.write(path, np.stack([sound, sound], axis=1), 16_000)
        else:
            options = {"movflags": "frag_keyframe+empty_moov"} if kind.startswith("fragmented") else {}
            codec = "pcm_s16le" if kind == "avi" else "aac"
            write_video(path, frames, sound, options=options, sound_codec=codec)
        made[kind] = path.read_bytes()
    return made


def damaged(content: bytes, seed: int) -> bytes:
    """Some bytes changed, removed, inserted, repeated or made extreme, more of them where headers lie."""
    chance = random.Random(seed)
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        near = chance.choice([64, 600, 4000, len(changed)])
        at = chance.randrange(max(1, min(near, len(changed))))
        if chance.random() < 0.4:  # mp4 has its index at the end
            at = max(0, len(changed) - 1 - at)
        many = chance.choice([1, 2, 4, 8, 100])
        match chance.randrange(6):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                changed[at : at + 4] = chance.choice(
                    [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0"]
                )
            case 2:
                del changed[at : at + many]
            case 3:
                changed[at:at] = chance.randbytes(many)
            case 4:
                changed[at:at] = changed[at : at + many] * chance.choice([1, 50])
            case 5 if chance.random() < 0.3:
                del changed[at:]
    return bytes(changed)


def outcome(folder: Path, kind: str, content: bytes, video: bytes, **changes: Any) -> str:
    """`sample`, or the reason why there is none."""
    wav = "a.wav" if kind == "wav" else None
    name = "a.mp4" if kind == "wav" else f"a.{kind}"
    (folder / name).write_bytes(video if kind == "wav" else content)
    if wav is not None:
        (folder / wav).write_bytes(content)
    settings = BuildSettings(
        "folder", str(folder), **{"lip_box": "32,32", "transcripts": "optional", "audio": wav and str(folder)} | changes
    )
    clip = CorpusClip("main/a", "all", "main", "a", name, None, wav, None, 12, (len(content), 0, 0))
    try:
        built = list(build_samples(clip, settings, Corpus.of(settings)))
    except ClipError as fault:
        found = fault
    else:
        assert built
        return "sample"
    assert found.reason in get_args(Reason)
    assert len(found.detail) < 1000
    return found.reason


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_file_is_a_sample_or_a_skipped_clip(tmp_path: Path, whole: dict[str, bytes], kind: str) -> None:
    assert outcome(tmp_path, kind, whole[kind], whole["mp4"]) == "sample"
    found = [outcome(tmp_path, kind, damaged(whole[kind], seed), whole["mp4"]) for seed in range(CASES)]
    assert len(set(found)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_file_is_a_sample_or_a_skipped_clip_of_many(tmp_path: Path, whole: dict[str, bytes], kind: str) -> None:
    for seed in range(CASES, 200):
        try:
            outcome(tmp_path, kind, damaged(whole[kind], seed), whole["mp4"])
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mp4", "avi", "mkv"])
def test_damaged_file_whose_lips_are_tracked_is_a_sample_or_a_skipped_clip(
    tmp_path: Path, whole: dict[str, bytes], kind: str
) -> None:
    pytest.importorskip("ai_edge_litert")
    for seed in range(20):
        outcome(tmp_path, kind, damaged(whole[kind], seed), whole["mp4"], lip_box=None)
