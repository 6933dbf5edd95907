"""Voices are taken from any file that has sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from eval.reference_audio import reference_of
from model.mel import MelSettings, log_mel
from tests.corpora import pictures, write_video


@pytest.mark.parametrize("name", ["voice.wav", "voice.flac", "voice.mp4"])
def test_reference_is_the_loudest_half_second_of_whatever_has_sound(tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(2)
    sound = random.normal(0, 0.001, 48_000).astype(np.float32)
    sound[24_000:32_000] = random.normal(0, 0.1, 8_000)
    path = tmp_path / name
    if name.endswith("mp4"):
        write_video(path, pictures(75), sound)
    else:
        soundfile.write(path, sound, 16_000, subtype="PCM_16")
        sound = soundfile.read(path, dtype="float32")[0]
    reference = reference_of(path, MelSettings())
    assert reference is not None
    assert reference.shape == (80, 50)
    mel = log_mel(torch.from_numpy(sound))
    start = max(range(mel.shape[1] - 49), key=lambda start: float(mel[:, start : start + 50].mean()))
    assert 147 <= start <= 153
    expected = mel[:, start : start + 50]
    if name.endswith("mp4"):  # AAC changes single levels, and their mean by little: that of the quiet is 0.8 away
        assert float(reference.mean()) == pytest.approx(float(expected.mean()), abs=0.03)
    else:
        assert torch.allclose(reference, expected, atol=1e-5)  # float32
