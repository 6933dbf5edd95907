"""One utterance of the page's live mode, in the worker: pictures come in while a key is held, speech goes out after it.

Each picture is decoded, and its lips are tracked, as it comes: when the key is released, little is left to do but the
network and the vocoder.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from eval.serve.face_job import FaceJob, Told, times_told
from eval.serve.wire import Message
from eval.synthesize.lip_track import LipTracking, video_frame
from eval.synthesize.part_times import DECODING
from model.synthesis import Synthesizer
from pipeline.media.crop import UPRIGHT
from pipeline.media.decoding_limits import check_picture
from pipeline.media.errors import ClipError
from pipeline.media.picture import Picture
from pipeline.tracking.lip_tracks import TrackSettings
from runtime.constants import FPS

_HEAD = struct.Struct("<II")
"""Before each picture: its time in milliseconds, and its bytes."""
_FRAME = Fraction(1000, FPS)
_NAME = Path("live")


class LiveJob:
    """An utterance that is being mouthed.

    Args:
        job: whose folder and voice are used.
        synthesizer: that speaks in the end.
        told: of what is done.
    """

    def __init__(self, job: FaceJob, synthesizer: Synthesizer, told: Told) -> None:
        self._job, self._synthesizer, self._told = job, synthesizer, told
        self._times = times_told(told)
        self._reference = job.reference(synthesizer)
        self._tracking = LipTracking(TrackSettings(scene_cuts="split"), synthesizer.transforms, self._times)
        self._picture = Picture(Fraction(1, 1000), duration=_FRAME)
        self._before_release: dict[str, float] = {}

    def release(self) -> None:
        """The key has been released: what is taken from now on is what is waited for."""
        self._before_release = dict(self._times.seconds)

    def add(self, content: bytes) -> None:
        """Look at further pictures (`ValueError`: they are none, go back in time, or on for too long)."""
        ticks = self._picture.ticks
        for milliseconds, jpeg in pictures_in(content):
            if ticks and milliseconds <= ticks[-1]:
                raise ValueError(f"{_NAME}: a picture at {milliseconds} ms after one at {ticks[-1]} ms")
            if ticks and milliseconds - ticks[0] > 1000 * self._job.most:
                raise ValueError(f"{_NAME}: longer than {self._job.most:g} s, which is the most")
            with self._times.timed(DECODING):
                frame = video_frame(_decoded(jpeg), milliseconds)
            self._tracking(len(ticks), frame, UPRIGHT)
            ticks.append(milliseconds)

    def finish(self) -> None:
        """Speak (`ValueError`: no face was seen, or too little)."""
        if not self._picture.ticks:
            raise ValueError(f"{_NAME}: no picture came: was the key held long enough?")
        lips = self._tracking.lips(_NAME, self._picture, [], self._job.most)

        def told(message: Message) -> None:
            seconds = self._times.seconds.items()
            after = {part: taken - self._before_release.get(part, 0.0) for part, taken in seconds}
            self._told(message | {"after": after})

        self._job.spoken(lips, [], self._reference, self._synthesizer, self._times, told)
        self._job.show_lips(lips, None, self._synthesizer, self._told)


def pictures_in(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(milliseconds, JPEG) of each picture in what the page sends (`ValueError`: it is cut)."""
    place = 0
    while place < len(content):
        if place + _HEAD.size > len(content):
            raise ValueError(f"{_NAME}: pictures were cut")
        milliseconds, size = _HEAD.unpack_from(content, place)
        place += _HEAD.size
        if place + size > len(content):
            raise ValueError(f"{_NAME}: a picture was cut")
        yield milliseconds, content[place : place + size]
        place += size


def _decoded(jpeg: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
            check_picture(*picture.size)
            return np.asarray(picture.convert("RGB"))
    except ClipError as error:
        raise ValueError(f"{_NAME}: {error.detail}") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{_NAME}: not a JPEG picture: {error}") from error
