"""Masked, a clip's result does not depend on what it is batched with; published, it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from model.asr import halved
from model.conformer import Conformer, ConformerSettings, RelativeAttention, sinusoids
from model.losses import content_loss, mel_l1
from model.mel_decoder import MelDecoder
from model.padding import Padding, norm_frames, pack, unpack, valid_positions
from model.speaker_encoder import SpeakerEncoder, SpeakerSettings
from model.visual_encoder import VisualEncoder
from model.vsr import VSRModel
from tests.model.networks import (
    VISUAL,
    lively,
    small_asr,
    small_lip_to_speech,
    small_reading_lip_to_speech,
    small_vsr_settings,
    without_dropout,
)

SIDE = 32
TOLERANCE = 1e-5  # sums in another order, float32, values of a few units

LENGTHS = torch.cat([torch.tensor([5, 250]), torch.randint(5, 251, (5,), generator=torch.Generator().manual_seed(0))])


def _garbage(*shape: int) -> Tensor:
    """Features with garbage in them everywhere, padding included."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


Run = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """How to run a module, its input, where time runs in it and at how many steps a frame; the same of its output."""

    run: Run
    x: Tensor
    dim: int
    rate: int
    dim_out: int | None
    rate_out: int


def _case(name: str, padding: Padding) -> Case:
    torch.manual_seed(0)
    count, frames = len(LENGTHS), int(LENGTHS.max())
    features = _garbage(count, frames, 32)
    if name == "attention":
        attention = lively(RelativeAttention(32, 4, 0.0, padding))
        return Case(lambda x, n: attention(x, n, sinusoids(x.shape[1], 32)), features, 1, 1, 1, 1)
    if name == "conformer":
        conformer = lively(Conformer(ConformerSettings(layers=3, width=32, heads=4, kernel=31), padding))
        return Case(conformer, features, 1, 1, 1, 1)
    if name == "mel decoder":
        decoder, voice = lively(MelDecoder(32, 12, padding=padding)), _garbage(1, 12)
        return Case(lambda x, n: decoder(x, voice.expand(len(x), -1), n), features, 1, 1, 2, 4)
    mel = _garbage(count, 80, 4 * frames)
    if name == "speaker encoder":
        speaker = lively(SpeakerEncoder())
        return Case(lambda x, n: speaker(x, 4 * n), mel, 2, 4, None, 0)
    if name == "asr":
        asr_model = small_asr(padding)
        return Case(lambda x, n: asr_model(x, 4 * n).logits, mel, 2, 4, 1, 1)
    video = _garbage(count, 1, frames, SIDE, SIDE)
    if name == "visual encoder":
        return Case(lively(VisualEncoder(VISUAL, padding)), video, 2, 1, 1, 1)
    if name == "vsr":
        vsr = lively(VSRModel(small_vsr_settings(padding)))
        return Case(lambda x, n: vsr(x, n).logits, video, 2, 1, 1, 1)
    build = small_reading_lip_to_speech if name == "reading lip to speech" else small_lip_to_speech
    whole, reference = build(padding), _garbage(1, 80, 50)
    return Case(lambda x, n: whole(x, n, reference.expand(len(x), -1, -1)).mel, video, 2, 1, 2, 4)


NAMES = [
    "attention",
    "conformer",
    "mel decoder",
    "speaker encoder",
    "asr",
    "visual encoder",
    "vsr",
    "lip to speech",
    "reading lip to speech",
]


def _worst(case: Case) -> float:
    """The largest difference between a clip in a batch and alone."""
    batch = case.run(case.x, LENGTHS)
    worst = 0.0
    for number, length in enumerate(LENGTHS.tolist()):
        alone = case.run(case.x[number, None].narrow(case.dim, 0, length * case.rate), LENGTHS[number, None])
        ours = batch[number, None]
        if case.dim_out is not None:
            ours = ours.narrow(case.dim_out, 0, length * case.rate_out)
            alone = alone.narrow(case.dim_out, 0, length * case.rate_out)
        worst = max(worst, float((ours - alone).abs().max()))
    return worst


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_masked_padding_makes_a_clip_in_a_batch_equal_the_clip_alone(name: str) -> None:
    assert _worst(_case(name, "masked")) < TOLERANCE


@pytest.mark.parametrize("name", [name for name in NAMES if name != "speaker encoder"])
@torch.no_grad()
def test_published_padding_leaks(name: str) -> None:
    assert _worst(_case(name, "published")) > 100 * TOLERANCE


@torch.no_grad()
def test_padding_modes_agree_without_padding() -> None:
    lengths = torch.tensor([37, 37])
    video, reference = _garbage(2, 1, 37, SIDE, SIDE), _garbage(2, 80, 50)
    masked, published = small_lip_to_speech("masked"), small_lip_to_speech("published")
    published.load_state_dict(masked.state_dict())
    results = masked(video, lengths, reference), published(video, lengths, reference)
    for ours, theirs in zip(*(output[:3] for output in results), strict=True):
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_asr_rounds_lengths_up_and_keeps_clips_apart_at_any_length() -> None:
    asr_model = small_asr()
    mel, lengths = _garbage(4, 80, 103), torch.tensor([103, 1, 50, 77])
    batch = asr_model(mel, lengths)
    assert batch.lengths.tolist() == [halved(halved(n)) for n in lengths.tolist()] == [26, 1, 13, 20]
    for number, length in enumerate(lengths.tolist()):
        alone = asr_model(mel[number : number + 1, :, :length], lengths[number : number + 1])
        ours = batch.logits[number : number + 1, : int(batch.lengths[number])]
        torch.testing.assert_close(ours, alone.logits, atol=TOLERANCE, rtol=0)


def test_pack_keeps_valid_frames() -> None:
    lengths = torch.tensor([3, 1])
    x = torch.arange(2 * 4 * 2.0).view(2, 4, 2)
    there = valid_positions(lengths, 4, torch.device("cpu"))
    assert there.tolist() == [0, 1, 2, 4]
    packed = pack(x, there)
    assert packed[:, 0].tolist() == [0, 2, 4, 8]
    assert unpack(packed, there, 2, 4)[..., 0].tolist() == [[0, 2, 4, 0], [8, 0, 0, 0]]


def test_batch_norm_in_training_counts_only_valid_frames() -> None:
    x, lengths = _garbage(3, 20, 6), torch.tensor([20, 7, 1])
    x[1, 7:] = x[2, 1:] = 1e6
    norm, plain = nn.BatchNorm1d(6), nn.BatchNorm1d(6)
    ours = norm_frames(norm, x, valid_positions(lengths, 20, x.device))
    theirs = plain(torch.cat([x[0], x[1, :7], x[2, :1]]))
    torch.testing.assert_close(torch.cat([ours[0], ours[1, :7], ours[2, :1]]), theirs)
    torch.testing.assert_close(norm.running_mean, plain.running_mean)
    torch.testing.assert_close(norm.running_var, plain.running_var)


@pytest.mark.parametrize(
    "name", ["conformer", "visual encoder", "lip to speech", "reading lip to speech", "asr", "speaker encoder"]
)
def test_masked_training_does_not_see_padding(name: str) -> None:
    """Gradients and running statistics are the same whatever stands beyond the clips' ends, and however much of it."""
    results = []
    for extra, filling in ((0, 0.0), (9, 3.0)):
        torch.manual_seed(0)
        lengths = torch.tensor([12, 30, 7])
        network, x, dim, rate = _trainable(name)
        for number, length in enumerate(lengths.tolist()):
            x[number].narrow(dim - 1, length * rate, (30 - length) * rate).fill_(filling)
        shape = list(x.shape)
        shape[dim] = extra * rate
        x = torch.cat([x, torch.full(shape, filling)], dim=dim)
        # float64: a bias before batch norm has no gradient but rounding, which float32 would leave at any size
        without_dropout(network).train().double()
        out = _result(name, network, x.double(), lengths * rate)
        if name == "speaker encoder":
            out = out[:, None].expand(-1, 30, -1)
        loss = sum(out[number, :length].square().sum() for number, length in enumerate(lengths.tolist()))
        assert isinstance(loss, Tensor)
        loss.backward()
        gradients = {key: parameter.grad for key, parameter in network.named_parameters() if parameter.grad is not None}
        results.append({**gradients, **dict(network.named_buffers())})
    first, second = results
    assert first.keys() == second.keys()
    for key, tensor in first.items():
        scale = float(tensor.abs().max()) if tensor.is_floating_point() else 1.0
        torch.testing.assert_close(second[key], tensor, atol=1e-10 * scale + 1e-10, rtol=0, msg=key)


def _trainable(name: str) -> tuple[nn.Module, Tensor, int, int]:
    if name == "conformer":
        return lively(Conformer(ConformerSettings(layers=2, width=32, heads=4), "masked")), _garbage(3, 30, 32), 1, 1
    if name == "visual encoder":
        return lively(VisualEncoder(VISUAL, "masked")), _garbage(3, 1, 30, SIDE, SIDE), 2, 1
    if name == "asr":
        return small_asr(), _garbage(3, 80, 120), 2, 4
    if name == "speaker encoder":
        return lively(SpeakerEncoder(SpeakerSettings((16, 12), 8))), _garbage(3, 80, 120), 2, 4
    build = small_reading_lip_to_speech if name == "reading lip to speech" else small_lip_to_speech
    return build(), _garbage(3, 1, 30, SIDE, SIDE), 2, 1


def _result(name: str, network: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, ...)"""
    if name == "asr":
        return network(x, lengths).features  # type: ignore[no-any-return]
    if name.endswith("lip to speech"):
        mel = network(x, lengths, _garbage(3, 80, 50).to(x)).mel
        return mel.unflatten(2, (-1, 4)).transpose(1, 2)  # type: ignore[no-any-return]
    return network(x, lengths)  # type: ignore[no-any-return]


def test_masked_losses_do_not_see_padding() -> None:
    asr_model = small_asr()
    generated, true, lengths = _garbage(2, 80, 200), _garbage(3, 80, 200)[1:], torch.tensor([200, 60])
    losses = []
    for filling in (0.0, 5.0):
        generated[1, :, 60:] = filling
        l1 = mel_l1(generated, true, lengths, "masked")
        losses.append(torch.stack([l1, content_loss(asr_model, generated, true, lengths)]))
    torch.testing.assert_close(losses[0], losses[1])
    apart = [mel_l1(generated[n : n + 1, :, :size], true[n : n + 1, :, :size], lengths[n : n + 1], "masked")
             for n, size in enumerate([200, 60])]  # fmt: skip
    torch.testing.assert_close(losses[0][0], (apart[0] * 200 + apart[1] * 60) / 260)
    published = mel_l1(generated, true, lengths, "published")
    torch.testing.assert_close(published, losses[0][0] * 260 / 400)
