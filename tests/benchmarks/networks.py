"""How fast the full-size networks are on the CPU, part by part, beside the same weights run the plainest way.

Plainest: float32, eager, maps in contiguous layout, one clip at a time, the front end as docs/method.md states it.
Times are wall-clock, on all cores; each is a median over runs, in which both ways take turns.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.asr import ASRModel
from model.lip_to_speech import LipToSpeech, LipToSpeechSettings
from model.visual_encoder import VisualEncoder
from model.vocoders.neural_vocoder import Vocoder, VocoderSettings

CLIPS, FRAMES, SIDE = 2, 75, 112
TOGETHER, ALONE = [slice(0, CLIPS)], [slice(clip, clip + 1) for clip in range(CLIPS)]

Run = Callable[[slice], Tensor]  # of the clips that the slice takes; a row a clip or a frame


class Part(NamedTuple):
    """A part of the networks: the module whose weights count, and both ways of running it."""

    module: nn.Module
    ours: Run
    plain: Run


def measure(runs: int) -> Iterator[str]:
    """Lines of the report: a Markdown table. Forward is in evaluation, forward and backward in training mode."""
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    torch.set_num_threads(cores)
    try:
        columns = "ms | frames/s | plain, ms | plain / ours"
        yield (
            f"| {CLIPS} clips of {FRAMES} frames, {cores} threads | forward, {columns} | difference "
            f"| forward and backward, {columns} |"
        )
        yield f"|---{'|---:' * 9}|"
        for name, part in parts().items():
            difference = difference_of(part)
            yield f"| {name} | {timed(part, runs, forward)} | {difference:.0e} | {timed(part, runs, backward)} |"
    finally:
        torch.set_num_threads(threads)


def parts() -> dict[str, Part]:
    torch.manual_seed(0)
    network, asr = LipToSpeech(), ASRModel()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # at first the residual branches are zero
            nn.init.ones_(module.weight)
    visual, head, bands = network.visual.eval(), network.head, network.settings.n_mels
    assert head is not None
    front = front_of(visual)
    video, reference = torch.randn(CLIPS, 1, FRAMES, SIDE, SIDE), torch.randn(CLIPS, bands, 50)
    mel = torch.randn(CLIPS, bands, 4 * FRAMES, requires_grad=True)
    lengths = torch.full((CLIPS,), FRAMES)
    with torch.no_grad():
        maps, speaker = maps_of(visual, video, lengths), network.speaker(reference)
        features = visual(video, lengths)
    for made in (maps, speaker, features):
        made.requires_grad_()

    def whole(clips: slice) -> Tensor:
        output = network(video[clips], lengths[clips], reference[clips])
        return torch.cat([output.mel.flatten(1), output.logits.flatten(1)], dim=1)

    def plain_whole(clips: slice) -> Tensor:
        vectors = visual.project(visual.resnet(plain_maps(visual, video[clips])))[None]
        features = visual.conformer(visual.dropout(vectors), lengths[clips])
        mel = network.decoder(features, network.speaker(reference[clips]), lengths[clips])
        return torch.cat([mel.flatten(1), head(features).flatten(1)], dim=1)

    def plain_resnet(clips: slice) -> Tensor:
        vectors: Tensor = visual.resnet(maps.unflatten(0, (CLIPS, FRAMES))[clips].flatten(0, 1).contiguous())
        return vectors

    reading = LipToSpeech(LipToSpeechSettings(intermediate_ctc=(3, 6, 9), posteriors=True, units=100))
    vocoder = Vocoder(VocoderSettings(width=512, layers=8))

    def read(clips: slice) -> Tensor:
        output = reading(video[clips], lengths[clips], reference[clips])
        assert output.unit_logits is not None
        return torch.cat([x.flatten(1) for x in (output.mel, output.logits, output.unit_logits)], dim=1)

    same: list[tuple[str, nn.Module, Run]] = [
        ("Conformer", visual.conformer, lambda clips: visual.conformer(features[clips], lengths[clips])),
        ("CTC head", head, lambda clips: head(features[clips])),
        ("speaker encoder", network.speaker, lambda clips: network.speaker(reference[clips])),
        ("mel decoder", network.decoder, lambda c: network.decoder(features[c], speaker[c], lengths[c])),
        ("asr, beside the whole", asr, lambda clips: asr(mel[clips], 4 * lengths[clips]).logits),
        ("vocoder, beside the whole", vocoder, lambda clips: vocoder(mel[clips], 4 * lengths[clips])),
        ("whole, with units and intermediate CTC", reading, read),
    ]
    return {
        "whole": Part(network, whole, plain_whole),
        "3-D front end": Part(
            front,
            lambda clips: front.frame_vectors(video[clips], lengths[clips]),
            lambda clips: plain_maps(front, video[clips]).mean(dim=(2, 3))[None],
        ),
        "ResNet": Part(visual.resnet, lambda _: visual.resnet(maps), plain_resnet),
        **{name: Part(module, run, run) for name, module, run in same},
    }


def front_of(visual: VisualEncoder) -> VisualEncoder:
    """The encoder without its ResNet: `frame_vectors` gives the means of the maps that the ResNet would read."""
    front = deepcopy(visual)
    front.add_module("resnet", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    front.add_module("project", nn.Identity())
    return front


def maps_of(visual: VisualEncoder, video: Tensor, lengths: Tensor) -> Tensor:
    """What the ResNet reads, in the memory layout in which it does."""
    read: list[Tensor] = []
    hook = visual.resnet.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    visual.frame_vectors(video, lengths)
    hook.remove()
    return read[0]


def plain_maps(visual: VisualEncoder, video: Tensor) -> Tensor:
    """The same of one clip, as docs/method.md states it."""
    maps = visual.front(video).squeeze(0).transpose(0, 1).contiguous()
    return F.max_pool2d(F.relu(visual.front_norm(maps)), 3, stride=2, padding=1)


def forward(run: Run, clips: list[slice]) -> Tensor:
    with torch.no_grad():
        return torch.cat([run(some) for some in clips])


def backward(run: Run, clips: list[slice]) -> None:
    for some in clips:
        run(some).square().mean().backward()


def timed(part: Part, runs: int, way: Callable[[Run, list[slice]], object]) -> str:
    """Four cells of the table."""
    part.module.train(way is backward)
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs + 1):  # the first is a warm-up
        for times, run, clips in zip(taken, (part.ours, part.plain), (TOGETHER, ALONE), strict=True):
            part.module.zero_grad()
            began = time.perf_counter()
            way(run, clips)
            times.append(time.perf_counter() - began)
    ours, plain = (statistics.median(times[1:]) for times in taken)
    ratio = statistics.median([slow / fast for fast, slow in zip(taken[0][1:], taken[1][1:], strict=True)])
    return f"{1000 * ours:.1f} | {CLIPS * FRAMES / ours:,.0f} | {1000 * plain:.1f} | {ratio:.2f}"


def difference_of(part: Part) -> float:
    """Between the results of both ways, relative to the largest value."""
    part.module.eval()
    ours, plain = forward(part.ours, TOGETHER), forward(part.plain, ALONE)
    return float((ours - plain).abs().max() / plain.abs().max())
