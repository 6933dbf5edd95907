"""One clip as an mp4 file: H.264 and AAC, every frame and every sample at its own presentation time.

The bytes depend on pixels, samples and library versions only: one encoding thread, fixed quality, no dates
and no library names in the file. AAC's priming samples are hidden by an edit list, as in any mp4; a player
or reader that honors presentation times plays sample 0 at its time.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from runtime.atomic import atomic_path
from runtime.constants import FPS, SAMPLE_RATE

_AAC_FRAME = 1024
# PyAV, not FFmpeg's tool: two clips that test clocks need a presentation time for each frame, which raw pipes lack.
# Without cpu-independent, x264's macroblock tree takes a route through vector registers whose outcome differs
# from run to run (seen in one clip of three).
_X264 = "threads=1:lookahead-threads=1:cpu-independent=1"


def write_mp4(
    path: Path, frames: Iterable[np.ndarray], frame_ticks: list[int], sound: np.ndarray, sound_start: int
) -> None:
    """Writes `frames`, (H, W, 3) uint8 RGB, shown from `frame_ticks` (1/25 s), and `sound`, (L,) float32 at
    16 kHz, whose first sample is played `sound_start` samples after time 0.

    The file appears under its name only when it is complete.
    """
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with atomic_path(path) as part, av.open(str(part), "w", format="mp4", options=options) as container:
        video = container.add_stream("libx264", rate=FPS)
        assert isinstance(video, av.VideoStream)
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        assert isinstance(audio, av.AudioStream)
        audio.bit_rate = 64000
        # The flag must be set before either encoder opens.
        for stream in (video, audio):
            stream.codec_context.options = {"flags": "+bitexact"}
        opened = False
        for picture, tick in zip(frames, frame_ticks, strict=True):
            if not opened:
                video.height, video.width = picture.shape[:2]
                video.pix_fmt = "yuv420p"
                video.time_base = video.codec_context.time_base = Fraction(1, FPS)
                video.codec_context.thread_count = 1
                video.codec_context.gop_size = 2 * FPS
                video.codec_context.options = {
                    "crf": "20",
                    "preset": "fast",
                    "flags": "+bitexact",
                    "x264-params": _X264,
                }
                _write_sound(container, audio, sound, sound_start)
                opened = True
            frame = _to_yuv420p(picture)
            frame.pts, frame.time_base = tick, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))


def _write_sound(container: av.container.OutputContainer, audio: av.AudioStream, sound: np.ndarray, start: int) -> None:
    audio.codec_context.time_base = Fraction(1, SAMPLE_RATE)
    for first in range(0, len(sound), _AAC_FRAME):
        piece = np.ascontiguousarray(sound[None, first : first + _AAC_FRAME], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, start + first
        frame.time_base = Fraction(1, SAMPLE_RATE)
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


def _to_yuv420p(picture: np.ndarray) -> av.VideoFrame:
    """BT.601, limited range, chroma the mean of two by two: what a reader assumes of an untagged small file.

    Done here, not by libswscale, whose vector code differs from machine to machine.
    """
    red, green, blue = np.ascontiguousarray(np.moveaxis(picture, 2, 0), np.float32)
    luma = 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255
    width = luma.shape[1]
    red, green, blue = (
        (plane[::2, ::2] + plane[::2, 1::2] + plane[1::2, ::2] + plane[1::2, 1::2]) / 4 for plane in (red, green, blue)
    )
    cb = 128 + (-37.797 * red - 74.203 * green + 112.0 * blue) / 255
    cr = 128 + (112.0 * red - 93.786 * green - 18.214 * blue) / 255
    planes = [(plane + 0.5).astype(np.uint8).reshape(-1, width) for plane in (luma, cb, cr)]
    return av.VideoFrame.from_ndarray(np.concatenate(planes), format="yuv420p")
