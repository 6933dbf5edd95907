"""Whole training steps: frames a second, memory, where the host waits, and where the GPU's time goes.

    python -m tests.benchmarks.gpu.steps ROW ... [--device cpu] [--precision float32] [--compile [--graphs]]

Rows: card (what the GPU itself can do), FRAMES (clips of 150 frames), FRAMES~ (clips of 40 to 250 frames), fits
(clips of 150 frames, as many as memory takes), plain (16 clips of 40 to 250 frames, trained the plain way), host (2
clips of 8 frames: what is left is the host's time), waits (what the host waits for), profile (kernels).
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._inductor.config
from torch.utils.flop_counter import FlopCounterMode

from shards.loading.collate import Batch
from tests.benchmarks.gpu.synthetic_run import FULL, SMALL, SyntheticRun, build_run, noise_batch, varying_lengths
from tests.benchmarks.gpu.table import RATE, table_row
from tests.benchmarks.plain_baseline import Example, noise_examples, plain_step
from train.distributed import process_group
from train.state import TrainingError

KINDS = {
    "batch norm": "batch_norm|bn_|batchnorm",
    "layer norm": "layer_norm|LayerNorm|GammaBeta",
    "attention": "fmha|flash|attention",
    "convolution": "conv|fprop|dgrad|wgrad|implicit|cudnn|nchwToNhwc|nhwcToNchw",
    "matrix product": "gemm|cutlass|nvjet|cublas|splitK",
    "optimizer, averages": "multi_tensor|Adam|foreach",
    "pooling": "pool",
    "gather, scatter": "index|gather|scatter",
    "softmax, CTC": "softmax|SoftMax|ctc",
    "sums, maxima": "reduce",
    "dropout": "dropout",
    "copies, casts": "copy|Memcpy|Memset|CatArray|FillFunctor",
    "elementwise": "elementwise|vectorized",
}
"""Kinds of kernels by their names, the first that fits."""


def rows(run: SyntheticRun, names: list[str], way: str, small: bool, out: Path) -> Iterator[str]:
    """The rows asked for, of the table and notes; one that fails says why, and the others are measured.

    Args:
        run: a run before its first step.
        names: of rows.
        way: how the steps are computed, as the table calls it.
        small: small batches, few steps.
        out: folder of the profile.
    """
    for name in names:
        try:
            yield from _row(run, name, way, small, out)
        except Exception as error:
            yield f"{way}, {name}: {type(error).__name__}: {str(error)[:300]}"
            run.model.optimizer.zero_grad(set_to_none=True)


def _row(run: SyntheticRun, name: str, way: str, small: bool, out: Path) -> Iterator[str]:
    clip, warmup, count = (20, 1, 3) if small else (150, 6, 26)
    fixed = noise_batch(run, [clip] * (3 if small else 16), cut=True)
    if name == "card":
        yield from _card(run.device)
    elif name == "plain":
        yield _plain(run, small)
    elif name == "fits":
        yield _largest(run, way, clip, most=240 if small else 1 << 20)
    elif name == "waits":
        yield from _waits(run, fixed)
    elif name == "profile":
        yield from _profile(run, fixed, out)
    elif name == "host":
        yield _timed(run, [noise_batch(run, [8, 8], cut=True)] * count, warmup, f"{way}, 2 clips of 8 frames")
    elif name.endswith("~"):
        frames = int(name[:-1])
        lengths = varying_lengths(frames, count + 4)
        batches = [noise_batch(run, each, seed, cut=True) for seed, each in enumerate(lengths)]
        yield _timed(run, batches, warmup + 4, f"{way}, {frames} frames, clips of 40 to 250")
    else:
        clips = max(1, int(name) // clip)
        yield _timed(
            run, [noise_batch(run, [clip] * clips, cut=True)] * count, warmup, f"{way}, {clips} x {clip} frames"
        )


def _largest(run: SyntheticRun, way: str, clip: int, most: int) -> str:
    """The row of the largest batch that memory takes, of at most so many frames; by doubling."""
    found, clips = "", 4
    while clips * clip <= most:
        batch = noise_batch(run, [clip] * clips, cut=True)
        try:
            found = _timed(run, [batch] * 6, 2, f"{way}, {clips} x {clip} frames, as many as fit")
        except TrainingError as error:
            if not isinstance(error.__cause__, torch.OutOfMemoryError):
                raise
            run.model.optimizer.zero_grad(set_to_none=True)
            break
        clips *= 2
    return found or f"{way}, fits: not even {clips} clips of {clip} frames fit"


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _timed(run: SyntheticRun, batches: list[Batch], warmup: int, what: str) -> str:
    """Take steps, the first ones unmeasured: a row of the table."""
    steps = [partial(_frames_of_step, run, batch) for batch in batches]
    return _row_of(steps, warmup, run.device, what, counted=not run.settings.compile)


def _frames_of_step(run: SyntheticRun, batch: Batch) -> int:
    return run.step(batch).frames


def _plain(run: SyntheticRun, small: bool) -> str:
    """Training as one writes it at first: eager, float32 as PyTorch is set by default, random batches padded with
    zeros; the same losses, as many clips."""
    clips, count, warmup = (3, 3, 1) if small else (16, 13, 3)
    step = plain_step(run.settings, vocabulary=50 if small else 4000, device=run.device, asr=run.asr)
    drawn = np.random.default_rng(0)
    lengths = drawn.integers(40, 121 if small else 251, (count, clips)).tolist()
    batches = [noise_examples(each, run.settings.transforms.size, seed) for seed, each in enumerate(lengths)]
    cudnn: Any = torch.backends.cudnn  # its types leave `conv` out
    convolutions, before = cudnn.conv, cudnn.conv.fp32_precision
    convolutions.fp32_precision = "tf32"
    try:
        steps = [partial(_frames_of_plain_step, step, batch, run.device) for batch in batches]
        return _row_of(steps, warmup, run.device, f"plain, {clips} clips of 40 to {max(map(max, lengths))}, padded")
    finally:
        convolutions.fp32_precision = before


def _frames_of_plain_step(step: Callable[[Example], None], batch: Example, device: torch.device) -> int:
    step(Example(*(tensor.to(device) for tensor in batch)))
    return int(batch.lengths.sum())


def _row_of(
    steps: Sequence[Callable[[], int]], warmup: int, device: torch.device, what: str, counted: bool = True
) -> str:
    """A row of the table: of steps that return their frames, the first ones unmeasured. Compiled ones cannot be counted
    operation by operation."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for step in steps[:warmup]:
        step()
    operations_a_frame = 0.0
    if counted:
        with FlopCounterMode(display=False) as counter:
            of_frames = steps[0]()
        operations_a_frame = counter.get_total_flops() / of_frames
    _synchronize(device)
    frames, times = 0, [time.perf_counter()]
    for step in steps[warmup:]:
        frames += step()
        times.append(time.perf_counter())
    _synchronize(device)
    seconds = time.perf_counter() - times[0]
    return table_row(
        what,
        frames_a_second=frames / seconds,
        milliseconds=1000 * statistics.median(later - earlier for earlier, later in pairwise(times)),
        teraflops=operations_a_frame * frames / seconds / 1e12,
        gibibytes=torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0,
    )


def _card(device: torch.device) -> Iterator[str]:
    """A large matrix product in bf16, and a copy in memory."""
    cuda = device.type == "cuda"
    name, cudnn = (torch.cuda.get_device_name(), torch.backends.cudnn.version()) if cuda else ("CPU", None)
    yield f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
    side, dtype = (8192, torch.bfloat16) if cuda else (512, torch.float32)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    rate = 2 * side**3 / _seconds(lambda: a @ b, device)
    yield f"{RATE}{rate / 1e12:.3g} (of {side} by {side}, {dtype})"
    source = torch.randn(2**30 if cuda else 2**20, device=device)
    target = torch.empty_like(source)
    rate = 2 * 4 * source.numel() / _seconds(lambda: target.copy_(source), device)
    yield f"copy of {source.numel() / 2**28:.3g} GiB, read and written: {rate / 1e12:.3g} TB/s"


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """The median of five runs of ten, after one."""
    took = []
    for _ in range(6):
        _synchronize(device)
        began = time.perf_counter()
        for _ in range(10):
            work()
        _synchronize(device)
        took.append((time.perf_counter() - began) / 10)
    return statistics.median(took[1:])


def _waits(run: SyntheticRun, batch: Batch) -> Iterator[str]:
    """Where two steps wait for the GPU."""
    for _ in range(2):
        run.step(batch)
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            run.step(batch)
    torch.cuda.set_sync_debug_mode("default")
    found = Counter(f"{Path(one.filename).parent.name}/{Path(one.filename).name}:{one.lineno}" for one in caught)
    yield f"{found.total() / 2:g} waits a step"
    for where, count in found.most_common():
        yield f"  {count / 2:g} at {where}"


def _profile(run: SyntheticRun, batch: Batch, out: Path) -> Iterator[str]:
    """The GPU's time in three steps, by kind of kernel; all kernels go to a file."""
    steps = 3
    for _ in range(steps):
        run.step(batch)
    with torch.profiler.profile() as found:
        for _ in range(steps):
            run.step(batch)
        _synchronize(run.device)
    kernels: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    kinds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for event in found.events() or []:
        if event.device_type.name == "CUDA":
            kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, event.name)), "other")
            for sums in (kernels[event.name], kinds[kind]):
                sums[0] += event.self_device_time_total / 1000 / steps
                sums[1] += 1 / steps
    lines = [f"{ms:8.3f} ms {count:6.0f} x  {name[:180]}" for name, (ms, count) in _largest_first(kernels)]
    out.mkdir(parents=True, exist_ok=True)
    by_operator = found.key_averages().table(sort_by="self_device_time_total", row_limit=60)
    (out / "profile.txt").write_text("\n".join(lines) + "\n\n" + by_operator)
    total, launches = (sum(sums[column] for sums in kinds.values()) for column in (0, 1))
    yield f"{total:.1f} ms of kernels a step, {launches:.0f} of them"
    for kind, (ms, count) in _largest_first(kinds):
        yield f"  {ms / max(total, 1e-9):4.0%} {ms:6.1f} ms {count:6.0f} x  {kind}"


def _largest_first(table: dict[str, list[float]]) -> list[tuple[str, list[float]]]:
    return sorted(table.items(), key=lambda item: -item[1][0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu.steps", description=__doc__)
    parser.add_argument("rows", nargs="+")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--graphs", action="store_true", help="compiled, in CUDA graphs")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-benchmark"))
    values = parser.parse_args()
    small = values.device == "cpu"
    compiled = values.compile or values.graphs
    if values.graphs:
        torch._inductor.config.triton.cudagraphs = True
    way = f"{values.precision}, {'graphs' if values.graphs else 'compiled' if compiled else 'eager'}"
    flags = [*(SMALL if small else FULL), f"--precision={values.precision}", f"--compile={str(compiled).lower()}"]
    with process_group(values.device) as context:
        run = build_run(context.device, flags, vocabulary=50 if small else 4000)
        for line in rows(run, values.rows, way, small, values.out):
            print(line, flush=True)


if __name__ == "__main__":
    main()
