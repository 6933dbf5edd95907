"""The `lip2speech` recipe: from a batch of clips to its losses (METHOD.md, Losses and optimiser).

Everything that is drawn for a micro-batch is drawn on the CPU from one generator, seeded by (seed, epoch, number of the
micro-batch), never by the rank: what a clip looks like does not depend on who reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor, nn

from model.lip_to_speech import LipToSpeech, Spoken
from model.losses import content_loss, ctc_loss, mel_l1
from model.mel import log_mel_batch
from model.recogniser import Recogniser
from model.segments import (
    SPEAKER_FRAMES_PADDED,
    WINDOW_FRAMES,
    Segment,
    SegmentSettings,
    Windows,
    draw_windows,
    draw_words,
    first_windows,
    speaker_reference,
    take_window,
    whole_clip,
    whole_windows,
)
from model.tokenizer import Tokenizer
from model.transforms import apply, draw_augmentation
from shards.format.sample import MEL_PER_FRAME, SAMPLES_PER_FRAME
from shards.reading.loader import Batch
from shards.reading.plan import Clip, Draw
from train.settings import TrainSettings


def segment_of(settings: SegmentSettings) -> Draw:
    """How a clip's part is drawn: a run of words where there are word times, otherwise all of it."""

    def draw(clip: Clip, random: Random) -> Segment:
        if clip.words:
            return draw_words(clip.words, clip.frames, random, settings)
        return whole_clip(clip.text, clip.frames, settings)

    return draw


def whole_clips(settings: SegmentSettings) -> Draw:
    """Every clip from its first frame on, cut at the longest segment: what is validated on."""
    return lambda clip, random: whole_clip(clip.text, clip.frames, settings)


@dataclass(frozen=True)
class Inputs:
    """A micro-batch as the network takes it, on its device (lengths stay on the CPU).

    Attributes:
        video: (B, 1, T, size, size).
        lengths: (B,) video frames.
        reference: (B, n_mels, 100) mel of the voice, 50 frames and zeros.
        windows, window_frames: what is generated, on the device.
        target: (B, n_mels, 4 window_frames), -1 past each window.
        pieces, piece_lengths: (B, U) and (B,) of the texts; 0 pieces where none is known.
    """

    video: Tensor
    lengths: Tensor
    reference: Tensor
    windows: Windows
    window_frames: int
    target: Tensor
    pieces: Tensor
    piece_lengths: Tensor


def prepare(
    batch: Batch, tokenizer: Tokenizer, settings: TrainSettings, device: torch.device, seed: int | None
) -> Inputs:
    """A batch as read, transformed on the device.

    Args:
        batch: of the loader.
        tokenizer: for the texts.
        settings: of the run.
        device: where to.
        seed: of what is drawn; None: nothing is, as in validation (whole clips, the voice's first frames).
    """
    lengths = batch.lengths.cpu()
    part_lengths = lengths[batch.wav_rows]  # while both lie on the CPU
    on_device = batch.to(device, non_blocking=True)
    mel = mels(on_device, part_lengths)
    frames = batch.roi.shape[1]
    if seed is None:
        windows, augmentation, window_frames = whole_windows(lengths), None, frames
        voices = first_windows(MEL_PER_FRAME * lengths)
    else:
        generator = torch.Generator().manual_seed(seed)
        windows = draw_windows(lengths, generator)
        window_frames = min(WINDOW_FRAMES, frames)
        voices = draw_windows(MEL_PER_FRAME * lengths, generator)
        augmentation = draw_augmentation(*windows, generator, settings.transforms)
    windows, voices = (Windows(*(x.to(device, non_blocking=True) for x in each)) for each in (windows, voices))
    texts = [[] if text is None else tokenizer.encode(text) for text in batch.texts]
    longest = max(1, *map(len, texts))
    return Inputs(
        video=apply(on_device.roi, lengths, augmentation, settings.transforms),
        lengths=lengths,
        reference=speaker_reference(mel, voices, SPEAKER_FRAMES_PADDED)[0],
        windows=windows,
        window_frames=window_frames,
        target=take_window(mel, *windows.scaled(MEL_PER_FRAME), length=MEL_PER_FRAME * window_frames, dim=2, fill=-1.0),
        pieces=torch.tensor([pieces + [0] * (longest - len(pieces)) for pieces in texts]).to(device),
        piece_lengths=torch.tensor([len(pieces) for pieces in texts]).to(device),
    )


def mels(batch: Batch, frames: Tensor) -> Tensor:
    """(B, n_mels, 4 T): stored ones of clips used whole, computed ones of parts, each with its own peak.

    Args:
        batch: on its device.
        frames: (n,) video frames of the parts, on the CPU.
    """
    mel = batch.mel
    if len(batch.wav_rows):
        computed = log_mel_batch(batch.wav, SAMPLES_PER_FRAME * frames)[..., : mel.shape[2]]
        late = torch.arange(mel.shape[2], device=mel.device) >= MEL_PER_FRAME * frames.to(mel.device)[:, None, None]
        mel = mel.index_copy(0, batch.wav_rows, computed.masked_fill(late, -1.0))
    return mel


@dataclass(frozen=True)
class Losses:
    """Of a micro-batch: the total, which is trained on, its parts as measured, and clips left out of CTC."""

    total: Tensor
    parts: dict[str, Tensor]


def losses(network: nn.Module, recogniser: Recogniser | None, inputs: Inputs, settings: TrainSettings) -> Losses:
    """Run the network and compare.

    Args:
        network: a `LipToSpeech`, or what wraps one.
        recogniser: frozen; None while the output content loss is off.
    """
    autocast = settings.precision == "bf16"
    with torch.autocast(inputs.video.device.type, torch.bfloat16, enabled=autocast):
        spoken: Spoken = network(
            inputs.video,
            inputs.lengths,
            inputs.reference,
            windows=inputs.windows,
            window_frames=inputs.window_frames,
        )
        heard = None
        mel_lengths = MEL_PER_FRAME * inputs.windows.sizes
        if recogniser is not None:
            heard = content_loss(recogniser, spoken.mel, inputs.target, mel_lengths)
    padding, weights = settings.network.padding, settings.losses
    l1 = mel_l1(spoken.mel.float(), inputs.target, mel_lengths, padding)
    ctc = ctc_loss(spoken.logits, inputs.lengths, inputs.pieces, inputs.piece_lengths)
    total = weights.mel * l1 + weights.ctc * ctc.loss
    parts = {"l1": l1.detach(), "ctc": ctc.loss.detach(), "text_left_out": ctc.left_out.detach().float()}
    if heard is not None:
        total = total + weights.content * heard
        parts["content"] = heard.detach()
    return Losses(total, parts)


@torch.no_grad()
def validation_l1(network: LipToSpeech, inputs: Inputs, settings: TrainSettings) -> tuple[float, int]:
    """The sum over clips of each one's mean L1 in natural-log units, and how many clips."""
    with torch.autocast(inputs.video.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        # 50 mel frames unpadded, as in the published evaluation: the mean over time runs over these alone
        spoken = network(inputs.video, inputs.lengths, inputs.reference[..., :WINDOW_FRAMES])
    total = 0.0
    for number in range(len(inputs.lengths)):
        one = slice(number, number + 1)
        lengths = MEL_PER_FRAME * inputs.windows.sizes[one]
        total += float(mel_l1(spoken.mel[one].float(), inputs.target[one], lengths, "masked"))
    return total, len(inputs.lengths)
