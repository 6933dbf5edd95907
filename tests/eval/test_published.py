"""Scores of the published implementation's own mels, by the published protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from eval.batch_synthesis import float_wave
from eval.metrics.pair_scores import score
from eval.settings import VOCODERS
from model.vocoders.mel_to_wav import mel_to_wav
from pipeline.media.sync import to_pcm16


@pytest.mark.parametrize("clip", range(3))
def test_published_protocol_gives_the_published_scores_to_the_spread_of_their_phases(
    reference: Path, clip: int
) -> None:
    arrays = np.load(reference / "d_griffin_lim.npz")
    mel = torch.from_numpy(arrays[f"mel_{clip}"][0])
    wave = mel_to_wav(mel, seeds=[clip], vocoder=VOCODERS["published"])[0].numpy()
    scored = score(["stoi", "estoi"], arrays[f"gt_{clip}"].astype(np.float32), float_wave(to_pcm16(wave)))
    stoi, estoi = arrays[f"scores_{clip}"].mean(axis=0)[:2]
    assert scored.values["stoi"] == pytest.approx(stoi, abs=0.015)
    assert scored.values["estoi"] == pytest.approx(estoi, abs=0.025)
