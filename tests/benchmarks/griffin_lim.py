"""From mel to waveform: time beside librosa.griffinlim on the same mels, and how clear the speech still is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import librosa
import numpy as np
import torch
from pesq import NoUtterancesError, pesq
from pystoi import stoi

from model.mel import natural_log
from model.vocoders.mel_to_wav import PUBLISHED_GRIFFIN_LIM, GriffinLimSettings, deemphasize, mel_to_wav, transposed
from pipeline.clip import Corpus, build_sample
from pipeline.config import BuildSettings
from pipeline.corpora import CorpusClip
from shards import Sample

RATE = 16_000
VARIANTS = {
    "published": PUBLISHED_GRIFFIN_LIM,
    "non-negative": GriffinLimSettings(inversion="nonnegative", rounds=60, momentum=0.0),
    "non-negative, momentum": GriffinLimSettings(inversion="nonnegative", rounds=30),
    "joint": GriffinLimSettings(rounds=8),
    "joint (default)": GriffinLimSettings(),
    "joint, longer": GriffinLimSettings(rounds=60),
}


def measure(settings: BuildSettings, clips: list[CorpusClip], runs: int) -> Iterator[str]:
    """Lines of the report: a Markdown table. Times are of 10 of the clips one by one, scores of them all.

    The ratio is librosa's time over ours, each run's own, with librosa at 60 rounds of the published inversion.
    """
    corpus = Corpus.of(settings)
    samples = [build_sample(clip, settings, corpus) for clip in clips]
    waves: dict[str, Callable[[Sample], np.ndarray]] = {"librosa.griffinlim": by_librosa}
    waves |= {name: maker(settings) for name, settings in VARIANTS.items()}
    timed = samples[:10]
    taken: dict[str, list[float]] = {name: [] for name in waves}
    for _ in range(runs + 1):  # the first is a warm-up
        for name, make in waves.items():
            began = time.process_time()
            for sample in timed:
                make(sample)
            taken[name].append(time.process_time() - began)
    seconds = sum(len(sample.wav) for sample in timed) / RATE
    yield "| variant | rounds | ms a clip | real-time factor | librosa's time / ours | STOI | ESTOI | PESQ |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name, make in waves.items():
        cost = statistics.median(taken[name][1:])
        pairs = zip(taken["librosa.griffinlim"][1:], taken[name][1:], strict=True)
        ratio = statistics.median([librosas / ours for librosas, ours in pairs])
        scores = np.nanmean([scored(make(sample), sample.wav / 32768) for sample in samples], axis=0)
        rounds = VARIANTS[name].rounds if name in VARIANTS else PUBLISHED_GRIFFIN_LIM.rounds
        yield (
            f"| {name} | {rounds} | {1000 * cost / len(timed):.0f} | {cost / seconds:.4f} | {ratio:.1f} "
            f"| {scores[0]:.3f} | {scores[1]:.3f} | {scores[2]:.2f} |"
        )


def maker(settings: GriffinLimSettings) -> Callable[[Sample], np.ndarray]:
    return lambda sample: mel_to_wav(torch.from_numpy(sample.mel)[None], vocoder=settings)[0].numpy()


def by_librosa(sample: Sample) -> np.ndarray:
    """The published settings with librosa's Griffin-Lim, without momentum, in place of ours."""
    mel = PUBLISHED_GRIFFIN_LIM.mel
    magnitude = transposed(natural_log(torch.from_numpy(sample.mel), mel).exp(), mel).numpy()
    wav = librosa.griffinlim(
        magnitude,
        n_iter=PUBLISHED_GRIFFIN_LIM.rounds,
        momentum=0.0,
        n_fft=mel.n_fft,
        hop_length=mel.hop_length,
        win_length=mel.win_length,
        pad_mode="reflect",
        random_state=0,
    )
    return deemphasize(torch.from_numpy(wav), mel.preemphasis).clamp(-1, 1).numpy()


def scored(made: np.ndarray, sound: np.ndarray) -> tuple[float, float, float]:
    """STOI, ESTOI, narrow-band PESQ (NaN where it finds no utterance), over the common length."""
    length = min(len(made), len(sound))
    made, sound = made[:length], sound[:length]
    low_made, low_sound = (librosa.resample(wav, orig_sr=RATE, target_sr=8000) for wav in (made, sound))
    try:
        quality = pesq(8000, low_sound, low_made, "nb")
    except NoUtterancesError:
        quality = float("nan")
    return stoi(sound, made, RATE), stoi(sound, made, RATE, extended=True), quality
