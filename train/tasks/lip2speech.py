"""The `lip2speech` task: lips and a voice in, a mel out (METHOD.md, Losses and optimizer).

    total = 100 L1(mel of the window) + CTC(lips of the segment) + MSE(what a recogniser hears), the last once it is on

Padding, `masked`: each loss is taken over the frames that are there, and batch norm does not see the others.
`published`: means run over the padded batch, and batch norm takes padding for frames
(model/losses.py, model/padding.py).
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from model.lip_to_speech import LipToSpeech, LipToSpeechOutput
from model.losses import content_loss, ctc_loss, delta_l1, mel_l1
from model.tokenizer import Tokenizer
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME
from shards.loading.collate import Batch, Contents
from train.settings import TrainSettings
from train.state import Run
from train.tasks.inputs import prepare
from train.tasks.speech_validation import scoring
from train.tasks.task import Losses, Task


def build(settings: TrainSettings, tokenizer: Tokenizer) -> LipToSpeech:
    """The network of the settings, of the tokenizer's vocabulary."""
    return LipToSpeech(dataclasses.replace(settings.network, vocabulary=tokenizer.vocabulary_size))


def losses(run: Run, network: LipToSpeech, batch: Batch, seed: int) -> Losses:
    """The losses that are on, weighted and added."""
    settings, recogniser = run.settings, run.recogniser if run.place.content_on else None
    inputs = prepare(batch, run.tokenizer, settings, run.ranks.device, seed)
    with torch.autocast(inputs.video.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        spoken: LipToSpeechOutput = network(
            inputs.video,
            inputs.lengths,
            inputs.reference,
            inputs.reference_lengths,
            windows=inputs.windows,
            window_frames=inputs.window_frames,
        )
        heard = None
        mel_lengths = MEL_FRAMES_PER_VIDEO_FRAME * inputs.windows.sizes
        if recogniser is not None:
            heard = content_loss(recogniser, spoken.mel, inputs.target, mel_lengths)
    padding, weights = settings.network.padding, settings.losses
    l1 = mel_l1(spoken.mel.float(), inputs.target, mel_lengths, padding)
    ctc = ctc_loss(spoken.logits, inputs.lengths, inputs.pieces, inputs.piece_lengths)
    total = weights.mel * l1 + weights.ctc * ctc.loss
    parts = {"l1": l1.detach(), "ctc": ctc.loss.detach(), "text_left_out": ctc.skipped.detach().float()}
    if weights.delta:
        delta = delta_l1(spoken.mel, inputs.target, mel_lengths)
        total = total + weights.delta * delta
        parts["delta"] = delta.detach()
    if heard is not None:
        total = total + weights.content * heard
        parts["content"] = heard.detach()
    return Losses(total, parts)


def idle(run: Run, network: LipToSpeech) -> Tensor:
    """See `Task`."""
    size, device = run.settings.transforms.size, run.ranks.device
    reference = torch.zeros(1, run.settings.network.n_mels, run.settings.segments.reference_padded, device=device)
    spoken = network(torch.zeros(1, 1, 5, size, size, device=device), torch.tensor([5]), reference)
    none: Tensor = 0.0 * (spoken.mel.float().sum() + spoken.logits.float().sum())
    return none


TASK = Task(
    kind=LipToSpeech,
    build=build,
    contents=Contents(),
    wants_voice=True,
    losses=losses,
    idle=idle,
    validated=Contents(stored_mel=False),
    scoring=scoring,
    parts=("l1", "ctc", "content", "delta", "text_left_out"),
    scores=("l1", "ctc", "wer", "cer"),
    best="stoi",
)
