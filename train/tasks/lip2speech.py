"""The `lip2speech` task: lip regions and a speaker reference in, a mel out.

The loss is the published one (docs/method.md, Losses and optimizer). In validation whole clips are synthesized, and
compared with the ground truth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from model.estoi_loss import estoi_loss
from model.lip_to_speech import LipToSpeech, LipToSpeechOutput
from model.losses import content_loss, delta_l1, mel_l1, mel_l1_per_clip
from model.synthesis import Synthesizer
from model.vocoders.mel_to_wav import sample_counts
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, SAMPLES_PER_FRAME
from shards.loading.collate import Batch, Contents
from train.settings import Score
from train.state import TrainState
from train.tasks.ctc import CtcOutput, encode_texts, score_ctc, text_loss, with_distillation_loss
from train.tasks.inputs import Inputs, prepare
from train.tasks.task import Losses, Task
from train.tasks.units import with_unit_loss
from train.validation_metrics import Example, ValidationMetrics


@dataclass
class Lip2SpeechTask(Task):
    """Lip regions and a speaker reference to speech. Without a tokenizer there is no CTC head, and no loss of it."""

    validation_contents: ClassVar[Contents] = Contents(stored_mel=False)
    uses_speaker_reference: ClassVar[bool] = True
    synthesizes: ClassVar[bool] = True
    loss_names: ClassVar[tuple[str, ...]] = (
        "l1",
        "ctc",
        "ctc_intermediate",
        "distillation",
        "units",
        "content",
        "delta",
        "estoi",
        "ctc_skipped",
    )
    default_best: ClassVar[Score] = "stoi"

    @property
    def contents(self) -> Contents:
        return Contents()

    @property
    def scores(self) -> tuple[Score, ...]:
        return ("l1",) if self.tokenizer is None else ("l1", "ctc", "wer", "cer")

    def build_model(self) -> LipToSpeech:
        """The network of the settings, of the tokenizer's vocabulary."""
        vocabulary = 0 if self.tokenizer is None else self.tokenizer.vocabulary_size
        return LipToSpeech(dataclasses.replace(self.settings.network, vocabulary=vocabulary))

    def loss(self, network: Any, batch: Batch, seed: int, state: TrainState) -> Losses:
        """The losses that are on, weighted and added."""
        padding, weights = self.settings.network.padding, self.settings.losses
        inputs = prepare(batch, self.settings, self.device, seed)
        mel_lengths = MEL_FRAMES_PER_VIDEO_FRAME * inputs.windows.sizes
        with self.autocast():
            output: LipToSpeechOutput = network(
                inputs.video,
                inputs.lengths,
                inputs.reference,
                inputs.reference_lengths,
                windows=inputs.windows,
                window_frames=inputs.window_frames,
                valid=inputs.valid,
                reference_valid=inputs.reference_valid,
            )
            content = None
            if self.asr is not None and state.content_on and weights.content:
                content = content_loss(self.asr, output.mel, inputs.target, mel_lengths)
        l1 = mel_l1(output.mel.float(), inputs.target, mel_lengths, padding)
        total, parts = weights.mel * l1, {"l1": l1.detach()}
        recognized = None if output.logits is None else CtcOutput(output.logits, inputs.lengths, output.intermediate)
        if self.tokenizer is not None and recognized is not None:
            text = text_loss(recognized, *encode_texts(batch.texts, self.tokenizer), weights.intermediate_ctc)
            total, parts = total + weights.ctc * text.total, parts | text.parts
        if weights.delta:
            delta = delta_l1(output.mel, inputs.target, mel_lengths)
            total = total + weights.delta * delta
            parts["delta"] = delta.detach()
        if weights.estoi:
            estoi = estoi_loss(output.mel, inputs.target, mel_lengths)
            total = total + weights.estoi * estoi
            parts["estoi"] = estoi.detach()
        if content is not None:
            total = total + weights.content * content
            parts["content"] = content.detach()
        losses = Losses(total, parts)
        if self.asr is None:
            return losses
        with self.autocast():
            if output.unit_logits is not None:
                losses = with_unit_loss(losses, output.unit_logits, self.asr, inputs.mel, inputs.lengths, weights.units)
            if recognized is not None and weights.distillation:
                losses = with_distillation_loss(losses, recognized, self.asr, inputs.mel, weights)
        return losses

    def dummy_inputs(self) -> tuple[Tensor, ...]:
        size, ranges = self.settings.transforms.size, self.settings.segments
        reference = torch.zeros(1, self.settings.network.n_mels, ranges.reference_padded, device=self.device)
        return torch.zeros(1, 1, 5, size, size, device=self.device), torch.tensor([5]), reference

    def validate(
        self, network: Any, batch: Batch, references: Mapping[str, Tensor], metrics: ValidationMetrics
    ) -> None:
        """L1, CTC, word errors of the visual head, and the scores of synthesized speech.

        A clip without a reference of its speaker takes its own first frames, as published.
        """
        inputs = prepare(batch, self.settings, self.device, None)
        reference = inputs.references_of(batch.keys, references, self.settings.segments.reference_frames)
        settings, mel_lengths = self.settings, MEL_FRAMES_PER_VIDEO_FRAME * inputs.lengths
        precision: Literal["float32", "bf16"] = "bf16" if settings.precision == "bf16" else "float32"
        synthesizer = Synthesizer(network, settings.transforms, self.device, vocoder=self.vocoder, precision=precision)
        output = synthesizer.mels(inputs.video, inputs.lengths, reference)
        l1 = mel_l1_per_clip(output.mel, inputs.target, mel_lengths)
        metrics.add("l1", float(l1.sum()), len(l1))
        if self.tokenizer is not None and output.logits is not None:
            score_ctc(metrics, batch, output.logits, inputs.lengths, self.tokenizer)
        if metrics.scorers is not None or metrics.shown & set(batch.keys):
            _score_speech(synthesizer, output.mel, inputs, batch, metrics)


def _score_speech(
    synthesizer: Synthesizer, mel: Tensor, inputs: Inputs, batch: Batch, metrics: ValidationMetrics
) -> None:
    """Score the waveforms of synthesized mels, and keep those of clips that TensorBoard shows."""
    mel_lengths = MEL_FRAMES_PER_VIDEO_FRAME * inputs.lengths
    synthesized = synthesizer.waveforms(mel, mel_lengths, batch.keys)
    originals = batch.wav.cpu().numpy()
    samples = sample_counts(mel_lengths).tolist()
    for row, key in enumerate(batch.keys):
        metrics.score_speech(key, originals[row, : samples[row]], synthesized[row, : samples[row]])
    shown = [row for row, key in enumerate(batch.keys) if key in metrics.shown]
    if not shown:
        return
    ceiling = synthesizer.waveforms(inputs.target[shown], mel_lengths[shown], [batch.keys[row] for row in shown])
    for row, resynthesized in zip(shown, ceiling, strict=True):
        waveforms = {
            "synthesized": synthesized[row, : samples[row]],
            "ceiling": resynthesized[: samples[row]],
            "original": originals[row, : SAMPLES_PER_FRAME * int(inputs.lengths[row])],
        }
        mels = [x[row, :, : int(mel_lengths[row])].cpu().numpy() for x in (mel, inputs.target)]
        metrics.examples.append(Example(batch.keys[row], mels, waveforms))
