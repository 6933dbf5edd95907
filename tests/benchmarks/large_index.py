"""What an index of many clips costs: merging it, verifying, opening, planning, dealing, resuming. No shard is read.

Synthetic sidecars in a temporary folder: clips of 1 to 10 s (7.2 s on average, so that 5 million are 10,000 hours), 200
speakers, word times for every clip, 140 clips a shard. Each part runs in a process of its own; its peak is what it had
resident at most, libraries included, and seconds are by the clock, starting Python not counted.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from model.mel import MelSettings
from pipeline.merge import merge
from pipeline.plan import Plan, ShardPlan
from pipeline.verify import verify
from shards import Store, open_dataset
from shards.format.member_names import MEMBERS, member_extension
from shards.format.member_sizes import member_sizes
from shards.format.sample import roi_side
from shards.format.sidecar import FORMAT_VERSION, sidecar_name
from shards.loading.batch_plan import plan_epoch, plan_evaluation, plan_references
from shards.loading.distribute import distribute_from, steps_in_epoch
from shards.loading.index_view import ClipIndex
from shards.loading.planned_batches import PlannedBatches
from tests.peak_memory import peak_kilobytes
from train.curriculum import segment_of
from train.settings import Stage, TrainSettings

CLIPS_OF_SHARD = 140
CROP_RADIUS = 40
RANKS = 64
_VAL_SHARDS = 20
_HEADER_BYTES = 100
_SETTINGS = TrainSettings()
_VOCABULARY = [hashlib.sha256(bytes([at % 256, at // 256])).hexdigest()[: 2 + at % 9] for at in range(4000)]
_PLAN = "0" * 64


def measure(clips: int) -> Iterator[str]:
    """Lines of the report: a Markdown table, a row a part."""
    yield "| part | seconds | core-seconds | peak, MB | |"
    yield "|---|---:|---:|---:|---|"
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            seconds, of_cores, megabytes, note = _alone(part, folder, clips)
            yield f"| {part.__doc__} | {seconds:.1f} | {of_cores:.1f} | {megabytes:,.0f} | {note} |"


def write_sidecars(folder: str, clips: int) -> str:
    """writing sidecars (not the project's)"""
    random = np.random.default_rng(0)
    store, written = Store(folder), 0
    for shard, split, count in _shards(clips):
        sidecar = _sidecar(shard, split, count, written, random)
        Path(folder, sidecar_name(shard)).write_text(sidecar)
        written += count
    store.write("plan.json", json.dumps({"plan": _PLAN, "settings": {"dataset": "synthetic"}}).encode())
    return f"{written:,} clips in {len(_shards(clips)):,} shards"


def merge_sidecars(folder: str, clips: int) -> str:
    """merge"""
    crop = {"crop_radius": CROP_RADIUS, "size": roi_side(CROP_RADIUS)}
    features = {"mel": asdict(MelSettings()), "crop": crop, "roi_codec": "npy"}
    shards = tuple(ShardPlan(shard, split, ()) for shard, split, _ in _shards(clips))
    merge(Plan(_PLAN, {"dataset": "synthetic"}, features, shards, ()), Store(folder))
    return f"index.parquet {Path(folder, 'index.parquet').stat().st_size / 1e6:,.0f} MB"


def verify_index(folder: str, clips: int) -> str:
    """`pipeline verify --index-only`"""
    problems = verify(folder, workers=0, index_only=True)[1]
    if problems:
        raise RuntimeError(problems[0])
    return ""


def open_clip_index(folder: str, clips: int) -> str:
    """opening"""
    return f"{len(open_dataset(folder).clip_index):,} clips"


def open_and_plan(folder: str, clips: int) -> str:
    """opening, an epoch's plan"""
    index = open_dataset(folder).clip_index
    return _in_seconds("the plan alone", lambda: f"{len(_planned(index)):,} micro-batches")


def plan_of_words(folder: str, clips: int) -> str:
    """the same, in a stage of the curriculum, where every clip is cut by its words"""
    index = open_dataset(folder).clip_index
    settings = TrainSettings(curriculum=(Stage(epochs=1, max_words=3, max_frames=40),))
    return _in_seconds("the plan alone", lambda: f"{len(_planned(index, settings, 1)):,} micro-batches")


def deal_and_resume(folder: str, clips: int) -> str:
    """opening, a plan, dealing it to 64 ranks, half of it over, a hundred micro-batches of a rank with their texts"""
    planned = _planned(open_dataset(folder).clip_index)

    def deal() -> str:
        half = steps_in_epoch(len(planned), RANKS) // 2
        shares = [distribute_from(planned, RANKS, half, rank, RANKS) for rank in range(RANKS)]
        texts = sum(clip.text is not None for slot in shares[5][:100] if slot for clip in slot.clips)
        return f"{len(shares[5]):,} steps left, {texts:,} texts"

    return _in_seconds("dealing and texts alone", deal)


def plan_validation(folder: str, clips: int) -> str:
    """opening, a plan of the split val, references of its speakers"""
    index = open_dataset(folder).clip_index
    return _in_seconds(
        "the plan alone", lambda: f"{len(plan_references(index, plan_evaluation(index, ['val']))):,} references"
    )


PARTS: tuple[Callable[[str, int], str], ...] = (
    write_sidecars,
    merge_sidecars,
    verify_index,
    open_clip_index,
    open_and_plan,
    plan_of_words,
    deal_and_resume,
    plan_validation,
)


def _planned(index: ClipIndex, settings: TrainSettings = _SETTINGS, epoch: int = 1) -> PlannedBatches:
    return plan_epoch(index, ["train"], 0, epoch, segment_of(settings, epoch), settings.batch)


def _in_seconds(what: str, work: Callable[[], str]) -> str:
    began, cores_began = time.perf_counter(), time.process_time()
    note = work()
    seconds, of_cores = time.perf_counter() - began, time.process_time() - cores_began
    return f"{what}: {seconds:.1f} s, {of_cores:.1f} core-seconds; {note}"


def _alone(part: Callable[[str, int], str], folder: str, clips: int) -> tuple[float, float, float, str]:
    """Seconds by the clock, of all cores together, peak in megabytes and note of a part, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(part, folder, clips, theirs))
    process.start()
    theirs.close()
    try:
        found: tuple[float, float, float, str] = ours.recv()
    except EOFError as error:
        raise RuntimeError(f"{part.__name__}: its process died") from error
    finally:
        process.join()
    return found


def _run(part: Callable[[str, int], str], folder: str, clips: int, connection: Connection) -> None:
    began, cores_began = time.perf_counter(), time.process_time()
    note = part(folder, clips)
    connection.send((time.perf_counter() - began, time.process_time() - cores_began, peak_kilobytes() / 1000, note))


def _shards(clips: int) -> list[tuple[str, str, int]]:
    """Name, split and clips of each shard: 20 of val, at most half of all."""
    counts = [CLIPS_OF_SHARD] * (clips // CLIPS_OF_SHARD) + [clips % CLIPS_OF_SHARD] * bool(clips % CLIPS_OF_SHARD)
    val = min(_VAL_SHARDS, len(counts) // 2)
    splits = ["train"] * (len(counts) - val) + ["val"] * val
    return [
        (f"{split}-{at:06d}.tar", split, count) for at, (split, count) in enumerate(zip(splits, counts, strict=True))
    ]


def _sidecar(shard: str, split: str, count: int, first: int, random: np.random.Generator) -> str:
    """The JSON of a shard's sidecar; half of its clips are of the set pretrain."""
    offset, total, rows = 0, 0, []
    said = [_utterances()[at] for at in random.integers(0, len(_utterances()), count).tolist()]
    for number, (frames, text, words) in zip(range(first, first + count), said, strict=True):
        corpus_set, speaker = "pretrain" if number % 2 else "main", f"speaker{number % 200:03d}"
        key = f"{corpus_set}/{speaker}/{number:08d}"
        row: dict[str, Any] = {"key": key, "split": split, "set": corpus_set, "shard": shard, "frames": frames}
        row |= {"speaker": speaker, "source": f"{key}.mp4", "text": text, "roi_member": "roi.npy"}
        sizes = member_sizes(frames, roi_side(CROP_RADIUS))
        for member in MEMBERS:
            size = sizes[member_extension(member, "roi.npy")][0] + _HEADER_BYTES
            row[f"{member}_offset"], row[f"{member}_size"] = offset + 512, size
            offset += 512 + -(-size // 512) * 512
        rows.append(json.dumps(row)[:-1] + f',"words":[{words}]}}')
        total += frames
    body = f'{{"plan":"{_PLAN}","shard":"{shard}","split":"{split}","bytes":{offset + 1024},"sha256":"{"0" * 64}"'
    body += f',"rows":[{",".join(rows)}],"skipped":[],"versions":{{"numpy":"2"}}}}'
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f'{{"format":{FORMAT_VERSION},"digest":"{digest}","sidecar":{body}}}\n'


@cache
def _utterances() -> list[tuple[int, str, str]]:
    """What clips say: frames, text and words; each is of many clips, far from each other."""
    random = np.random.default_rng(1)
    return [(frames, *_words(frames, random)) for frames in random.integers(25, 336, 20_000).tolist()]


def _words(frames: int, random: np.random.Generator) -> tuple[str, str]:
    """A text of 2.8 words a second, and the JSON of its words; times are hundredths of a second."""
    count = max(1, round(frames / 25 * 2.8))
    edges = np.sort(random.integers(0, 4 * frames, count + 1)).tolist()
    words = [_VOCABULARY[at] for at in random.integers(0, len(_VOCABULARY), count).tolist()]
    timed = zip(words, edges[:-1], edges[1:], strict=True)
    return " ".join(words), ",".join(
        f'{{"word":"{word}","start":{start / 100},"end":{end / 100}}}' for word, start, end in timed
    )
