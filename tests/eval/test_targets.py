"""A clip's distance and its sound are its own: of whatever batch it is in, and seeded by its key."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eval.targets import l1_of, waves_of
from model.losses import mel_l1


def test_a_clip_has_the_distance_and_the_sound_that_it_has_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    mel, true = (torch.rand(3, 80, 40, generator=generator) - 0.5 for _ in range(2))
    lengths, keys = torch.tensor([40, 25, 31]), ["main/a/0", "main/a/1", "main/b/0"]
    l1, waves = l1_of(mel, true, lengths), waves_of(mel, lengths, keys)
    assert waves.shape == (3, 39 * 160)
    for number, length in enumerate(lengths.tolist()):
        one = slice(number, number + 1)
        part = mel[one, :, :length], true[one, :, :length], lengths[one]
        assert float(l1[number]) == pytest.approx(float(mel_l1(*part, "masked")), rel=1e-6)
        alone = waves_of(part[0], lengths[one], keys[one])[0]
        np.testing.assert_allclose(waves[number, : len(alone)], alone, atol=1e-5)  # float32
        assert not waves[number, len(alone) :].any()


def test_start_phases_are_those_of_the_key() -> None:
    mel, length = torch.rand(1, 80, 30, generator=torch.Generator().manual_seed(1)) - 0.5, torch.tensor([30])
    first, again, other = (waves_of(mel, length, [key]) for key in ("main/a/0", "main/a/0", "main/a/1"))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-3)
