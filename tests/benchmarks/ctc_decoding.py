"""How many clips a second each way of decoding CTC outputs takes, 4000 symbols, on as many threads as torch has."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from model.ctc import beam_search, greedy

_CLIPS, _SYMBOLS = 32, 4000


def measure(runs: int) -> Iterator[str]:
    """Lines of the report: a Markdown table. Outputs are random."""
    yield f"| frames | outputs | best path, clips/s, {torch.get_num_threads()} threads | beam search, clips/s |"
    yield "|---:|---|---:|---:|"
    for frames in (75, 150):
        lengths = torch.full((_CLIPS,), frames)
        for kind, log_probs in (("flat", _flat(frames)), ("peaky", _peaky(frames))):
            best_path = _speed(partial(greedy, log_probs, lengths), runs)
            searched = _speed(partial(beam_search, log_probs, lengths), runs)
            yield f"| {frames} | {kind} | {best_path:,.0f} | {searched:,.0f} |"


def _flat(frames: int) -> Tensor:
    """As of an untrained network."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(_CLIPS, frames, _SYMBOLS, generator=generator).mul(2).log_softmax(dim=-1)


def _peaky(frames: int) -> Tensor:
    """As of a trained one: in each frame either the blank or one other symbol is likely."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(_CLIPS, frames, _SYMBOLS, generator=generator)
    likely = torch.randint(_SYMBOLS, (_CLIPS, frames, 1), generator=generator)
    logits[..., 0] += 9
    return logits.scatter_add(2, likely, torch.full_like(logits[..., :1], 10)).log_softmax(dim=-1)


def _speed(decode: Callable[[], object], runs: int) -> float:
    decode()
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        decode()
        seconds.append(time.perf_counter() - began)
    return _CLIPS / statistics.median(seconds)
