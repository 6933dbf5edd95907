"""The demo corpus on disk: who says what in which split, and files laid out as LRS2 lays out its own.

    OUT/LRS2-BBC/{main,pretrain}/<speaker>/<clip>.mp4 and .txt
    OUT/LRS2_crop/preprocess_{main,pretrain}.txt      lip centers, a line a clip
    OUT/{train,val,test}.txt (of main), pretrain.txt  a line a clip: <speaker>/<clip>
    OUT/demo.json                                     settings and totals, written last

Test clips show speakers of whom nothing else is in the corpus; no sentence is said twice. The whole is a
pure function of (clips, speakers, seed) and of the library versions, whatever the number of processes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.demo.clip import ClipPlan, ClipRecord, make
from pipeline.demo.grammar import sentence, words_of
from pipeline.demo.speakers import cast
from shards import Store

GENERATOR_VERSION = 1
SPLITS = ("train", "val", "test", "pretrain")

_COMPLETE, _UNDER_WAY = "demo.json", "demo.partial.json"
_SHARES = {"pretrain": 0.15, "val": 0.10, "test": 0.15}


@dataclass(frozen=True)
class CorpusSummary:
    """What the corpus at `path` holds: totals, clips a split, distinct words said, and the two clips whose
    timing is not plain, as `main/<speaker>/<clip>`."""

    path: str
    clips: int
    speakers: int
    seconds: float
    splits: dict[str, int]
    vocabulary: int
    late_sound: str
    variable_rate: str


def write_corpus(
    out: str | os.PathLike[str],
    *,
    clips: int = 240,
    speakers: int = 6,
    seed: int = 0,
    workers: int | None = None,
    on_clip: Callable[[int, int], None] | None = None,
) -> CorpusSummary:
    """Writes the corpus under the local folder `out`, unless it is there already, complete.

    `workers` processes (default: one a CPU; 1: none but this one); `on_clip(done, total)` after each clip.
    With more than one, a script must guard its entry point (`if __name__ == "__main__":`), since they are
    spawned. Raises ValueError for settings out of range and for an `out` that holds anything else,
    `speech.SpeechError` where espeak-ng is missing.
    """
    _check(clips, speakers, seed, workers)
    folder = Path(out)
    settings = {"version": GENERATOR_VERSION, "clips": clips, "speakers": speakers, "seed": seed}
    found = _existing(folder, settings)
    if found is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(str(folder))
    store.write(_UNDER_WAY, (json.dumps({"settings": settings}) + "\n").encode())

    plans = plan_corpus(clips, speakers, seed)
    records: list[ClipRecord | None] = [None] * len(plans)
    count = workers if workers is not None else os.cpu_count() or 1
    for done, (index, record) in enumerate(_make_all(plans, folder / "LRS2-BBC", count), start=1):
        records[index] = record
        if on_clip is not None:
            on_clip(done, len(plans))

    made = [(plan, record) for plan, record in zip(plans, records, strict=True) if record is not None]
    for clip_set in ("main", "pretrain"):
        lines = sorted(_centers_line(plan, record) for plan, record in made if plan.clip_set == clip_set)
        store.write(f"LRS2_crop/preprocess_{clip_set}.txt", "".join(lines).encode())
    for split in SPLITS:
        keys = sorted(plan.key for plan in plans if plan.split == split)
        store.write(f"{split}.txt", "".join(key + "\n" for key in keys).encode())

    odd = {plan.timing: f"{plan.clip_set}/{plan.key}" for plan in plans}
    summary = CorpusSummary(
        path=str(folder),
        clips=len(plans),
        speakers=speakers,
        seconds=round(sum(record.seconds for _, record in made), 2),
        splits={split: sum(plan.split == split for plan in plans) for split in SPLITS},
        vocabulary=len({word for plan in plans for text in plan.sentences for word in words_of(text)}),
        late_sound=odd["late_sound"],
        variable_rate=odd["variable_rate"],
    )
    totals = {key: value for key, value in asdict(summary).items() if key != "path"}
    store.write(_COMPLETE, (json.dumps({"settings": settings, "summary": totals}, indent=2) + "\n").encode())
    (folder / _UNDER_WAY).unlink(missing_ok=True)
    return summary


def plan_corpus(clips: int, speakers: int, seed: int) -> list[ClipPlan]:
    """The clips of a corpus, in order: about 60% train, 15% pretrain, 10% val, 15% test.

    The last third of the speakers, at least one, is in test and nowhere else.
    """
    people = cast(speakers, seed)
    unseen = max(1, round(speakers / 3))
    known, strangers = people[:-unseen], people[-unseen:]
    counts = {split: max(1, round(share * clips)) for split, share in _SHARES.items()}
    counts["test"] = max(counts["test"], unseen)
    counts["train"] = clips - sum(counts.values())

    rng = np.random.default_rng([seed, 2])
    used: set[str] = set()
    numbers: dict[tuple[str, str], int] = {}
    plans: list[ClipPlan] = []
    for split in SPLITS:
        clip_set = "pretrain" if split == "pretrain" else "main"
        group = strangers if split == "test" else known
        for index in range(counts[split]):
            speaker = group[index % len(group)]
            number = numbers[clip_set, speaker.name] = numbers.get((clip_set, speaker.name), 0) + 1
            lines = 1 if clip_set == "main" else int(rng.integers(2, 4))
            timing = {0: "late_sound", 1: "variable_rate"}.get(index, "plain") if split == "train" else "plain"
            texts = tuple(_new_sentence(rng, used) for _ in range(lines))
            clip_seed = int(rng.integers(2**31))
            plans.append(ClipPlan(clip_set, split, speaker, f"{number:05d}", texts, timing, clip_seed))
    return plans


def _new_sentence(rng: np.random.Generator, used: set[str]) -> str:
    while True:
        text = sentence(rng)
        if text not in used:
            used.add(text)
            return text


def _make_all(plans: list[ClipPlan], root: Path, workers: int) -> Iterator[tuple[int, ClipRecord]]:
    """(index, record) of every plan, as they come."""
    if workers == 1:
        for index, plan in enumerate(plans):
            yield index, make(plan, root)
        return
    # Spawned, not forked: a fork of a process that has run threads (torch, Ray) may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(plans)), mp_context=context) as pool:
        # Long clips first: none is left to run alone at the end.
        order = sorted(range(len(plans)), key=lambda index: -len(plans[index].sentences))
        futures = {pool.submit(make, plans[index], root): index for index in order}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _centers_line(plan: ClipPlan, record: ClipRecord) -> str:
    return f"{plan.key}.mp4:" + "/".join(f"{x}/{y}" for x, y in record.centers) + "\n"


def _existing(folder: Path, settings: dict[str, int]) -> CorpusSummary | None:
    """The summary of a corpus that is complete; None where one may be written; ValueError otherwise."""
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise ValueError(f"out: {folder} is a file; name a folder that is new or empty")
    complete, under_way = _read(folder / _COMPLETE), _read(folder / _UNDER_WAY)
    held = (complete or under_way or {}).get("settings")
    if held == settings:
        return CorpusSummary(path=str(folder), **complete["summary"]) if complete else None
    if held is not None:
        raise ValueError(
            f"out: {folder} holds a demo corpus of other settings ({held}, asked for {settings}); "
            "name another folder or remove it"
        )
    if any(folder.iterdir()):
        raise ValueError(f"out: {folder} is not empty and holds no demo corpus; name a new or empty folder")
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None


def _check(clips: int, speakers: int, seed: int, workers: int | None) -> None:
    if not 3 <= speakers <= 40:
        raise ValueError(f"speakers is {speakers}; accepted are 3 to 40 (a third of them is kept for test)")
    if not 3 * speakers <= clips <= 20000:
        raise ValueError(
            f"clips is {clips}; accepted with {speakers} speakers are {3 * speakers} to 20000 "
            "(every split needs a clip, and every speaker)"
        )
    if seed < 0:
        raise ValueError(f"seed is {seed}; accepted are whole numbers from 0")
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; accepted are whole numbers from 1, or none for one a CPU")
