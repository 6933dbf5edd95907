"""Speech synthesis from lips: crops and a reference utterance in; mels, CTC hypotheses and waveforms out, batched.

    synthesizer = Synthesizer.from_checkpoint("runs/x/best.pt", device="cuda")
    output = synthesizer.mels(crops, lengths, reference)                    # a batch: mels and CTC logits
    waveforms = synthesizer.waveforms(output.mel, 4 * lengths, keys)
    mel, waveform = synthesizer.clip(crops[0], reference[0])                # one clip of any length
    speech = synthesizer.speak(frames, fps, voice)                          # pictures of lips, and somebody's sound

Validation in training, the evaluation and inference on one video all synthesize here, so that a clip sounds the same in
each. A long clip is synthesized in windows: ten seconds are the most that networks are trained on, attention has met no
further position, and its memory grows with the square of the length.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model.checkpoint import Checkpoint, build_network, check_task, load_checkpoint
from model.ctc import decode
from model.lip_to_speech import LipToSpeech, LipToSpeechOutput
from model.mel import log_mel
from model.segment_sampling import WINDOW_FRAMES, SegmentSettings, loudest_reference
from model.tokenizer import Tokenizer
from model.transforms import TransformSettings, transform
from model.vocoders.load_vocoder import vocoder_of_checkpoint
from model.vocoders.mel_to_wav import DEFAULT_GRIFFIN_LIM, GriffinLimSettings, analysis_of, mel_to_wav
from model.vocoders.neural_vocoder import Vocoder, check_mel
from runtime.constants import FPS, HOP_LENGTH, MEL_FRAMES_PER_VIDEO_FRAME, SAMPLE_RATE

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class SlidingWindow:
    """How a long clip is cut into windows, in video frames; the defaults are 10 s, 2 s and 1 s.

    Windows are evenly placed. In the middle of an overlap one mel fades into the other: each frame has been synthesized
    with half a second at least around it.

    Attributes:
        size: frames of a window.
        overlap: frames that neighbors share, at least.
        crossfade: frames in which one fades into the other, at most `overlap`.
    """

    size: int = SegmentSettings().max_frames
    overlap: int = 50
    crossfade: int = 25

    def starts(self, frames: int) -> list[int]:
        """First frames of the windows of a clip of `frames` frames."""
        count = max(1, -(-(frames - self.overlap) // (self.size - self.overlap)))
        return [round(start) for start in np.linspace(0, max(frames - self.size, 0), count)]

    def weights(self, starts: list[int], frames: int) -> Array:
        """float32 (windows, 4 frames): the weight of each window in each mel frame; they sum to 1 in every frame."""
        times = (np.arange(MEL_FRAMES_PER_VIDEO_FRAME * frames) + 0.5) / MEL_FRAMES_PER_VIDEO_FRAME
        seams = [(first + self.size + second) / 2 for first, second in pairwise(starts)]
        rising = [np.clip((times - seam) / self.crossfade + 0.5, 0, 1) for seam in seams]
        steps = [np.ones_like(times), *rising, np.zeros_like(times)]
        return np.stack([since - until for since, until in pairwise(steps)]).astype(np.float32)


@dataclass(frozen=True)
class Speech:
    """What was synthesized of one clip of T frames.

    Attributes:
        waveform: float32 (640 T - 160,), 16 kHz.
        mel: float32 (n_mels, 4 T), in the network's units.
        text: what the CTC head reads from the lips; None without a head or a tokenizer.
    """

    waveform: Array
    mel: Array
    text: str | None


@dataclass(frozen=True)
class Synthesizer:
    """A lip-to-speech network with everything between stored crops and a waveform. Gradients are never kept.

    Attributes:
        network: a `LipToSpeech` on `device`; whoever trains it sees to evaluation mode.
        transforms: from stored crops to the network's video.
        device: that network and vocoder run on.
        tokenizer: of the CTC head; None where it is not known.
        vocoder: settings of Griffin-Lim, the analysis of the mel included; or a neural vocoder, on `device`.
        precision: `bf16` autocasts the network; mels are float32 all the same. `float32` is without TF32, PyTorch's
            default in convolutions, which keeps 11 of the 24 bits: a clip alone and in a batch comes out the same.
    """

    network: Callable[..., LipToSpeechOutput]
    transforms: TransformSettings
    device: torch.device
    tokenizer: Tokenizer | None = None
    vocoder: GriffinLimSettings | Vocoder = DEFAULT_GRIFFIN_LIM
    precision: Literal["float32", "bf16"] = "float32"

    def __post_init__(self) -> None:
        if self.precision == "float32":
            torch.backends.cudnn.allow_tf32 = False  # in this process from here on; matrix products have none

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | os.PathLike[str] | Checkpoint,
        device: str | torch.device = "cpu",
        vocoder: GriffinLimSettings | Vocoder | None = None,
        transforms: TransformSettings | None = None,
        name: str | os.PathLike[str] = "checkpoint",
    ) -> Synthesizer:
        """The synthesizer of a checkpoint: a file, ours or a published one, or what was loaded of it.

        Args:
            checkpoint, device: what to run, and where.
            vocoder: settings of Griffin-Lim, whose analysis of the mel is the checkpoint's own; or a neural vocoder
                (`model.vocoders.load_vocoder`); default: that of a released file, else Griffin-Lim.
            transforms: for published files, which do not say what they were trained on; default: the published ones.
            name: of a loaded checkpoint, for errors.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError, ValueError: it is damaged, or of another task; or the vocoder is of another mel.
        """
        if not isinstance(checkpoint, Checkpoint):
            name, checkpoint = checkpoint, load_checkpoint(checkpoint)
        check_task(checkpoint, name, "lip2speech")
        network = build_network(checkpoint, name)
        assert isinstance(network, LipToSpeech)
        device = torch.device(device)
        if vocoder is None and "vocoder" in checkpoint.parts:
            vocoder = vocoder_of_checkpoint(checkpoint.parts["vocoder"], name, checkpoint.mel)
        vocoder = vocoder or DEFAULT_GRIFFIN_LIM
        if isinstance(vocoder, GriffinLimSettings):
            vocoder = replace(vocoder, mel=checkpoint.mel)
        else:
            check_mel(vocoder, checkpoint.mel, "the vocoder")
            vocoder = vocoder.to(device)
        return cls(
            network.to(device),
            checkpoint.transforms or transforms or TransformSettings(),
            device,
            checkpoint.tokenizer,
            vocoder,
        )

    def untrained(self, seed: int = 0) -> Synthesizer:
        """The same with new weights: what a network scores that has learned nothing."""
        assert isinstance(self.network, LipToSpeech)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = LipToSpeech(self.network.settings)
        return replace(self, network=network.eval().to(self.device))

    @torch.no_grad()
    def mels(self, video: Tensor, lengths: Tensor, reference: Tensor) -> LipToSpeechOutput:
        """Mels and CTC logits of a batch.

        Args:
            video: uint8 (B, T, R, R) crops as stored, or float32 (B, 1, T, size, size) that are transformed already.
            lengths: (B,) video frames of each clip, on the CPU.
            reference: (B, n_mels, S) mels of the reference utterances, unpadded: every frame counts.

        Returns:
            mel float32 (B, n_mels, 4 T), logits (B, T, vocabulary) or None without a CTC head, features; on `device`.
        """
        video = video.to(self.device)
        if video.dtype == torch.uint8:
            video = transform(video, lengths, None, self.transforms)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            output = self.network(video, lengths, reference.to(self.device))
        return output._replace(mel=output.mel.float())

    def hypotheses(self, logits: Tensor | None, lengths: Tensor, beam: int = 1) -> list[str] | None:
        """What the CTC head reads from the lips, greedily or with a beam; None without a head or a tokenizer."""
        if self.tokenizer is None or logits is None:
            return None
        return [self.tokenizer.decode(pieces) for pieces in decode(logits.float(), lengths, beam)]

    def waveforms(self, mel: Tensor, lengths: Tensor, keys: Sequence[str]) -> Array:
        """float32 (B, L) waveforms of any mels (B, n_mels, S) of these lengths (B,), start phases seeded by the keys.

        So a clip sounds the same whatever it is batched with, in training and in evaluation.
        """
        seeds = [zlib.crc32(key.encode()) for key in keys]
        waveforms: Array = mel_to_wav(mel, lengths, seeds, self.vocoder).cpu().numpy()
        return waveforms

    def clip(
        self, crops: Tensor | Array, reference: Tensor, window: SlidingWindow = SlidingWindow()
    ) -> tuple[Tensor, Array]:
        """One clip of any length: its mel, as `read` gives it, and its waveform, float32 (640 T - 160,)."""
        mel, _ = self.read(crops, reference, window)
        return mel, self.waveform(mel)

    @torch.no_grad()
    def read(
        self, crops: Tensor | Array, reference: Tensor, window: SlidingWindow = SlidingWindow()
    ) -> tuple[Tensor, str | None]:
        """The network's part of one clip, in windows where it is longer than one: memory does not grow with it.

        Args:
            crops: uint8 (T, R, R) at 25 frames a second.
            reference: (n_mels, S) of the reference utterance.
            window: of long clips.

        Returns:
            Its mel, float32 (n_mels, 4 T) on `device`, and what the CTC head reads; None without a head or a tokenizer.
            In the middle of an overlap one window's letters go over into the next one's.
        """
        crops = torch.as_tensor(crops)
        mel = torch.zeros(len(reference), MEL_FRAMES_PER_VIDEO_FRAME * len(crops), device=self.device)
        logits: list[Tensor] = []
        starts = window.starts(len(crops))
        for start, weights in zip(starts, window.weights(starts, len(crops)), strict=True):
            part = crops[start : start + window.size][None]
            output = self.mels(part, torch.tensor([part.shape[1]]), reference[None])
            where = slice(MEL_FRAMES_PER_VIDEO_FRAME * start, MEL_FRAMES_PER_VIDEO_FRAME * (start + part.shape[1]))
            mel[:, where] += output.mel[0] * torch.from_numpy(weights[where]).to(self.device)
            if self.tokenizer is not None and output.logits is not None:
                # of a video frame's mel frames the second: in the middle of a fade both windows weigh a half
                most = torch.from_numpy(weights[where][1::MEL_FRAMES_PER_VIDEO_FRAME] > 0.5)
                logits.append(output.logits[0][most.to(self.device)])
        joined = torch.cat(logits)[None] if logits else None
        hypotheses = self.hypotheses(joined, torch.tensor([0 if joined is None else joined.shape[1]]))
        return mel, None if hypotheses is None else hypotheses[0]

    def waveform(self, mel: Tensor) -> Array:
        """float32 (L,), the waveform of one mel (n_mels, S)."""
        waveform: Array = self.waveforms(mel[None], torch.tensor([mel.shape[1]]), [""])[0]
        return waveform

    def reference(self, voice: Array) -> Tensor:
        """(n_mels, 50), the speaker reference in a sound, float32 (L,) at 16 kHz: its loudest half second.

        Raises:
            ValueError: it is shorter than that, or nothing but silence.
        """
        sound = torch.as_tensor(voice, dtype=torch.float32)
        if sound.dim() != 1 or len(sound) < WINDOW_FRAMES * HOP_LENGTH or not sound.any():
            found = f"{tuple(sound.shape)} samples" if sound.any() or not sound.numel() else "nothing but zeros"
            raise ValueError(f"voice: {found}, and half a second of sound, (8000,) at {SAMPLE_RATE} Hz, is needed")
        analyzed = log_mel(sound, analysis_of(self.vocoder))[None]
        return loudest_reference(analyzed, torch.tensor([analyzed.shape[2]]))[0]

    def speak(self, frames: Array, fps: float, voice: Array | Tensor) -> Speech:
        """Speech for pictures of lips, such as `eval.synthesize.find_lips` cuts out of pictures of a face.

        Args:
            frames: uint8 (N, side, side), gray, or (N, side, side, 3), RGB: the lips with the margin that datasets
                keep around them, of any side; they are resized to `transforms.stored_side`.
            fps: of the frames; the network reads 25 a second.
            voice: float32 (L,), 16 kHz, half a second of the speaker at least; or a reference (n_mels, S).

        Raises:
            ValueError: frames of another shape, too few of them, or a voice too short.
        """
        pictures = np.asarray(frames)
        if pictures.dtype != np.uint8 or pictures.ndim not in (3, 4) or pictures.shape[1] != pictures.shape[2]:
            found = f"{pictures.dtype} {pictures.shape}"
            raise ValueError(f"frames: {found}, and uint8 (N, side, side) or (N, side, side, 3) was expected")
        count = round(len(pictures) * FPS / fps) if fps > 0 else 0
        if count < SegmentSettings().min_frames:
            raise ValueError(f"frames: {len(pictures)} at {fps:g} a second, and 0.2 s at least are needed")
        # the frame that is shown at the middle of each 25th of a second
        shown = np.minimum(((np.arange(count) + 0.5) * fps / FPS).astype(int), len(pictures) - 1)
        side = self.transforms.stored_side
        crops = np.stack([_gray(pictures[number], side) for number in shown])
        reference = voice if isinstance(voice, Tensor) and voice.dim() == 2 else self.reference(np.asarray(voice))
        mel, text = self.read(crops, reference)
        return Speech(self.waveform(mel), mel.cpu().numpy(), text)


def _gray(picture: Array, side: int) -> Array:
    """uint8 (side, side) of a picture, gray or RGB."""
    return np.asarray(Image.fromarray(picture).convert("L").resize((side, side), Image.Resampling.BILINEAR))
