"""CTC outputs become tokens: the best path, and a prefix beam search that answers what the published one does."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import groupby, product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model import prefix_search
from model.ctc import BeamSettings, Hypothesis, beam_search, greedy

REFERENCE_TOLERANCE = 2e-4
"""Of a score: the published decoder sums in float32, whose steps are 3e-5 at the scores of a few hundred met there."""


def log_probs(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator) * scale).log_softmax(dim=-1)


def search_one(frames: Tensor, settings: BeamSettings = BeamSettings(), n_best: int = 1) -> list[Hypothesis]:  # noqa: B008
    """The answers for one clip (T, V), all of whose frames count."""
    return beam_search(frames[None], torch.tensor([len(frames)]), settings, n_best)[0]


def collapse(path: list[int] | tuple[int, ...], blank: int = 0) -> list[int]:
    """Tokens of an alignment, by definition."""
    return [symbol for symbol, _ in groupby(path) if symbol != blank]


def sums_over_alignments(frames: Tensor, blank: int = 0) -> dict[tuple[int, ...], float]:
    """-log p of every sequence, by going through every alignment."""
    probability: dict[tuple[int, ...], float] = defaultdict(float)
    values = frames.double().exp().numpy()
    for path in product(range(frames.shape[1]), repeat=len(frames)):
        probability[tuple(collapse(path, blank))] += math.prod(values[t, symbol] for t, symbol in enumerate(path))
    return {tokens: -math.log(p) for tokens, p in probability.items()}


def textbook_search(frames: Tensor, beam: int, top: int) -> list[tuple[tuple[int, ...], float]]:
    """Prefix beam search with whole prefixes as keys and probabilities as they are."""
    held: dict[tuple[int, ...], tuple[float, float]] = {(): (1.0, 0.0)}
    for row in frames.double().exp().tolist():
        following: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for symbol in sorted(range(len(row)), key=row.__getitem__, reverse=True)[:top]:
            for prefix, (in_blank, in_symbol) in held.items():
                if symbol == 0:
                    following[prefix][0] += (in_blank + in_symbol) * row[0]
                elif prefix[-1:] == (symbol,):
                    following[prefix][1] += in_symbol * row[symbol]
                    following[(*prefix, symbol)][1] += in_blank * row[symbol]
                else:
                    following[(*prefix, symbol)][1] += (in_blank + in_symbol) * row[symbol]
        best = sorted(following.items(), key=lambda item: -sum(item[1]))[:beam]
        held = {prefix: (in_blank, in_symbol) for prefix, (in_blank, in_symbol) in best if in_blank + in_symbol > 0}
    return [(prefix, -math.log(sum(both))) for prefix, both in held.items()]


@pytest.mark.parametrize("kind", ["easy", "hard"])
def test_beam_search_gives_all_thirty_hypotheses_of_the_published_decoder(reference: Path, kind: str) -> None:
    arrays = np.load(reference / f"f_ctc_{kind}.npz")
    for clip in range(20):
        answers = search_one(torch.from_numpy(arrays[f"probs_{clip}"]).log(), n_best=30)
        tokens, lengths = arrays[f"nbest_tokens_{clip}"], arrays[f"nbest_len_{clip}"]
        expected = {
            tuple(row[:length].tolist()): float(score)
            for row, length, score in zip(tokens, lengths, arrays[f"nbest_scores_{clip}"], strict=True)
        }
        assert {tuple(answer.tokens) for answer in answers} == set(expected)
        scores = [expected[tuple(answer.tokens)] for answer in answers]
        np.testing.assert_allclose([answer.score for answer in answers], scores, atol=REFERENCE_TOLERANCE, rtol=0)
        assert np.diff(scores).min() > -REFERENCE_TOLERANCE, "the order is theirs, but for scores that are equal there"
        assert answers[0].tokens == arrays[f"tokens_{clip}"].tolist()
        assert answers[0].frames == arrays[f"timesteps_{clip}"].tolist()


def test_beam_search_beats_the_best_path_on_flat_outputs(reference: Path) -> None:
    """The reference says of its arrays that the best path agrees on 7 of 20, and on 19 of 20 peaky ones."""
    agreements = {}
    for kind in ("easy", "hard"):
        arrays = np.load(reference / f"f_ctc_{kind}.npz")
        agreements[kind] = sum(
            greedy(torch.from_numpy(probs)[None], torch.tensor([len(probs)]))[0] == arrays[f"tokens_{clip}"].tolist()
            for clip in range(20)
            if (probs := arrays[f"probs_{clip}"]) is not None
        )
    assert agreements == {"easy": 19, "hard": 7}


@pytest.mark.parametrize(("frames", "vocabulary", "blank"), [(1, 2, 0), (4, 3, 0), (4, 3, 2), (6, 3, 0), (5, 4, 1)])
def test_beam_search_with_room_for_every_prefix_sums_over_all_alignments(
    frames: int, vocabulary: int, blank: int
) -> None:
    clip = log_probs(frames, vocabulary, seed=frames)
    expected = sums_over_alignments(clip, blank)
    answers = search_one(clip, BeamSettings(beam=1000, blank=blank), n_best=1000)
    assert len(answers) == len(expected)
    for answer in answers:  # float32 log-probabilities that are summed in float64 on both sides
        assert answer.score == pytest.approx(expected[tuple(answer.tokens)], abs=1e-6)
    assert [answer.score for answer in answers] == sorted(answer.score for answer in answers)


@pytest.mark.parametrize("beam", [1, 2, 3, 5, 8])
def test_beam_search_with_a_narrow_beam_is_the_textbooks(beam: int) -> None:
    """Small vocabularies make prefixes leave the beam and come back, and repeats frequent."""
    for seed in range(40):
        clip = log_probs(12, 3 + seed % 3, seed=seed, scale=0.8)
        expected = textbook_search(clip, beam, top=3)
        answers = search_one(clip, BeamSettings(beam=beam, top_symbols=3), n_best=beam)
        assert [tuple(answer.tokens) for answer in answers] == [tokens for tokens, _ in expected]
        assert [answer.score for answer in answers] == pytest.approx([score for _, score in expected], abs=1e-6)


def test_clip_in_a_batch_is_decoded_as_the_clip_alone() -> None:
    batch, lengths = log_probs(7, 30, 60), torch.tensor([30, 1, 12, 0, 29, 30, 5])
    for clip, length in enumerate(lengths.tolist()):
        batch[clip, length:] = math.nan  # what lies behind a clip's end is never looked at
    together = beam_search(batch, lengths, n_best=4)
    for clip, length in enumerate(lengths.tolist()):
        assert together[clip] == search_one(batch[clip, :length], n_best=4)
        assert greedy(batch, lengths)[clip] == greedy(batch[clip : clip + 1, :length], torch.tensor([length]))[0]


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing_by_their_number(threads: int) -> None:
    batch, lengths = log_probs(9, 20, 50), torch.full((9,), 20)
    expected = [search_one(clip)[0] for clip in batch]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert [answers[0] for answers in beam_search(batch, lengths)] == expected
    finally:
        torch.set_num_threads(before)


def test_greedy_merges_repeats_and_drops_blanks() -> None:
    generator = torch.Generator().manual_seed(0)
    paths = torch.randint(0, 3, (50, 20), generator=generator)
    lengths = torch.randint(0, 21, (50,), generator=generator)
    for blank in (0, 2):
        decoded = greedy(torch.nn.functional.one_hot(paths, 3).float(), lengths, blank)
        expected = [collapse(path[:n], blank) for path, n in zip(paths.tolist(), lengths.tolist(), strict=True)]
        assert decoded == expected


def test_certain_path_is_found_with_score_zero_and_its_frames() -> None:
    path = [0, 5, 5, 0, 5, 7, 0, 0, 7]
    answer = search_one(torch.nn.functional.one_hot(torch.tensor(path), 9).float().log())[0]
    assert answer.tokens == [5, 5, 7, 7]
    assert answer.frames == [1, 4, 5, 8]
    assert answer.score == pytest.approx(0.0, abs=1e-9)


def test_tokens_frame_is_its_likeliest_even_where_its_prefix_had_left_the_beam() -> None:
    clip = torch.tensor([[0.6, 0.3, 0.1], [0.51, 1e-6, 0.49], [0.1, 0.9, 1e-6]]).log()
    # after the first frame a beam of two holds the empty prefix and 1, after the second the empty prefix and 2
    assert search_one(clip, BeamSettings(beam=2))[0][:2] == ([1], [2])


def test_decoding_of_no_frames_and_no_clips_gives_nothing() -> None:
    empty = torch.empty(2, 0, 5)
    assert beam_search(empty, torch.tensor([0, 0])) == [[Hypothesis([], [], 0.0)]] * 2
    assert greedy(empty, torch.tensor([0, 0])) == [[], []]
    assert beam_search(torch.empty(0, 3, 5), torch.empty(0, dtype=torch.long)) == []
    assert greedy(torch.empty(0, 3, 5), torch.empty(0, dtype=torch.long)) == []


def test_hypotheses_are_at_most_as_many_as_sequences() -> None:
    answers = search_one(log_probs(2, 2), n_best=30)
    assert sorted(answer.tokens for answer in answers) == [[], [1]], "1 1 would need a blank between"


@pytest.mark.parametrize("width", [1, 5, 40, 64])
def test_top_symbols_are_those_of_topk(width: int) -> None:
    clip = log_probs(50, 64)
    clip[3, 10:] = -math.inf
    values, symbols = prefix_search.top_symbols(clip.numpy(), width)
    expected = clip.topk(width, dim=-1)
    assert np.array_equal(values, expected.values.numpy())
    finite = np.isfinite(values)
    assert np.array_equal(symbols[finite], expected.indices.numpy()[finite])
    assert all(len(set(row)) == width for row in symbols.tolist())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_outputs_on_a_gpu_are_decoded_as_on_the_cpu() -> None:
    batch, lengths = log_probs(4, 40, 500), torch.tensor([40, 12, 0, 33])
    assert beam_search(batch.cuda(), lengths.cuda(), n_best=5) == beam_search(batch, lengths, n_best=5)
    assert greedy(batch.cuda(), lengths) == greedy(batch, lengths)


def test_half_precision_is_taken() -> None:
    batch, lengths = log_probs(2, 10, 20).bfloat16(), torch.tensor([10, 7])
    assert beam_search(batch, lengths) == beam_search(batch.float(), lengths)
    assert greedy(batch, lengths) == greedy(batch.float(), lengths)


def test_decoding_refuses_shapes_and_lengths_that_do_not_fit() -> None:
    batch, lengths = log_probs(2, 4, 6), torch.tensor([4, 4])
    for decode in (greedy, beam_search):
        with pytest.raises(ValueError, match=r"\(4, 6\).*\(B, T, V\)"):
            decode(batch[0], lengths)
        with pytest.raises(ValueError, match="int64"):
            decode(batch.long(), lengths)
        with pytest.raises(ValueError, match=r"\(3,\).*2 clips"):
            decode(batch, torch.tensor([4, 4, 4]))
        with pytest.raises(ValueError, match=r"float32.*whole number"):
            decode(batch, lengths.float())
        for length in (5, -1):
            with pytest.raises(ValueError, match=rf"clip 1: length {length} .* 0 to 4"):
                decode(batch, torch.tensor([4, length]))
    for blank in (6, -1):
        with pytest.raises(ValueError, match=f"blank {blank} is none of the 6"):
            greedy(batch, lengths, blank)
        with pytest.raises(ValueError, match=f"blank {blank} is none of the 6"):
            beam_search(batch, lengths, BeamSettings(blank=blank))
    for setting in ("beam", "top_symbols"):
        with pytest.raises(ValueError, match=f"{setting}: 0 is too small"):
            BeamSettings(**{setting: 0})
    with pytest.raises(ValueError, match="n_best: 0"):
        beam_search(batch, lengths, n_best=0)


@pytest.mark.parametrize("wrong", [math.nan, 2.5, math.inf])
def test_logits_and_nan_are_no_log_probabilities(wrong: float) -> None:
    batch = log_probs(2, 4, 60)
    batch[1, 2, 50] = wrong
    with pytest.raises(ValueError, match=rf"clip 1, frame 2: {wrong} is no log-probability"):
        beam_search(batch, torch.tensor([4, 4]))
