"""Lip to speech: visual encoder, CTC head, speaker encoder and mel decoder as one network (docs/method.md, Networks).

The whole segment goes through the visual encoder and the CTC head; the mel is generated for a window of it only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from model.ctc import CTCHead
from model.mel_decoder import DecoderSettings, MelDecoder
from model.padding import Padding, ValidFrames, check_padding
from model.segment_sampling import Windows, take_window
from model.speaker_encoder import SpeakerEncoder, SpeakerSettings
from model.visual_encoder import VisualEncoder, VisualSettings
from runtime.constants import N_MELS


@dataclass(frozen=True)
class LipToSpeechSettings:
    """Sizes. The defaults are the published ones.

    Attributes:
        visual, speaker, decoder: of the parts.
        vocabulary: pieces of the tokenizer, the blank among them. 0: no CTC head, as trained without transcripts.
        n_mels: bands of the mel.
        padding: what frames beyond a clip's length may do.
    """

    visual: VisualSettings = field(default_factory=VisualSettings)
    speaker: SpeakerSettings = field(default_factory=SpeakerSettings)
    decoder: DecoderSettings = field(default_factory=DecoderSettings)
    vocabulary: int = 4000
    n_mels: int = N_MELS
    padding: Padding = "masked"

    def __post_init__(self) -> None:
        check_padding(self.padding)
        if self.n_mels < 1 or self.vocabulary < 0:
            raise ValueError(f"n_mels {self.n_mels}, vocabulary {self.vocabulary}: expected 1 or more, and 0 or more")


class LipToSpeechOutput(NamedTuple):
    """What the network returns.

    Attributes:
        mel: (B, n_mels, 4 T'), T' the frames of the largest window; beyond a window's size it means nothing.
        logits: (B, T, vocabulary) of the whole segment; None without a CTC head.
        features: (B, T, width) of the whole segment.
    """

    mel: Tensor
    logits: Tensor | None
    features: Tensor


class LipToSpeech(nn.Module):
    """(B, 1, T, H, W) and a reference utterance of the speaker -> a mel."""

    def __init__(self, settings: LipToSpeechSettings = LipToSpeechSettings()) -> None:
        super().__init__()
        self.settings = settings
        width = settings.visual.conformer.width
        self.visual = VisualEncoder(settings.visual, settings.padding)
        self.head = CTCHead(width, settings.vocabulary) if settings.vocabulary else None
        self.speaker = SpeakerEncoder(settings.speaker, settings.n_mels)
        self.decoder = MelDecoder(width, settings.speaker.width, settings.decoder, settings.n_mels, settings.padding)

    def forward(
        self,
        video: Tensor,
        lengths: Tensor,
        reference: Tensor,
        reference_lengths: Tensor | None = None,
        windows: Windows | None = None,
        window_frames: int | None = None,
        valid: ValidFrames | None = None,
        reference_valid: Tensor | None = None,
    ) -> LipToSpeechOutput:
        """
        Args:
            video: (B, 1, T, H, W), normalized (`model.transforms`).
            lengths: (B,) video frames of each clip.
            reference: (B, n_mels, S), mel of a reference utterance (`model.segment_sampling`).
            reference_lengths: (B,) mel frames of each reference; without them all frames count, padding too.
            windows: what to generate, in video frames; by default all of it.
            window_frames: frames of the result: those of the largest window, or a fixed number; default: all T.
            valid, reference_valid: see `VisualEncoder`, `SpeakerEncoder`.
        """
        features = self.visual(video, lengths, valid)
        windowed, sizes = features, lengths
        if windows is not None:
            windowed, sizes = take_window(features, *windows, length=window_frames or features.shape[1]), windows.sizes
        mel = self.decoder(windowed, self.speaker(reference, reference_lengths, reference_valid), sizes)
        return LipToSpeechOutput(mel, None if self.head is None else self.head(features), features)
