"""How many clips a second a training step does, from shards, beside the same network trained the plain way.

`shards` is what `python -m train` does, in the sizes of configs/demo.yaml: clips of about the same length are planned
into batches, a loader process reads their regions and mels, pictures are made ready for the whole batch, padding is
masked. `plain` is what one writes at first: a loader process decodes mp4s, crops and resizes picture by picture with
Pillow and computes the mel of a wav (written beforehand, untimed); random batches are padded with zeros to their
longest clip, and the network takes padding for frames. Sizes, losses, AdamW, clipping of gradients, float32 without
torch.compile and the one loader process are the same, and so is the mean number of clips a batch: an epoch takes as
many steps. What is timed is an epoch, after a warm-up; batches beyond it keep the loaders busy to its end.

`training` is reading and steps; `steps alone` are on batches in memory; `reading alone` takes no steps. A core-second
is one of CPU time, of both processes, for reading and steps: what counts where no core is idle. Clips are taken as they
are, and `cut` to a fifth of their length or more: in the wild lengths differ.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from pipeline.clip import Corpus, build_sample, stored_mel
from pipeline.config import BuildSettings
from pipeline.corpora import CorpusClip
from pipeline.tokenizer import train_on_dataset
from runtime.constants import SAMPLES_PER_FRAME
from shards import Sample
from shards.loading.batch_plan import plan_epoch
from shards.loading.collate import Batch
from shards.loading.loader import Batches, load
from shards.loading.planned_batches import MicroBatch
from tests.benchmarks.loader import written
from tests.benchmarks.plain_baseline import Example, PlainClips, padded, plain_step
from train.__main__ import parse
from train.build import build_trainer
from train.distributed import DistributedContext
from train.step import OptimizerStep
from train.trainer import Trainer

PUBLISHED_FORM = [
    *("--network.visual.front=resnet", "--network.visual.channels=8", "--network.intermediate_ctc=[]"),
    *("--network.posteriors=false", "--network.units=0", "--init_asr=null"),
    *("--losses.delta=0", "--losses.estoi=0"),
]
"""The network and losses that the plain baseline writes down, at the demo's sizes."""

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
_CLIPS = 48
_WARM_UP, _BEYOND = 2, 3
"""Batches before and after those that are timed."""


@dataclass(frozen=True)
class Way:
    """A way to train: what an epoch's batches are, in order; how they are read; a step. Batches have `lengths`."""

    plan: Callable[[int], list[Any]]
    read: Callable[[list[Any]], Batches | Generator[Any, None, None]]
    step: Callable[[Any], None]


class Rate(NamedTuple):
    """Clips and frames a second by the clock, and CPU time a clip where it is measured."""

    clips: float
    frames: float
    core_seconds: float = 0.0


def measure(settings: BuildSettings, clips: list[CorpusClip], runs: int) -> Iterator[str]:
    """Lines of the report: a Markdown table; ratios are medians over runs, in each of which the ways alternate."""
    corpus = Corpus.of(settings)
    samples = [build_sample(clip, settings, corpus) for clip in clips[:: max(1, len(clips) // _CLIPS)][:_CLIPS]]
    yield from table(settings, samples, runs, [])


def table(settings: BuildSettings, samples: list[Sample], runs: int, flags: list[str]) -> Iterator[str]:
    """`flags`, as of `python -m train`, go over those of the settings file."""
    columns = "".join(f"| {name}, clips/s | frames/s " for name in ("training", "steps alone", "reading alone"))
    yield (
        f"| {len(samples)} clips, {torch.get_num_threads()} thread and 1 loader process | padding {columns}"
        "| clips a core-second |"
    )
    yield f"|---{'|---:' * 8}|"
    lengths = random.Random(0)
    for name, least in (("as they are", 1.0), ("cut", 0.2)):
        cut = [cut_to(sample, lengths.uniform(least, 1.0)) for sample in samples]
        with tempfile.TemporaryDirectory() as folder:
            trainer = trainer_on(cut, folder, flags)
            ways = {"shards": from_shards(trainer), "plain": plainly(settings, cut, trainer, folder)}
            yield from rows(name, ways, runs)


def cut_to(sample: Sample, share: float) -> Sample:
    """The first part of a clip, at most 250 frames. Without its words' times, so that all of it is trained on."""
    frames = min(max(5, round(share * len(sample.roi))), 250)
    words, wav = sample.text.split(), sample.wav[: SAMPLES_PER_FRAME * frames]
    text = " ".join(words[: max(1, len(words) * frames // len(sample.roi))])
    meta = replace(sample.meta, split="train", frames=frames, lips=sample.meta.lips[:frames], words=[])
    return replace(sample, roi=sample.roi[:frames], mel=stored_mel(wav), wav=wav, text=text, meta=meta)


def rows(name: str, ways: dict[str, Way], runs: int) -> Iterator[str]:
    taken: list[list[list[float]]] = []
    for _ in range(runs):
        trained = [training(way) for way in ways.values()]
        read = [reading_alone(way) for way in ways.values()]
        stepped = [steps_alone(way, batches) for way, (_, batches) in zip(ways.values(), read, strict=True)]
        taken.append([cells(*rates) for rates in zip(trained, stepped, (rate for rate, _ in read), strict=True)])
    for number, (of, (_, batches)) in enumerate(zip(ways, read, strict=True)):
        medians = map(statistics.median, zip(*(run[number] for run in taken), strict=True))
        yield f"| {name}: {of} | {padding_of(batches):.0%} | {' | '.join(f'{median:,.1f}' for median in medians)} |"
    ratios = [[ours / plain for ours, plain in zip(*run, strict=True)] for run in taken]
    medians = map(statistics.median, zip(*ratios, strict=True))
    yield f"| {name}: shards / plain | | {' | '.join(f'{median:.2f}' for median in medians)} |"


def cells(trained: Rate, stepped: Rate, read: Rate) -> list[float]:
    busy = stepped.core_seconds + read.core_seconds
    return [trained.clips, trained.frames, stepped.clips, stepped.frames, read.clips, read.frames, 1 / busy]


def training(way: Way) -> Rate:
    with closing(way.read(planned(way))) as batches:
        for batch in islice(batches, _WARM_UP):
            way.step(batch)
        return timed(islice(batches, len(way.plan(1))), way.step)


def steps_alone(way: Way, batches: list[Any]) -> Rate:
    way.step(batches[0])
    began = core_seconds()
    rate = timed(batches, way.step)
    return rate._replace(core_seconds=(core_seconds() - began) / sum(len(batch.lengths) for batch in batches))


def reading_alone(way: Way) -> tuple[Rate, list[Any]]:
    """And the epoch's batches."""
    began, held, steps = core_seconds(), list[Any](), len(way.plan(1))
    with closing(way.read(planned(way))) as batches:
        held.append(next(batches))  # then a process is there to read
        rate = timed(islice(batches, _WARM_UP - 1 + steps), held.append)
        held += batches
    spent = (core_seconds() - began) / sum(len(batch.lengths) for batch in held)
    return rate._replace(core_seconds=spent), held[_WARM_UP : _WARM_UP + steps]


def core_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def planned(way: Way) -> list[Any]:
    return [*(2 * way.plan(0))[-_WARM_UP:], *way.plan(1), *(_BEYOND * way.plan(2))[:_BEYOND]]


def timed(batches: Iterable[Any], work: Callable[[Any], object]) -> Rate:
    began, clips, frames = perf_counter(), 0, 0
    for batch in batches:
        work(batch)
        clips += len(batch.lengths)
        frames += int(batch.lengths.sum())
    seconds = perf_counter() - began
    return Rate(clips / seconds, frames / seconds)


def padding_of(batches: list[Any]) -> float:
    """The share of an epoch's frames that is padding."""
    padded = sum(len(batch.lengths) * int(batch.lengths.max()) for batch in batches)
    return 1 - sum(int(batch.lengths.sum()) for batch in batches) / padded


def trainer_on(samples: list[Sample], folder: str, flags: list[str]) -> Trainer:
    """A run of the demo's settings on shards of these clips."""
    dataset = written(f"{folder}/shards", samples, "npy")
    train_on_dataset(dataset.store.url, vocabulary_size=4000)
    fixed = ["--device=cpu", "--splits=[train]"]
    fixed += ["--transforms.subtract_temporal_mean=false", "--batch.max_clips=null"]  # the plain way knows neither
    places = [f"--shards={dataset.store.url}", f"--out={folder}/run"]
    settings, _, _ = parse([f"--config={CONFIG}", *PUBLISHED_FORM, *fixed, *places, *flags])
    return build_trainer(settings, None, DistributedContext(0, 1, torch.device("cpu")))


def from_shards(trainer: Trainer) -> Way:
    dataset, settings = trainer.dataset, trainer.settings
    optimizer_step = OptimizerStep(trainer.task, trainer.model, settings, trainer.context)

    def plan(epoch: int) -> list[MicroBatch]:
        return list(plan_epoch(dataset.clip_index, settings.splits, settings.seed, epoch, settings=settings.batch))

    def read(planned: list[MicroBatch]) -> Batches:
        return load(dataset, planned, settings.loader(trainer.task.contents))

    def step(batch: Batch) -> None:
        optimizer_step.take(trainer.state, [batch], 1)

    return Way(plan, read, step)


def plainly(built: BuildSettings, samples: list[Sample], trainer: Trainer, folder: str) -> Way:
    """The plain way, in as many steps an epoch."""
    settings, steps, tokenizer = trainer.settings, len(from_shards(trainer).plan(1)), trainer.task.tokenizer
    assert tokenizer is not None
    videos = [str(Path(built.root) / sample.meta.source) for sample in samples]
    clips = PlainClips(videos, samples, tokenizer, settings.transforms, folder)

    def plan(epoch: int) -> list[list[int]]:
        order = random.Random(epoch).sample(range(len(clips)), len(clips))
        return [order[len(clips) * n // steps : len(clips) * (n + 1) // steps] for n in range(steps)]

    def read(batches: list[list[int]]) -> Generator[Example, None, None]:
        yield from DataLoader(clips, batch_sampler=batches, num_workers=settings.workers, collate_fn=padded)

    return Way(plan, read, plain_step(settings, tokenizer.vocabulary_size))
