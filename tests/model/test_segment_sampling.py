"""Segments, windows and speaker references lie inside their clips, and text, sound and picture are cut together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.mel import log_mel
from model.segment_sampling import (
    SPEAKER_FRAMES_PADDED,
    Segment,
    SegmentSettings,
    Windows,
    Word,
    draw_windows,
    draw_words,
    first_windows,
    loudest_windows,
    speaker_reference,
    take_window,
    whole_clip,
    whole_windows,
)


def spoken(count: int, seconds: float = 0.4, start: float = 0.0) -> list[Word]:
    """Words without pauses between them."""
    return [(f"w{i}", round(start + i * seconds, 2), round(start + (i + 1) * seconds, 2)) for i in range(count)]


def run_of(segment: Segment) -> tuple[int, int]:
    """Numbers of the first of its words and of the one after its last, where words are named w0, w1, ..."""
    assert segment.text
    numbers = [int(word.removeprefix("w")) for word in segment.text.split(" ")]
    return numbers[0], numbers[-1] + 1


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def clips(draw: st.DrawFn) -> tuple[list[Word], int]:
    """Words in order, with pauses and a length in hundredths of a second, and the clip's frames."""
    at, words = 0, []
    for number in range(draw(st.integers(0, 40))):
        start = at + draw(st.integers(0, 60))
        at = start + draw(st.integers(1, draw(st.sampled_from([60, 60, 1500]))))
        words.append((f"w{number}", start / 100, at / 100))
    frames = max(1, at // 4 + draw(st.integers(-10, 20)))  # corpora time last words a little beyond the end, too
    return words, frames


@settings(max_examples=300)
@given(clips(), st.integers(0, 2**32))
def test_segment_lies_inside_its_clip_and_its_text_inside_the_segment(clip: tuple[list[Word], int], seed: int) -> None:
    words, frames = clip
    segment = draw_words(words, frames, Random(seed))
    assert 0 <= segment.start_frame < segment.stop_frame <= frames
    assert min(5, frames) <= segment.stop_frame - segment.start_frame <= 250
    if segment.text is None:
        return
    first, stop = run_of(segment)
    chosen = words[first:stop]
    assert 1 <= len(chosen) <= 20
    assert segment.text == " ".join(word for word, _, _ in chosen)
    assert segment.start_frame <= chosen[0][1] * 25 + 1e-6
    assert all(min(end * 25, frames) <= segment.stop_frame + 1e-6 for _, _, end in chosen)
    assert segment == draw_words(words, frames, Random(seed))


def test_runs_are_of_4_to_20_words_from_anywhere_in_the_clip() -> None:
    words = spoken(30, seconds=0.2)
    drawn = [draw_words(words, 150, Random(seed)) for seed in range(3000)]
    runs = [run_of(segment) for segment in drawn]
    counts = Counter(stop - first for first, stop in runs)
    assert sorted(counts) == list(range(4, 21))
    assert min(counts.values()) > 3000 / 17 * 0.6  # five deviations of a fair draw
    assert {first for first, stop in runs if stop - first == 4} == set(range(27))
    for segment, (first, stop) in zip(drawn, runs, strict=True):
        assert (segment.start_frame, segment.stop_frame) == (5 * first, 5 * stop)
        assert segment.text == " ".join(word for word, _, _ in words[first:stop])


def test_clip_of_few_words_gives_all_of_them() -> None:
    for count in (1, 3, 4):
        segment = draw_words(spoken(count, start=0.4), 100, Random(0))
        assert (segment.start_frame, segment.stop_frame) == (10, 10 + 10 * count)
        assert run_of(segment) == (0, count)


def test_first_word_at_zero_seconds_stays_the_first() -> None:
    segment = draw_words([("so", 0.0, 0.31), ("it", 0.33, 0.9), ("is", 0.9, 1.33)], 60, Random(0))
    assert (segment.start_frame, segment.stop_frame, segment.text) == (0, 34, "so it is")


def test_frames_are_rounded_outwards_from_times_as_they_are_written() -> None:
    # 25 * 0.28 is a little more than 7 in floating point, and 25 * 1.16 a little less than 29
    assert draw_words([("a", 0.0, 0.28)], 60, Random(0)).stop_frame == 7
    assert draw_words([("a", 1.16, 2.0)], 60, Random(0)).start_frame == 29
    segment = draw_words([("a", 0.27, 0.61)], 60, Random(0))
    assert (segment.start_frame, segment.stop_frame) == (6, 16)


def test_run_that_is_too_long_loses_words_at_its_end() -> None:
    words = spoken(20, seconds=0.8)  # 20 frames each: 12 fit
    for seed in range(100):
        segment = draw_words(words, 400, Random(seed))
        first, stop = run_of(segment)
        count = stop - first
        assert count <= 12
        assert segment.stop_frame - segment.start_frame == 20 * count
    assert draw_words(spoken(3, seconds=6.0), 450, Random(0)).text == "w0"


def test_word_that_is_too_long_is_cut_and_has_no_text() -> None:
    segment = draw_words([("aaah", 1.0, 12.0), ("yes", 12.0, 12.4)], 400, Random(0))
    assert (segment.start_frame, segment.stop_frame, segment.text) == (25, 275, None)


def test_very_short_word_is_widened_within_its_clip() -> None:
    segment = draw_words([("a", 1.0, 1.04)], 60, Random(0))
    assert (segment.start_frame, segment.stop_frame, segment.text) == (25, 30, "a")
    segment = draw_words([("a", 2.3, 2.38)], 60, Random(0))
    assert (segment.start_frame, segment.stop_frame, segment.text) == (55, 60, "a")
    segment = draw_words([("a", 0.0, 0.1)], 3, Random(0))
    assert (segment.start_frame, segment.stop_frame) == (0, 3)


def test_words_after_the_clip_are_no_part_of_its_text() -> None:
    words = [("one", 0.0, 1.0), ("two", 1.0, 2.1), ("three", 2.1, 2.9)]
    segment = draw_words(words, 50, Random(0))
    assert (segment.stop_frame, segment.text) == (50, "one two")


def test_clips_without_word_times_are_used_whole_and_without_text() -> None:
    assert draw_words([], 60, Random(0)) == whole_clip(None, 60)
    assert whole_clip(None, 300).stop_frame == 250


def test_clip_used_whole_keeps_its_text_unless_it_is_cut() -> None:
    assert (whole_clip("bin blue", 250).stop_frame, whole_clip("bin blue", 250).text) == (250, "bin blue")
    assert (whole_clip("bin blue", 251).stop_frame, whole_clip("bin blue", 251).text) == (250, None)


def test_segment_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="5 to 4 words"):
        SegmentSettings(min_words=5, max_words=4)
    with pytest.raises(ValueError, match="0 to 250 frames"):
        SegmentSettings(min_frames=0)


@settings(max_examples=100)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=10), st.integers(1, 120), st.integers(0, 2**32))
def test_windows_lie_inside_their_clips(frames: list[int], size: int, seed: int) -> None:
    lengths = torch.tensor(frames)
    mel = torch.randn(len(frames), 3, max(frames), generator=seeded(seed))
    for windows in (
        draw_windows(lengths, seeded(seed), size),
        first_windows(lengths, size),
        loudest_windows(mel, lengths, size),
    ):
        assert torch.equal(windows.sizes, lengths.clamp_max(size))
        assert (windows.starts >= 0).all()
        assert (windows.starts + windows.sizes <= lengths).all()


def test_windows_are_placed_uniformly_and_the_seed_decides() -> None:
    lengths = torch.full((8000,), 57)
    starts = draw_windows(lengths, seeded()).starts
    counts = torch.bincount(starts)
    assert len(counts) == 8  # 0 to 7, ends included
    assert counts.min() > 1000 * 0.85  # five deviations of a fair draw
    assert torch.equal(starts, draw_windows(lengths, seeded()).starts)
    assert not torch.equal(starts, draw_windows(lengths, seeded(1)).starts)


def test_whole_windows_are_whole_clips() -> None:
    lengths = torch.tensor([400, 3])
    starts, sizes = whole_windows(lengths)
    assert (starts.tolist(), sizes.tolist()) == ([0, 0], [400, 3])


@pytest.mark.parametrize("dim", [1, 2, -1])
def test_window_is_a_slice_of_each_clip_filled_up_at_its_end(dim: int) -> None:
    x = torch.randn(2, 9, 9, generator=seeded())
    taken = take_window(x, torch.tensor([2, 6]), torch.tensor([5, 2]), 5, dim=dim, fill=-1.0).movedim(dim, 1)
    x = x.movedim(dim, 1)
    assert torch.equal(taken[0], x[0, 2:7])
    assert torch.equal(taken[1, :2], x[1, 6:8])
    assert (taken[1, 2:] == -1).all()


def test_window_may_be_longer_than_what_there_is_to_take() -> None:
    x = torch.ones(1, 4, 2)
    taken = take_window(x, torch.tensor([2]), torch.tensor([6]), 8, fill=7.0)
    assert taken[0, :, 0].tolist() == [1, 1, 7, 7, 7, 7, 7, 7]
    pictures = take_window(torch.ones(2, 1, 6, 4, 4), torch.tensor([0, 3]), torch.tensor([2, 3]), 3, dim=2)
    assert pictures.sum(dim=(1, 3, 4)).tolist() == [[16, 16, 0], [16, 16, 16]]


def test_take_window_has_gradients_of_the_frames_that_were_taken_only() -> None:
    x = torch.randn(2, 6, 3, generator=seeded(), requires_grad=True)
    take_window(x, torch.tensor([1, 4]), torch.tensor([3, 2]), 4).sum().backward()
    assert x.grad is not None
    assert x.grad[:, :, 0].tolist() == [[0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]


@pytest.mark.parametrize("clip", ["long", "short"])
def test_sound_and_mel_of_a_window_are_the_published_ones(reference: Path, clip: str) -> None:
    arrays = np.load(reference / "a_train_windows.npz")
    starts = torch.tensor([int(arrays[f"{clip}_{seed}_start"]) for seed in (0, 3, 11)])
    windows = Windows(starts, torch.tensor([50, 50, 50]))
    # the three windows overlap and hold the clip's peak: together they are its sound from the first start on
    first, frames = int(starts.min()), int(starts.max()) + 50
    sound = torch.zeros(frames * 640)
    for seed, start in zip((0, 3, 11), starts.tolist(), strict=True):
        sound[start * 640 : (start + 50) * 640] = torch.from_numpy(arrays[f"{clip}_{seed}_audio"])
    part = log_mel(sound[first * 640 :])
    mel = F.pad(part, (4 * first, 0), value=torch.nan)
    cut = take_window(sound.expand(3, -1), *windows.scaled(640), length=32_000)
    mels = take_window(mel.expand(3, -1, -1), *windows.scaled(4), length=200, dim=2, fill=-1.0)
    for row, seed in enumerate((0, 3, 11)):
        expected = arrays[f"{clip}_{seed}_mel"][0]
        assert np.array_equal(cut[row].numpy(), arrays[f"{clip}_{seed}_audio"])
        # not at the ends of what is known of the clip, where its STFT saw more: the window is 4 mel frames wide
        known = np.ones(200, dtype=bool)
        known[: 2 if starts[row] == first else 0] = False
        known[198 if starts[row] + 50 == frames else 200 :] = False
        missing = (expected == 0).all(axis=0)  # published: sound that is missing is 0
        assert np.abs(mels[row].numpy() - expected)[:, known & ~missing].max() < 1e-4
        assert (mels[row].numpy()[:, missing] == -1).all()
        assert missing.any() == (clip == "short" and seed == 11)


def ramp(*lengths: int) -> tuple[Tensor, Tensor]:
    """Mels whose level is the frame's number, 1 for the first, and their lengths."""
    longest = max(lengths)
    frames = torch.arange(1.0, longest + 1).expand(len(lengths), 80, longest)
    return frames, torch.tensor(lengths)


def test_speaker_reference_in_training_is_50_drawn_frames_and_50_zeros() -> None:
    mel, lengths = ramp(300, 120)
    windows = draw_windows(lengths, seeded())
    reference, sizes = speaker_reference(mel, windows, SPEAKER_FRAMES_PADDED)
    assert reference.shape == (2, 80, 100)
    for row, start in zip(reference, windows.starts.tolist(), strict=True):
        assert row[7, :50].tolist() == list(range(start + 1, start + 51))
        assert (row[:, 50:] == 0).all()
    assert sizes.tolist() == [50, 50]


def test_published_reference_in_evaluation_is_the_first_50_frames_unpadded() -> None:
    mel, lengths = ramp(300, 120)
    reference, sizes = speaker_reference(mel, first_windows(lengths))
    assert torch.equal(reference, mel[:, :, :50])
    assert sizes.tolist() == [50, 50]


def test_clip_shorter_than_a_reference_gives_what_it_has_and_zeros() -> None:
    mel, lengths = ramp(300, 20)
    for windows in (draw_windows(lengths, seeded()), first_windows(lengths), loudest_windows(mel, lengths)):
        reference, sizes = speaker_reference(mel, windows)
        assert reference[1, 0].tolist() == [*range(1, 21), *[0] * 30]
        assert sizes.tolist() == [50, 20]


def test_loudest_window_is_where_the_mean_level_is_highest_within_the_clip() -> None:
    mel = torch.full((3, 80, 200), -1.0)
    mel[0, :40, 60:110] = 0.5
    mel[1, :, 100:150] = 0.2
    mel[1, :, 170:] = 3.0  # beyond the clip's length
    mel[2, :, 30:45] = 1.0
    windows = loudest_windows(mel, torch.tensor([200, 160, 45]))
    assert windows.starts.tolist() == [60, 100, 0]
    assert windows.sizes.tolist() == [50, 50, 45]
    assert loudest_windows(mel[:, :, :30], torch.tensor([30, 20, 5])).sizes.tolist() == [30, 20, 5]


@pytest.mark.parametrize("clip", range(6))
def test_published_draws_of_a_reference_lie_in_the_range_drawn_from_here(reference: Path, clip: int) -> None:
    arrays = np.load(reference / "a_audio_mel.npz")
    start, frames = int(arrays[f"sp_start_{clip}"]), 4 * int(arrays[f"num_v_frames_{clip}"])
    starts = draw_windows(torch.full((20_000,), frames), seeded()).starts
    assert (int(starts.min()), int(starts.max())) == (0, frames - 50)
    assert start in starts
