"""The `vocoder` task: ground-truth mels in, the waveform that each was measured on out; lips and texts are not read
(they are where the mels are generated: `train.tasks.generated_vocoder`).

It is trained on windows of clips, and validated on whole ones (docs/training.md, Vocoder).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from model.estoi_loss import waveform_estoi_loss
from model.mel import analyzed_wave, log_mel, mel_of_analyzed
from model.padding import valid_mask
from model.segment_sampling import Windows, draw_windows, take_window, whole_windows
from model.vocoders.mel_to_wav import sample_counts, undo_analysis
from model.vocoders.neural_vocoder import Vocoder
from model.vocoders.overlap_add import zero_past
from model.vocoders.spectral_losses import SpectralLosses, spectral_losses
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, SAMPLES_PER_FRAME
from shards.loading.collate import SILENCE, Batch, Contents
from train.settings import Score
from train.state import TrainState
from train.tasks.task import Losses, Task
from train.validation_metrics import Example, ValidationMetrics


class Segments(NamedTuple):
    """Windows of a batch of clips, on the device.

    Attributes:
        mel: (B, n_mels, S), -1 past each window.
        wav: (B, (S - 1) hop_length), pre-emphasized, from the first frame's middle to the last one's; 0 past each
            window.
        lengths: (B,) mel frames of each window, on the CPU.
    """

    mel: Tensor
    wav: Tensor
    lengths: Tensor


@dataclass
class VocoderTask(Task):
    """Mels to waveforms."""

    validation_contents: ClassVar[Contents] = Contents(roi=False, stored_mel=False)
    loss_names: ClassVar[tuple[str, ...]] = ("stft", "bands", "l1", "estoi")
    default_best: ClassVar[Score] = "pesq"
    synthesizes: ClassVar[bool] = True

    @property
    def scores(self) -> tuple[Score, ...]:
        return "stft", "l1"

    def build_model(self) -> Vocoder:
        """The vocoder of the settings."""
        return Vocoder(self.settings.vocoder)

    def loss(self, network: Any, batch: Batch, seed: int, state: TrainState) -> Losses:
        """STFT and mel losses of a window of each clip, added, and the weighted ESTOI loss of its waveform."""
        lengths = MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths
        size = MEL_FRAMES_PER_VIDEO_FRAME * self.settings.segments.window_frames
        windows = draw_windows(lengths, torch.Generator().manual_seed(seed), size)
        segments = self.segments(batch, windows, min(size, int(lengths.max())), seed, {})
        generated, losses = self._synthesize(network, segments)
        total, parts = losses.total, {"stft": losses.stft, "bands": losses.bands, "l1": losses.mel}
        if weight := self.settings.losses.estoi:
            parts["estoi"] = waveform_estoi_loss(generated, segments.wav, sample_counts(segments.lengths))
            total = total + weight * parts["estoi"]
        return Losses(total, {name: part.detach() for name, part in parts.items()})

    def segments(
        self, batch: Batch, windows: Windows, frames: int, seed: int | None, references: Mapping[str, Tensor]
    ) -> Segments:
        """Windows of a batch, on the device, as `cut_segments` gives them. `seed` is that of training, None in
        validation; `references` are as of `validate`."""
        return cut_segments(batch.to(self.device, non_blocking=True), windows, frames)

    def _synthesize(self, network: Any, segments: Segments) -> tuple[Tensor, SpectralLosses]:
        with self.autocast():
            generated: Tensor = network(segments.mel, segments.lengths)
        return generated, spectral_losses(generated, segments.wav, sample_counts(segments.lengths))

    def dummy_inputs(self) -> tuple[Tensor, ...]:
        return torch.zeros(1, self.settings.vocoder.mel.n_mels, 20, device=self.device), torch.tensor([20])

    def validate(
        self, network: Any, batch: Batch, references: Mapping[str, Tensor], metrics: ValidationMetrics
    ) -> None:
        """The losses of whole clips, and the scores of their speech."""
        lengths = MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths
        segments = self.segments(batch, whole_windows(lengths), int(lengths.max()), None, references)
        generated, losses = self._synthesize(network, segments)
        metrics.add("stft", float(losses.stft) * len(lengths), len(lengths))
        metrics.add("l1", float(losses.mel) * len(lengths), len(lengths))
        if metrics.scorers is None and not metrics.shown & set(batch.keys):
            return
        heard = undo_analysis(generated, lengths.to(self.device)).cpu()
        for row, (key, samples) in enumerate(zip(batch.keys, sample_counts(lengths).tolist(), strict=True)):
            original, synthesized = (x[row, :samples].numpy() for x in (batch.wav, heard))
            metrics.score_speech(key, original, synthesized)
            if key in metrics.shown:
                true = log_mel(batch.wav[row, : SAMPLES_PER_FRAME * int(batch.lengths[row])])[:, : int(lengths[row])]
                mels = [log_mel(heard[row, :samples]).numpy(), true.numpy()]
                metrics.examples.append(Example(key, mels, {"synthesized": synthesized, "original": original}))


def cut_segments(batch: Batch, windows: Windows, frames: int) -> Segments:
    """Windows of clips as a vocoder is trained on them; each clip is scaled by its peak as a whole, as its mel is.

    Args:
        batch: on its device, with the samples of every clip; lengths on the CPU.
        windows: in mel frames, on the CPU.
        frames: S, of the longest window.
    """
    analyzed = analyzed_wave(batch.wav, SAMPLES_PER_FRAME * batch.lengths)
    reach = (analyzed.shape[1] - batch.wav.shape[1]) // 2
    hops, samples = sample_counts(windows.starts + 1), sample_counts(windows.sizes)
    length = int(sample_counts(torch.tensor(frames)))
    cut = take_window(analyzed, hops, samples + 2 * reach, length=length + 2 * reach)
    valid = valid_mask(windows.sizes, frames, cut.device)[:, None]
    mel = mel_of_analyzed(cut).masked_fill(~valid, SILENCE)
    wav = zero_past(cut[:, reach : reach + length], samples.to(cut.device, non_blocking=True))
    return Segments(mel, wav, windows.sizes)
