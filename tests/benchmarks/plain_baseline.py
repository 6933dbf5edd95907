"""Training as one writes it at first: a data set that opens an mp4 at a time, batches padded with zeros, a plain step.

The network's layers are those that docs/method.md names, AdamW is as PyTorch has it by default: what this project
computes otherwise, with the same result, is not in it.

What is drawn of a clip, and how its sound and pictures are prepared, is docs/method.md's (Inputs), as in training from
shards; only how it is done is plainer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from model.asr import ASRModel
from model.lip_to_speech import LipToSpeech, LipToSpeechSettings
from model.losses import content_loss, ctc_loss, mel_l1
from model.mel import log_mel
from model.padding import ValidFrames
from model.resnet import ResidualBlock, SpatialGate
from model.segment_sampling import SPEAKER_FRAMES_PADDED, WINDOW_FRAMES, Windows
from model.tokenizer import Tokenizer
from model.transforms import TransformSettings
from model.visual_encoder import VisualEncoder
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, N_MELS
from shards import Sample
from tests.benchmarks.loader import lip_pictures
from train.settings import TrainSettings


class Example(NamedTuple):
    """A clip as the plain way has it, or several: then each tensor has B in front, and `lengths` are (B,).

    `video` (T, size, size); `lengths` frames; `window` first frame and number of frames to generate; `reference`
    (80, 100); `target` (80, 200) of the window; `pieces` (U,) of the text.
    """

    video: Tensor
    lengths: Tensor
    window: Tensor
    reference: Tensor
    target: Tensor
    pieces: Tensor
    piece_lengths: Tensor


class PlainClips(Dataset[Example]):
    """Clips from mp4s and wavs, which are written to a folder first, as docs/method.md says (Inputs)."""

    def __init__(
        self, videos: list[str], samples: list[Sample], tokenizer: Tokenizer, transforms: TransformSettings, folder: str
    ) -> None:
        self._tokenizer, self._transforms = tokenizer, transforms
        clips = zip(videos, samples, strict=True)
        self._clips = [(video, sample.meta.lips, sample.text) for video, sample in clips]
        self._wav = f"{folder}/{{}}.wav"
        for number, sample in enumerate(samples):
            soundfile.write(self._wav.format(number), sample.wav, 16_000)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> Example:
        (path, lips, text), settings = self._clips[number], self._transforms
        frames, size = len(lips), min(WINDOW_FRAMES, len(lips))
        shift = random.randint(-settings.max_shift, settings.max_shift)
        centres = [[x + shift, y + shift] for x, y in lips]
        video = lip_pictures(path, centres, settings.crop_radius, settings.size).astype(np.float32) / 255
        if random.random() < settings.flip_probability:
            video = video[:, :, ::-1]
        video = (video - settings.mean) / settings.std
        side, overhang = settings.erased
        x, y = (random.randint(-overhang, settings.size - side + overhang) for _ in range(2))
        video[:, max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)] = 0
        start = random.randint(0, frames - size)
        if random.random() < settings.mask_probability:
            masked = min(random.randint(settings.mask_min_frames, settings.mask_max_frames), size)
            first = start + random.randint(0, size - masked)
            video[first : first + masked] = 0
        mel = log_mel(torch.from_numpy(soundfile.read(self._wav.format(number), dtype="float32")[0]))
        reference_start = random.randint(0, max(0, MEL_FRAMES_PER_VIDEO_FRAME * frames - WINDOW_FRAMES))
        reference = mel[:, : MEL_FRAMES_PER_VIDEO_FRAME * frames][:, reference_start : reference_start + WINDOW_FRAMES]
        target = mel[:, MEL_FRAMES_PER_VIDEO_FRAME * start : MEL_FRAMES_PER_VIDEO_FRAME * (start + size)]
        pieces = self._tokenizer.encode(text)
        return Example(
            torch.from_numpy(video),
            torch.tensor(frames),
            torch.tensor([start, size]),
            F.pad(reference, (0, SPEAKER_FRAMES_PADDED - reference.shape[1])),
            F.pad(target, (0, MEL_FRAMES_PER_VIDEO_FRAME * WINDOW_FRAMES - target.shape[1])),
            torch.tensor(pieces),
            torch.tensor(len(pieces)),
        )


def padded(examples: list[Example]) -> Example:
    """A batch, padded with zeros to its longest clip."""
    columns = zip(*examples, strict=True)
    return Example(*(pad_sequence(list(x), batch_first=True) if x[0].dim() else torch.stack(x) for x in columns))


def noise_examples(lengths: Sequence[int], size: int, seed: int = 0) -> Example:
    """A batch of noise: clips of those many frames, pictures of that side, texts of a piece in eight frames."""
    random = torch.Generator().manual_seed(seed)
    examples = []
    for length in lengths:
        pieces = torch.randint(4, 40, (max(1, length // 8),), generator=random)
        examples.append(
            Example(
                torch.randn(length, size, size, generator=random),
                torch.tensor(length),
                torch.tensor([0, min(length, WINDOW_FRAMES)]),
                torch.randn(N_MELS, SPEAKER_FRAMES_PADDED, generator=random),
                torch.randn(N_MELS, MEL_FRAMES_PER_VIDEO_FRAME * WINDOW_FRAMES, generator=random),
                pieces,
                torch.tensor(len(pieces)),
            )
        )
    return padded(examples)


class PlainEncoder(VisualEncoder):
    """A 3-D convolution, maps in contiguous layout."""

    def frame_vectors(self, video: Tensor, lengths: Tensor, valid: ValidFrames | None = None) -> Tensor:
        maps = self.front(video).transpose(1, 2).flatten(0, 1).contiguous()
        maps = F.max_pool2d(F.relu(self.front_norm(maps)), 3, stride=2, padding=1)
        vectors: Tensor = self.project(self.resnet(maps))
        return vectors.unflatten(0, (len(video), -1))  # type: ignore[no-any-return]


class PlainGate(SpatialGate):
    """A convolution."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.stack([x.amax(dim=1), x.mean(dim=1)], dim=1)
        weight: Tensor = self.norm(self.conv(pooled)).sigmoid()
        return x * weight


def plain_network(settings: LipToSpeechSettings) -> LipToSpeech:
    """A new network, which takes padding for frames."""
    network = LipToSpeech(replace(settings, padding="published"))
    network.visual = PlainEncoder(settings.visual, "published")
    for block in network.modules():
        if isinstance(block, ResidualBlock):
            block.spatial_gate = PlainGate()
    return network


def plain_step(
    settings: TrainSettings, vocabulary: int, device: str | torch.device = "cpu", asr: ASRModel | None = None
) -> Callable[[Example], None]:
    """A step on a new network; with an ASR model, the content loss is one of its losses."""
    torch.manual_seed(settings.seed)
    trained = plain_network(replace(settings.network, vocabulary=vocabulary)).train().to(device)
    kept = settings.optimizer
    updates = torch.optim.AdamW(
        trained.parameters(), lr=kept.learning_rate, weight_decay=kept.weight_decay, amsgrad=kept.amsgrad
    )

    def step(batch: Example) -> None:
        updates.zero_grad()
        windows = Windows(*batch.window.unbind(1))
        video, mel_frames = batch.video[:, None], MEL_FRAMES_PER_VIDEO_FRAME * windows.sizes
        output = trained(video, batch.lengths, batch.reference, windows=windows, window_frames=WINDOW_FRAMES)
        l1 = mel_l1(output.mel, batch.target, mel_frames, "published")
        ctc = ctc_loss(output.logits, batch.lengths, batch.pieces, batch.piece_lengths).loss
        loss = settings.losses.mel * l1 + settings.losses.ctc * ctc
        if asr is not None:
            loss = loss + settings.losses.content * content_loss(asr, output.mel, batch.target, mel_frames)
        loss.backward()
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(trained.parameters(), settings.clip_norm)
        updates.step()

    return step
