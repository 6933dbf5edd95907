"""Speak a video of any length, in the voice of any sound.

Ten seconds are the most that networks are trained on: attention has met no further position, and its memory grows with
the square of the length. Up to there a video is read in one piece. A longer one is read in windows of ten seconds,
evenly placed, which overlap by two seconds or more; in the middle of an overlap, one mel fades into the other within a
second. So each frame was read with half a second at least around it, and memory does not grow with the length.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from model.lip_to_speech import Spoken
from model.mel import MelSettings, log_mel
from model.segments import SegmentSettings, loudest_windows, speaker_reference
from model.transforms import TransformSettings, apply
from shards.format.sample import MEL_PER_FRAME, SAMPLE_RATE

Array = np.ndarray[Any, Any]

WINDOW = SegmentSettings().max_frames
"""Video frames, as are the others."""
OVERLAP = 50
FADE = 25

_SHORTEST_VOICE = 0.5
"""Seconds: a reference is 50 mel frames."""
_LONGEST_VOICE = 10 * 60
_FORMATS = "wav,w64,aiff,flac,mp3,aac,ogg,mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,amr,caf,au"
"""Files of sound, and of pictures with sound; no playlists, which lead to other files."""


@torch.no_grad()
def speak(
    network: Callable[[Tensor, Tensor, Tensor], Spoken],
    roi: Array,
    reference: Tensor,
    pictures: TransformSettings,
    device: torch.device,
) -> Tensor:
    """The mel of a whole video.

    Args:
        network: a `LipToSpeech` on `device`, in evaluation mode.
        roi: uint8 (T, R, R) lip regions as stored, at 25 frames a second.
        reference: (1, n_mels, S) of the voice.
        pictures: what the network was trained on.
        device: that it runs on.

    Returns:
        float32 (1, n_mels, 4 T) on `device`.
    """
    reference = reference.to(device)
    starts = window_starts(len(roi))
    whole = torch.zeros(1, reference.shape[1], MEL_PER_FRAME * len(roi), device=device)
    for start, weights in zip(starts, fades(starts, len(roi)), strict=True):
        seen = torch.from_numpy(roi[start : start + WINDOW])[None].to(device)
        lengths = torch.tensor([seen.shape[1]])
        mel = network(apply(seen, lengths, None, pictures), lengths, reference).mel.float()
        first = MEL_PER_FRAME * start
        here = slice(first, first + mel.shape[2])
        whole[..., here] += mel * torch.from_numpy(weights[here]).to(device)
    return whole


def window_starts(frames: int) -> list[int]:
    """First frames of the windows that a video of so many frames is read in: evenly placed, `OVERLAP` or more."""
    count = max(1, -(-(frames - OVERLAP) // (WINDOW - OVERLAP)))
    return [round(start) for start in np.linspace(0, max(frames - WINDOW, 0), count)]


def fades(starts: list[int], frames: int) -> Array:
    """float32 (windows, 4 T): how much of each window is heard in each mel frame. They sum to 1 in every one."""
    times = (np.arange(MEL_PER_FRAME * frames) + 0.5) / MEL_PER_FRAME
    seams = [(first + WINDOW + second) / 2 for first, second in pairwise(starts)]
    begun = [np.ones_like(times), *(np.clip((times - seam) / FADE + 0.5, 0, 1) for seam in seams), np.zeros_like(times)]
    return np.stack([since - until for since, until in pairwise(begun)]).astype(np.float32)


def voice_of(file: Path, mel: MelSettings) -> Tensor | None:
    """The speaker reference that a file of sound or a video gives: the loudest 50 mel frames of it.

    Args:
        file: its first ten minutes are listened to.
        mel: the analysis that the network was trained with.

    Returns:
        (1, n_mels, 50), or None where the file has no sound, or nothing but zeros.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no media, or too little sound.
    """
    sound = torch.from_numpy(_sound_of(file))
    if not sound.any():
        return None
    if len(sound) < _SHORTEST_VOICE * SAMPLE_RATE:
        found = f"{len(sound) / SAMPLE_RATE:.2f} s of sound"
        raise ValueError(f"{file}: {found} to take a voice from, and {_SHORTEST_VOICE} s at least are needed")
    heard, frames = log_mel(sound, mel)[None], SegmentSettings().reference_frames
    windows = loudest_windows(heard, torch.tensor([heard.shape[2]]), frames)
    return speaker_reference(heard, windows, frames)[0]


def _sound_of(file: Path) -> Array:
    """float32 (L,), 16 kHz mono; nothing where there is no sound."""
    blocks: list[Array] = []
    most, count = _LONGEST_VOICE * SAMPLE_RATE, 0
    with file.open("rb") as opened:
        try:
            with av.open(opened, "r", options={"format_whitelist": _FORMATS}) as container:
                stream = container.streams.best("audio")
                if not isinstance(stream, av.AudioStream) or stream.codec_context is None:
                    return np.zeros(0, np.float32)
                to_16k = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
                for frame in container.decode(stream):
                    frame.pts = None  # where in time a voice is does not matter, and gaps are not to be filled
                    blocks += [block.to_ndarray()[0] for block in to_16k.resample(frame)]
                    count += frame.samples * SAMPLE_RATE // frame.sample_rate
                    if count >= most:
                        break
                blocks += [block.to_ndarray()[0] for block in to_16k.resample(None)]
        except (av.FFmpegError, OSError, ValueError, IndexError) as error:  # damage, or a form that changes on the way
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"{file}: no sound that can be read: {reason}") from error
    sound: Array = np.concatenate([np.zeros(0, np.float32), *blocks])[:most]
    return np.where(np.isfinite(sound), sound, np.float32(0))
