"""Whole training steps: frames a second, memory, where the host waits, and where the GPU's time goes.

    python -m tests.benchmarks.gpu.steps ROW ... [--device cpu] [--precision float32] [--compile] [--out FOLDER]

Rows: card (what the GPU itself can do), FRAMES (clips of 150 frames), FRAMES~ (clips of 40 to 250 frames), host (2
clips of 8 frames: what is left is the host's time), waits (what the host waits for), profile (kernels).
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import torch

from shards.loading.collate import Batch
from tests.benchmarks.gpu.synthetic_run import FULL, SMALL, SyntheticRun, build_run, noise_batch, varying_lengths
from train.distributed import process_group

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


def rows(run: SyntheticRun, names: list[str], small: bool, out: Path) -> Iterator[str]:
    """The rows asked for; one that fails says why, and the others are measured."""
    for name in names:
        try:
            yield from (f"{name}: {line}" for line in _row(run, name, small, out))
        except Exception as error:
            yield f"{name}: {type(error).__name__}: {str(error)[:300]}"
            run.model.optimizer.zero_grad(set_to_none=True)


def _row(run: SyntheticRun, name: str, small: bool, out: Path) -> Iterator[str]:
    clip, warmup, count = (20, 1, 3) if small else (150, 6, 26)
    fixed = noise_batch(run, [clip] * (3 if small else 16), cut=True)
    if name == "card":
        yield from _card(run.device)
    elif name == "waits":
        yield from _waits(run, fixed)
    elif name == "profile":
        yield from _profile(run, fixed, out)
    elif name == "host":
        yield _timed(run, [noise_batch(run, [8, 8], cut=True)] * count, warmup)
    elif name.endswith("~"):
        lengths = varying_lengths(int(name[:-1]), count + 4)
        yield _timed(run, [noise_batch(run, each, seed, cut=True) for seed, each in enumerate(lengths)], warmup + 4)
    else:
        yield _timed(run, [noise_batch(run, [clip] * max(1, int(name) // clip), cut=True)] * count, warmup)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _timed(run: SyntheticRun, batches: list[Batch], warmup: int) -> str:
    """Take steps, the first ones unmeasured; frames a second of the others, their median time, the peak of memory."""
    cuda = run.device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for batch in batches[:warmup]:
        run.step(batch)
    _synchronize(run.device)
    frames, times = 0, [time.perf_counter()]
    for batch in batches[warmup:]:
        frames += run.step(batch).frames
        times.append(time.perf_counter())
    _synchronize(run.device)
    seconds = time.perf_counter() - times[0]
    median = statistics.median(later - earlier for earlier, later in pairwise(times))
    peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0
    return f"{frames / seconds:8,.0f} frames/s | median {1000 * median:7.1f} ms | peak {peak:.1f} GiB"


def _card(device: torch.device) -> Iterator[str]:
    """A large matrix product in bf16, and a copy in memory."""
    cuda = device.type == "cuda"
    name, cudnn = (torch.cuda.get_device_name(), torch.backends.cudnn.version()) if cuda else ("CPU", None)
    yield f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
    side = 8192 if cuda else 256
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    yield f"matrix product of {side}, bf16: {2 * side**3 / _seconds(lambda: a @ b, device) / 1e12:.3g} TFLOP/s"
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
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-benchmark"))
    values = parser.parse_args()
    small = values.device == "cpu"
    flags = [*(SMALL if small else FULL), f"--precision={values.precision}", f"--compile={str(values.compile).lower()}"]
    with process_group(values.device) as context:
        run = build_run(context.device, flags)
        for line in rows(run, values.rows, small, values.out):
            print(f"{values.precision} {line}", flush=True)


if __name__ == "__main__":
    main()
