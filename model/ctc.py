"""CTC: the head that gives logits, and decoding them to tokens, by the best path (greedy) or a prefix beam search.

The best path takes each frame's likeliest symbol: cheap, and fit for watching training. The likeliest sequence may be
another one, whose probability is spread over many alignments, which the beam search sums over. The device selects each
frame's symbols, the CPU searches, a clip a thread. The search is written by hand, since `ctcdecode`, the published one,
cannot be installed any more.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Array = np.ndarray[Any, Any]

_LARGEST = 1e-3  # of a log-probability: 0, and what rounding in half precision may add


class CTCHead(nn.Linear):
    """(B, T, width) -> (B, T, vocabulary) logits; piece 0 is the blank (docs/method.md, CTC head)."""


@dataclass(frozen=True)
class BeamSettings:
    """The search. The defaults are the published ones; there is no language model.

    Attributes:
        beam: prefixes kept after each frame.
        top_symbols: symbols looked at in each frame, the likeliest; all where the vocabulary has fewer.
        blank: the blank's symbol.
    """

    beam: int = 30
    top_symbols: int = 40
    blank: int = 0

    def __post_init__(self) -> None:
        for name, value in (("beam", self.beam), ("top_symbols", self.top_symbols)):
            if value < 1:
                raise ValueError(f"{name}: {value} is too small: 1 or more is needed")


class Hypothesis(NamedTuple):
    """One answer of the search.

    Attributes:
        tokens: without blanks and without repeats that no blank parts.
        frames: for each token the frame in which it was likeliest, of those in which the search appended it.
        score: -log p, natural, summed over the alignments that the search kept; lower is better.
    """

    tokens: list[int]
    frames: list[int]
    score: float


def greedy(logits: Tensor, lengths: Tensor, blank: int = 0) -> list[list[int]]:
    """The tokens of each clip's best path: the likeliest symbol of each frame, repeats merged, blanks dropped.

    Args:
        logits: (B, T, V) on any device, normalized or not.
        lengths: whole numbers (B,), the frames that count.
        blank: the blank's symbol.

    Raises:
        ValueError: shapes do not fit, a length is beyond T, or there is no such blank.
    """
    _check_shapes(logits, lengths, blank)
    best = logits.argmax(dim=-1)
    before = F.pad(best, (1, 0), value=-1)[:, :-1]
    inside = torch.arange(best.shape[1], device=best.device) < lengths.to(best.device)[:, None]
    kept = torch.where(inside & (best != blank) & (best != before), best, -1)
    table = torch.cat([lengths.to(kept)[:, None], kept], dim=1).cpu()  # the only transfer
    _check_lengths(table[:, 0].tolist(), best.shape[1])
    kept = table[:, 1:]
    present = kept >= 0
    return [tokens.tolist() for tokens in torch.split(kept[present], present.sum(dim=1).tolist())]


def beam_search(
    log_probs: Tensor, lengths: Tensor, settings: BeamSettings = BeamSettings(), n_best: int = 1
) -> list[list[Hypothesis]]:
    """The likeliest token sequences of each clip, by prefix beam search (Hannun et al. 2014, without a language model).

    Clips are searched side by side in `torch.get_num_threads()` threads, and independently of each other.

    Args:
        log_probs: floating-point (B, T, V) on any device, the logarithm of a softmax over V. A probability below the
            smallest normal float32 counts as that.
        lengths: whole numbers (B,), the frames that count.
        settings: the search.
        n_best: how many answers a clip, at most the beam; fewer where so few sequences are possible. They come best
            first. A clip of no frames has one, the empty sequence.

    Raises:
        ValueError: shapes do not fit, a length is beyond T, there is no such blank, n_best is below 1, or a frame holds
            NaN or what is no log-probability.
    """
    _check_shapes(log_probs, lengths, settings.blank)
    if n_best < 1:
        raise ValueError(f"n_best: {n_best} is too small: 1 or more is needed")
    frames = _check_lengths(lengths.tolist(), log_probs.shape[1])
    vocabulary = log_probs.shape[2]
    width = min(settings.top_symbols, vocabulary)
    # a third of a second to import, which training and best paths need not spend
    from model.prefix_search import search_clip, top_symbols

    log_probs = log_probs.detach().float()
    if log_probs.device.type == "cpu":  # where the compiled selection is twice as fast as topk
        clips = log_probs.contiguous().numpy()
        selected = None
    else:
        top = log_probs.topk(width, dim=-1)
        selected = top.values.cpu().numpy(), top.indices.int().cpu().numpy()

    def search(clip: int) -> list[Hypothesis]:
        if selected is None:
            values, symbols = top_symbols(clips[clip, : frames[clip]], width)
        else:
            values, symbols = (array[clip, : frames[clip]] for array in selected)
        wrong = ~(values[:, 0] <= _LARGEST)  # a frame's largest value; NaN counts as the largest
        if wrong.any():
            frame = int(wrong.argmax())
            found = f"clip {clip}, frame {frame}: {values[frame, 0]} is no log-probability"
            raise ValueError(f"{found}: log_softmax of finite logits was expected")
        hypotheses = search_clip(values, symbols, vocabulary, settings.blank, settings.beam, n_best)
        return [
            Hypothesis(tokens[:length].tolist(), at[:length].tolist(), -float(log_prob))
            for tokens, at, length, log_prob in zip(*hypotheses, strict=True)
        ]

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return list(threads.map(search, range(len(frames))))


def decode(logits: Tensor, lengths: Tensor, beam: int = 1) -> list[list[int]]:
    """The tokens of each clip: `greedy` with a beam of 1, else the first answer of `beam_search`.
    Arguments and errors as of `greedy`; a beam needs float logits without NaN."""
    if beam == 1:
        return greedy(logits, lengths)
    found = beam_search(logits.log_softmax(dim=-1), lengths, BeamSettings(beam=beam))
    return [answers[0].tokens for answers in found]


def _check_shapes(log_probs: Tensor, lengths: Tensor, blank: int) -> None:
    if log_probs.ndim != 3 or not log_probs.is_floating_point():
        raise ValueError(f"{log_probs.dtype} {tuple(log_probs.shape)}: floating-point (B, T, V) was expected")
    if lengths.shape != log_probs.shape[:1] or lengths.is_floating_point():
        found = f"lengths are {lengths.dtype} {tuple(lengths.shape)}"
        raise ValueError(f"{found}: a whole number for each of {len(log_probs)} clips was expected")
    if not 0 <= blank < log_probs.shape[2]:
        raise ValueError(f"blank {blank} is none of the {log_probs.shape[2]} symbols")


def _check_lengths(lengths: list[int], frames: int) -> list[int]:
    for clip, length in enumerate(lengths):
        if not 0 <= length <= frames:
            raise ValueError(f"clip {clip}: length {length} is not within its 0 to {frames} frames")
    return lengths
