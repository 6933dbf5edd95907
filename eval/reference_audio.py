"""The speaker reference of an audio or video file: the loudest stretch of whatever sound it has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.container import InputContainer
from torch import Tensor

from model.mel import MelSettings, log_mel
from model.segment_sampling import loudest_reference
from pipeline.media.channels import ChannelLevels
from pipeline.media.decoding_limits import DECODER_OPTIONS, DecodingLimits, check_sound
from pipeline.media.errors import FAULTS, ClipError
from pipeline.media.streams import OPTIONS, choose_sound
from runtime.constants import SAMPLE_RATE
from runtime.limits import MAX_DECODING_BYTES
from runtime.memory_limit import memory_limited
from runtime.regular_file import open_regular

Array = np.ndarray[Any, Any]

_MIN_SECONDS = 0.5
"""Seconds: a reference is 50 mel frames."""
_MAX_SECONDS = 10 * 60
_FORMATS = "wav,w64,aiff,flac,mp3,aac,ogg,mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,dv,amr,caf,au"
"""Files of sound, and of pictures with sound; no playlists, which lead to other files."""


def reference_of(file: Path, mel: MelSettings) -> Tensor | None:
    """(n_mels, 50), the speaker reference that a file of sound or a video gives: the loudest 50 mel frames of its first
    ten minutes, by the analysis that the network was trained with. None where it has no sound, or nothing but zeros.

    `OSError` where it cannot be read, `ValueError` where it holds no media, or too little sound.
    """
    sound = torch.from_numpy(_sound_of(file))
    if not sound.any():
        return None
    if len(sound) < _MIN_SECONDS * SAMPLE_RATE:
        found = f"{len(sound) / SAMPLE_RATE:.2f} s of sound"
        raise ValueError(f"{file}: {found} for a speaker reference, and {_MIN_SECONDS} s at least are needed")
    analyzed = log_mel(sound, mel)[None]
    return loudest_reference(analyzed, torch.tensor([analyzed.shape[2]]))[0]


def _sound_of(file: Path, channel: int | None = None) -> Array:
    """float32 (L,), 16 kHz mono, of all channels or of one alone; nothing where there is no sound."""
    levels = ChannelLevels()
    blocks: list[Array] = []
    most, count = _MAX_SECONDS * SAMPLE_RATE, 0
    limits = DecodingLimits()
    with open_regular(file) as opened, memory_limited(MAX_DECODING_BYTES):
        try:
            with av.open(opened, "r", options={"format_whitelist": _FORMATS, **OPTIONS}) as container:
                stream = choose_sound(container, [])
                if stream is None:
                    return np.zeros(0, np.float32)
                stream.codec_context.options = DECODER_OPTIONS
                layout = "mono" if channel is None else None
                to_16k = av.AudioResampler(format="fltp", layout=layout, rate=SAMPLE_RATE)
                for frame in _frames(container, stream, limits):
                    check_sound(frame.layout.nb_channels, frame.sample_rate)
                    levels.add(frame)
                    frame.pts = None  # where in time speech is does not matter, and gaps are not to be filled
                    blocks += [block.to_ndarray()[channel or 0] for block in to_16k.resample(frame)]
                    count += frame.samples * SAMPLE_RATE // frame.sample_rate
                    limits.seconds = count / SAMPLE_RATE
                    if count >= most:
                        break
                blocks += [block.to_ndarray()[channel or 0] for block in to_16k.resample(None)]
        except ClipError as error:
            raise ValueError(f"{file}: {error.detail}") from error
        except (av.FFmpegError, OSError, *FAULTS) as error:  # damage, or a format that changes midway
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"{file}: no sound that can be read: {reason}") from error
    single = levels.single_channel()
    if single is not None and channel is None:
        return _sound_of(file, single[0])
    sound: Array = np.concatenate([np.zeros(0, np.float32), *blocks])[:most]
    return np.where(np.isfinite(sound), sound, np.float32(0))


def _frames(container: InputContainer, stream: av.AudioStream, limits: DecodingLimits) -> Iterator[av.AudioFrame]:
    for packet in container.demux(stream):
        limits.check_packet(packet)
        yield from packet.decode()
