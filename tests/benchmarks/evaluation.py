"""Mels to scores: Griffin-Lim and all default metrics on all cores, beside the plain loop, clip after clip."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from eval.batch_synthesis import BatchSynthesizer, SynthesizedBatch, SynthesizedClip, float_wave
from eval.executors import RayExecutor, start_executor
from eval.local_executor import LocalExecutor
from eval.metrics.pair_scores import score
from eval.metrics.pitch import f0_track
from eval.metrics.scoring_process import METRIC_SECONDS
from model.vocoders.mel_to_wav import PUBLISHED_GRIFFIN_LIM, GriffinLimSettings, mel_to_wav, sample_counts
from pipeline.clip import Corpus, build_sample
from pipeline.config import BuildSettings
from pipeline.corpora import CorpusClip
from pipeline.media.sync import to_pcm16
from runtime.ray_jobs import job_runner
from shards import Sample
from shards.loading.planned_batches import MicroBatch, PlannedClip
from tests.benchmarks.griffin_lim import by_librosa

METRICS = ("stoi", "estoi", "pesq", "pesq_wide", "lsd", "mcd", "f0_error", "voicing_error")
BATCH = 8


def measure(settings: BuildSettings, clips: list[CorpusClip], runs: int) -> Iterator[str]:
    """Lines of the report: a Markdown table. The plain loop has librosa's Griffin-Lim, 60 rounds, in one process.

    Ratios are of times in the same run.
    """
    corpus = Corpus.of(settings)
    samples = [build_sample(clip, settings, corpus) for clip in clips]
    taken: dict[str, list[float]] = {"plain loop": [], "published": [], "default": []}
    batches = batches_of(samples)
    planned = [MicroBatch(number, 0, (PlannedClip(number, 0, 1, None, True),)) for number in range(len(batches))]
    beside = "cpu", len(batches), METRIC_SECONDS
    with (
        job_runner(None, None) as runner,
        start_executor(runner, partial(Sounds, batches, PUBLISHED_GRIFFIN_LIM), *beside) as published,
        start_executor(runner, partial(Sounds, batches, GriffinLimSettings()), *beside) as default,
    ):
        everyone = {
            "plain loop": lambda: plain(samples),
            "published": lambda: ours(published, planned),
            "default": lambda: ours(default, planned),
        }
        for _ in range(runs + 1):  # the first is a warm-up
            for name in taken:
                began = time.perf_counter()
                everyone[name]()
                taken[name].append(time.perf_counter() - began)
        cores = runner.processors()
    yield f"{cores} cores\n"
    yield "| | Griffin-Lim | clips a second | beside the plain loop |"
    yield "|---|---|---:|---:|"
    rounds = {"plain loop": "librosa, 60 rounds", "published": "60 rounds", "default": "30 rounds that keep to the mel"}
    for name, times in taken.items():
        ratio = statistics.median(a / b for a, b in zip(taken["plain loop"][1:], times[1:], strict=True))
        yield f"| {name} | {rounds[name]} | {len(samples) / statistics.median(times[1:]):.1f} | {ratio:.1f} |"


def plain(samples: list[Sample]) -> None:
    """Clip after clip, as the published scoring has it; F0 is tracked once for both of its metrics."""
    f0_track.cache_clear()
    for sample in samples:
        made, sound = by_librosa(sample).astype(np.float32), float_wave(sample.wav)
        score(METRICS, sound, made)


def ours(everyone: LocalExecutor | RayExecutor, planned: list[MicroBatch]) -> None:
    """Actors make sound of batches of mels, tasks score it."""
    for batch, scores in everyone.run(planned, METRICS):
        assert len(scores) == len(batch.clips)


def batches_of(samples: list[Sample]) -> list[list[Sample]]:
    """Clips of about the same length together."""
    ordered = sorted(samples, key=lambda sample: len(sample.wav), reverse=True)
    return [ordered[first : first + BATCH] for first in range(0, len(ordered), BATCH)]


class Sounds(BatchSynthesizer):
    """Stands for `BatchSynthesizer`: the waveforms of ground-truth mels."""

    def __init__(self, batches: list[list[Sample]], vocoder: GriffinLimSettings, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._batches, self._vocoder = batches, vocoder

    def synthesize(self, micro_batch: MicroBatch) -> SynthesizedBatch:
        samples = self._batches[micro_batch.number]
        lengths = torch.tensor([sample.mel.shape[1] for sample in samples])
        mels = torch.full((len(samples), 80, int(lengths.max())), -1.0)
        for mel, sample in zip(mels, samples, strict=True):
            mel[:, : sample.mel.shape[1]] = torch.from_numpy(sample.mel)
        waves = to_pcm16(mel_to_wav(mels, lengths, range(len(samples)), self._vocoder).numpy())
        ends = sample_counts(lengths).tolist()
        clips = [_clip(sample, wave[:end]) for sample, wave, end in zip(samples, waves, ends, strict=True)]
        return SynthesizedBatch(micro_batch.number, clips, [])


def _clip(sample: Sample, wave: np.ndarray[Any, Any]) -> SynthesizedClip:
    waves = {"ceiling": wave, "original": sample.wav}
    return SynthesizedClip(sample.key, "", None, sample.meta.frames, "self", waves)
