"""How fast a training step is on a GPU: forward, all three losses, backward, AdamW, in each precision.

    python -m tests.benchmarks.training_step [--device cuda] [--runs 7]

The full-size networks, 16 clips of 150 frames. What a step computes is counted, and compared with a large matrix
product of the same precision, timed beside it. On the CPU everything is small: that shows only that it runs.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model.asr import ASRModel, ASRSettings
from model.conformer import ConformerSettings
from model.lip_to_speech import LipToSpeech, LipToSpeechSettings
from model.losses import LossSettings, content_loss, ctc_loss, freeze, mel_l1
from model.segment_sampling import Windows
from model.visual_encoder import VisualSettings
from train.optim import build_optimizer


@dataclass(frozen=True)
class Work:
    """What is measured, and on what.

    Attributes:
        device: a GPU, or the CPU.
        network, asr: sizes of the networks.
        clips, frames, side: of a batch of video.
        window: frames that are made heard.
        pieces: of each clip's text.
        matrix: side of the matrices whose product gives the card's rate.
        backend: of torch.compile; "eager" only traces.
    """

    device: torch.device
    network: LipToSpeechSettings
    asr: ASRSettings
    clips: int
    frames: int
    side: int
    window: int
    pieces: int
    matrix: int
    backend: str

    @classmethod
    def on(cls, device: torch.device) -> Work:
        if device.type != "cpu":
            return cls(
                device,
                LipToSpeechSettings(),
                ASRSettings(),
                clips=16,
                frames=150,
                side=112,
                window=50,
                pieces=40,
                matrix=8192,
                backend="inductor",
            )
        conformer = ConformerSettings(layers=1, width=32, heads=2)
        small = LipToSpeechSettings(visual=VisualSettings(channels=8, conformer=conformer), vocabulary=50)
        asr = ASRSettings(channels=(8, 8), conformer=conformer, vocabulary=50)
        return cls(
            device,
            small,
            asr,
            clips=2,
            frames=10,
            side=48,
            window=8,
            pieces=3,
            matrix=256,
            backend="eager",
        )


@dataclass(frozen=True)
class Precision:
    """Of the step: float32, with TF32 products or without, or bf16 under autocast."""

    name: str
    dtype: torch.dtype = torch.float32
    tf32: bool = False


PRECISIONS = (Precision("float32"), Precision("TF32", tf32=True), Precision("bf16", torch.bfloat16))


def measure(runs: int, device: str | None = None) -> Iterator[str]:
    """Lines of the report: two Markdown tables. Without a device, a GPU is taken if there is one."""
    work = Work.on(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    on_gpu = work.device.type == "cuda"
    name = torch.cuda.get_device_name(work.device) if on_gpu else "CPU, small sizes (a trial, no figures)"
    operations = counted(work)
    yield (
        f"| {name}, {work.clips} clips of {work.frames} frames | | ms | frames/s "
        f"| TFLOP/s, {operations / 1e12:.2g} TFLOP a step | matrix product, TFLOP/s | share | peak memory, GiB |"
    )
    yield f"|---|---{'|---:' * 6}|"
    before = tf32_settings()
    try:
        for precision in PRECISIONS:
            set_tf32(*["tf32" if precision.tf32 else "ieee"] * len(before))
            for compiled in (False, True):
                yield step_row(work, precision, compiled, operations, runs)
        yield ""
        yield from convolution_rows(work, runs)
    finally:
        set_tf32(*before)


def step_row(work: Work, precision: Precision, compiled: bool, operations: int, runs: int) -> str:
    gc.collect()
    torch.compiler.reset()
    if work.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(work.device)
    step = step_of(work, precision, compiled)
    seconds = timed(step, work.device, runs)
    peak = f"{torch.cuda.max_memory_allocated(work.device) / 2**30:.1f}" if work.device.type == "cuda" else "-"
    product = matrix_rate(work, precision, runs)
    way = ("compiled" if work.backend == "inductor" else "traced") if compiled else "eager"
    return (
        f"| {precision.name} | {way} | {1000 * seconds:.1f} | {work.clips * work.frames / seconds:,.0f} "
        f"| {operations / seconds / 1e12:.3g} | {product / 1e12:.3g} | {operations / seconds / product:.0%} | {peak} |"
    )


def step_of(work: Work, precision: Precision, compiled: bool) -> Callable[[], None]:
    """One step of training on one batch, always the same."""
    torch.manual_seed(0)
    network = LipToSpeech(work.network).to(work.device)
    asr = ASRModel(work.asr).to(work.device)
    freeze(asr)
    steps = build_optimizer(network.parameters())
    weights, padding, bands = LossSettings(), work.network.padding, work.network.n_mels
    lengths = torch.full((work.clips,), work.frames)  # on the CPU, where they spare a synchronisation
    sizes = torch.full((work.clips,), work.window, device=work.device)
    windows = Windows(torch.zeros_like(sizes), sizes)
    made = partial(torch.randn, device=work.device)
    video = made(work.clips, 1, work.frames, work.side, work.side)
    reference, true = made(work.clips, bands, 100), made(work.clips, bands, 4 * work.window)
    targets = torch.randint(4, work.network.vocabulary, (work.clips, work.pieces), device=work.device)
    pieces = torch.full((work.clips,), work.pieces, device=work.device)
    if compiled:
        network.compile(backend=work.backend)
        asr.compile(backend=work.backend)

    def step() -> None:
        steps.zero_grad()
        with autocast(work.device, precision):
            output = network(video, lengths, reference, windows=windows, window_frames=work.window)
            loss = weights.mel * mel_l1(output.mel, true, 4 * sizes, padding)
            loss = loss + weights.ctc * ctc_loss(output.logits, lengths, targets, pieces).loss
            loss = loss + weights.content * content_loss(asr, output.mel, true, 4 * sizes)
        loss.backward()
        steps.step()

    return step


def counted(work: Work) -> int:
    """Floating-point operations of the products and convolutions of a step, a multiplication and an addition each."""
    step = step_of(work, PRECISIONS[0], compiled=False)
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def matrix_rate(work: Work, precision: Precision, runs: int) -> float:
    """Operations a second of a product of two large square matrices: what the card can be seen to do."""
    a, b = torch.randn(2, work.matrix, work.matrix, device=work.device).to(precision.dtype)
    return float(2 * work.matrix**3 / timed(partial(torch.mm, a, b), work.device, runs))


def convolution_rows(work: Work, runs: int) -> Iterator[str]:
    """Two convolutions, forward and backward in bf16, each written in two ways that have the same result."""
    frames, channels, width = work.clips * work.frames, work.network.visual.channels, 512
    made = partial(torch.randn, device=work.device, dtype=torch.bfloat16)
    video = made(work.clips, 1, work.frames, work.side, work.side)
    solid = nn.Parameter(made(channels, 1, 5, 7, 7))
    flat = nn.Parameter(solid.detach().squeeze(1).contiguous(memory_format=torch.channels_last))
    features = made(work.clips, work.frames, width, requires_grad=True)
    line = nn.Parameter(made(width, 1, 31))

    def front() -> Tensor:
        return F.conv3d(video, solid, stride=(1, 2, 2), padding=(2, 3, 3))

    def front_of_stacked() -> Tensor:
        stacked = F.pad(video.squeeze(1), (0, 0, 0, 0, 2, 2)).unfold(1, 5, 1).flatten(0, 1).movedim(-1, 1)
        return F.conv2d(stacked, flat, stride=2, padding=3)

    def depthwise() -> Tensor:
        return F.conv1d(features.transpose(1, 2), line, padding=15, groups=width)

    def depthwise_of_pictures() -> Tensor:
        lines = features.transpose(1, 2)[:, :, None]  # channels last
        return F.conv2d(lines, line[:, :, None], padding=(0, 15), groups=width)

    yield f"| forward and backward, bf16, {frames} frames | ms | with the same result | ms | ratio |"
    yield "|---|---:|---|---:|---:|"
    for names, ways in (
        (("front end, 3-D", "2-D over 5 frames as channels, channels last"), (front, front_of_stacked)),
        (("depthwise, 1-D", "2-D of height 1, channels last"), (depthwise, depthwise_of_pictures)),
    ):
        one, other = (timed(partial(forward_and_backward, way), work.device, runs) for way in ways)
        yield f"| {names[0]} | {1000 * one:.2f} | {names[1]} | {1000 * other:.2f} | {one / other:.2f} |"


def forward_and_backward(way: Callable[[], Tensor]) -> None:
    result = way()
    result.backward(torch.ones_like(result))


def timed(work: Callable[[], object], device: torch.device, runs: int) -> float:
    """Median seconds, after three warm-ups."""
    seconds = []
    for _ in range(runs + 3):
        synchronise(device)
        began = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[3:])


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    return nullcontext() if precision.dtype == torch.float32 else torch.autocast(device.type, precision.dtype)


def tf32_settings() -> list[str]:
    return [backend.fp32_precision for backend in _backends()]


def set_tf32(*values: str) -> None:
    for backend, value in zip(_backends(), values, strict=True):
        backend.fp32_precision = value


def _backends() -> tuple[Any, ...]:
    cudnn: Any = torch.backends.cudnn  # its types leave `conv` out
    return torch.backends.cuda.matmul, cudnn, cudnn.conv


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.training_step", description=__doc__)
    parser.add_argument("--device", default=None, help="cuda or cpu; default: a GPU if there is one")
    parser.add_argument("--runs", type=int, default=7)
    values = parser.parse_args()
    for line in measure(values.runs, values.device):
        print(line, flush=True)


if __name__ == "__main__":
    main()
