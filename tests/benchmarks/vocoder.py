"""A neural vocoder beside Griffin-Lim: time and scores on ground-truth mels of a split, in one process, clip by clip.

python -m tests.benchmarks vocoder --vocoder runs/x-vocoder/best.pt --shards data/x --split val
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from model.vocoders.load_vocoder import load_vocoder
from model.vocoders.mel_to_wav import DEFAULT_GRIFFIN_LIM, GriffinLimSettings, mel_to_wav
from model.vocoders.neural_vocoder import Vocoder
from shards import Sample, open_dataset
from tests.benchmarks.griffin_lim import scored


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks vocoder", description=__doc__)
    parser.add_argument("--vocoder", required=True, help="checkpoint of the task vocoder")
    parser.add_argument("--shards", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--clips", type=int, default=None, help="default: all")
    values = parser.parse_args(arguments)
    torch.set_num_threads(1)
    samples = list(open_dataset(values.shards).samples(values.split))[: values.clips]
    for line in measure(samples, load_vocoder(values.vocoder)):
        print(line, flush=True)


def measure(samples: Sequence[Sample], vocoder: Vocoder) -> Iterator[str]:
    """Lines of a Markdown table: medians over the clips of times and of their ratios, means of scores."""
    vocoders: dict[str, GriffinLimSettings | Vocoder] = {"Griffin-Lim": DEFAULT_GRIFFIN_LIM, "neural": vocoder}
    taken: dict[str, list[float]] = {name: [] for name in vocoders}
    scores: dict[str, list[tuple[float, float, float]]] = {name: [] for name in vocoders}
    for number, sample in enumerate([samples[0], *samples]):  # the first is a warm-up
        for name, chosen in vocoders.items():
            mel = torch.tensor(sample.mel)[None]
            began = time.process_time()
            wav = mel_to_wav(mel, vocoder=chosen)[0].numpy()
            if number:
                taken[name].append(time.process_time() - began)
                scores[name].append(scored(wav, sample.wav / 32768))
    yield "| vocoder | ms a clip | Griffin-Lim's time / this | STOI | ESTOI | PESQ |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name in vocoders:
        pairs = zip(taken["Griffin-Lim"], taken[name], strict=True)
        ratio = statistics.median(griffin_lims / this for griffin_lims, this in pairs)
        means = np.nanmean(scores[name], axis=0)
        yield (
            f"| {name} | {1000 * statistics.median(taken[name]):.0f} | {ratio:.1f} "
            f"| {means[0]:.3f} | {means[1]:.3f} | {means[2]:.2f} |"
        )
