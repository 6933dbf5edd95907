"""Waveforms of a report's folder: read, and drawn as mel and as SVG."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from model.mel import log_mel
from runtime.constants import HOP_LENGTH, N_MELS, SAMPLE_RATE
from runtime.images import mel_data_uri
from runtime.limits import MAX_WAV_BYTES
from runtime.regular_file import is_inside, open_regular
from shards.format.wav import WAV_DAMAGE

Array = np.ndarray[Any, Any]

_COLUMNS = 400  # of a waveform's picture


class WaveformError(ValueError):
    """There is no such waveform in the folder; says why."""


def read_waveform(folder: Path, name: str | None, length: int) -> Array:
    """int16 (L,) at 16 kHz, the first `length` samples of a file in the folder; the name comes from a table, and may
    not lead out of the folder. `WaveformError` where there is none, or it is not 16 kHz mono PCM16."""
    if not name:
        raise WaveformError("no sound was kept")
    file = folder / name
    if not is_inside(file, folder):
        raise WaveformError(f"{name} lies outside of the report's folder")
    try:
        with open_regular(file, MAX_WAV_BYTES) as opened, wave.open(opened) as sound:
            form = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
            content = sound.readframes(length)
    except FileNotFoundError as error:
        raise WaveformError(f"{name} is missing") from error
    except (*WAV_DAMAGE, OSError) as error:
        raise WaveformError(f"{name} cannot be read") from error
    if form != (1, 2, SAMPLE_RATE) or len(content) < 2:
        raise WaveformError(f"{name} is not a sound of 16 kHz and one channel")
    return np.frombuffer(content[: len(content) // 2 * 2], "<i2").astype(np.int16)


def draw_mel(samples: Array, length: int) -> str:
    """The mel of a waveform as it is measured everywhere, of `length` samples of time, silence where the sound has
    ended; empty for less than a mel can be measured of."""
    try:
        mel = log_mel(torch.from_numpy(samples.astype(np.float32)))[:, : len(samples) // HOP_LENGTH].numpy()
    except ValueError:
        return ""
    frames = max(1, length // HOP_LENGTH)
    whole = np.full((N_MELS, frames), -1.0, np.float32)
    whole[:, : min(frames, mel.shape[1])] = mel[:, :frames]
    return mel_data_uri(whole)


def draw_scale() -> str:
    """What colours of mels mean, from silence to loud."""
    return mel_data_uri(np.linspace(-1, 1, 128, dtype=np.float32)[None].repeat(2, axis=0))


def draw_wave(samples: Array, length: int) -> Markup:
    """The extent of a waveform over `length` samples of time, its peak to full height, as an svg path's element."""
    whole = np.zeros(max(length, _COLUMNS), np.float64)
    whole[: min(len(samples), len(whole))] = samples[: len(whole)] / max(1, int(np.abs(samples.astype(int)).max()))
    starts = np.linspace(0, len(whole), _COLUMNS, endpoint=False).astype(int)
    highest = np.maximum.reduceat(whole, starts)
    lowest = np.minimum.reduceat(whole, starts)
    # at least a line of height 0.4, so that silence is visible
    top, bottom = 20 - 19 * highest - 0.2, 20 - 19 * lowest + 0.2
    up = "L".join(f"{x} {y:.1f}" for x, y in enumerate(top))
    down = "L".join(f"{_COLUMNS - 1 - x} {y:.1f}" for x, y in enumerate(bottom[::-1]))
    return Markup('<svg class="wave" viewBox="0 0 {} 40" preserveAspectRatio="none" aria-hidden="true">').format(
        _COLUMNS - 1
    ) + Markup('<path d="M{}L{}Z"/></svg>').format(up, down)
