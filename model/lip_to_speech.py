"""Lip to speech: visual encoder, CTC head, speaker encoder and mel decoder as one network (docs/method.md, Networks).

The whole segment goes through the visual encoder and the CTC head; the mel is generated for a window of it only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from model.ctc import CTCHead
from model.intermediate_ctc import Reading, check_intermediate, intermediate_ctc
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
        intermediate_ctc: layers after which the head also stands (`model.intermediate_ctc`); none, as published.
        posteriors: whether the mel decoder is given the head's posteriors beside the features; not, as published.
        units: of the ASR model, that a further head predicts for each frame and the mel decoder is told; 0: there is no
            such head, as published.
    """

    visual: VisualSettings = field(default_factory=VisualSettings)
    speaker: SpeakerSettings = field(default_factory=SpeakerSettings)
    decoder: DecoderSettings = field(default_factory=DecoderSettings)
    vocabulary: int = 4000
    n_mels: int = N_MELS
    padding: Padding = "masked"
    intermediate_ctc: tuple[int, ...] = ()
    posteriors: bool = False
    units: int = 0

    def __post_init__(self) -> None:
        check_padding(self.padding)
        check_intermediate(self.intermediate_ctc, self.visual.conformer.layers)
        if self.n_mels < 1 or min(self.vocabulary, self.units) < 0:
            found = f"n_mels {self.n_mels}, vocabulary {self.vocabulary}, units {self.units}"
            raise ValueError(f"{found}: expected 1 or more, and 0 or more")


class LipToSpeechOutput(NamedTuple):
    """What the network returns.

    Attributes:
        mel: (B, n_mels, 4 T'), T' the frames of the largest window; beyond a window's size it means nothing.
        logits: (B, T, vocabulary) of the whole segment; None without a CTC head.
        features: (B, T, width) of the whole segment.
        intermediate: (layers, B, T, vocabulary) logits of the layers of intermediate CTC, if there are any.
        unit_logits: (B, T, units) of the whole segment, if there are any.
    """

    mel: Tensor
    logits: Tensor | None
    features: Tensor
    intermediate: Tensor | None = None
    unit_logits: Tensor | None = None


class LipToSpeech(nn.Module):
    """(B, 1, T, H, W) and a reference utterance of the speaker -> a mel."""

    def __init__(self, settings: LipToSpeechSettings = LipToSpeechSettings()) -> None:
        super().__init__()
        self.settings = settings
        width, vocabulary = settings.visual.conformer.width, settings.vocabulary
        self.visual = VisualEncoder(settings.visual, settings.padding)
        self.head = CTCHead(width, vocabulary) if vocabulary else None
        self.intermediate = intermediate_ctc(settings.intermediate_ctc, vocabulary, width)
        self.read = nn.Linear(vocabulary, width) if settings.posteriors and vocabulary else None
        self.unit_head = nn.Linear(width, settings.units) if settings.units else None
        self.unit_embedding = nn.Linear(settings.units, width) if settings.units else None
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
        reading = Reading(self.intermediate, self.head)
        features = self.visual(video, lengths, valid, reading)
        logits = None if self.head is None else self.head(features)
        unit_logits = None if self.unit_head is None else self.unit_head(features)
        windowed, sizes = features, lengths
        if self.read is not None and logits is not None:
            windowed = windowed + self.read(logits.softmax(dim=-1))
        if self.unit_embedding is not None and unit_logits is not None:
            windowed = windowed + self.unit_embedding(unit_logits.softmax(dim=-1))
        if windows is not None:
            windowed, sizes = take_window(windowed, *windows, length=window_frames or features.shape[1]), windows.sizes
        mel = self.decoder(windowed, self.speaker(reference, reference_lengths, reference_valid), sizes)
        return LipToSpeechOutput(mel, logits, features, reading.logits, unit_logits)
