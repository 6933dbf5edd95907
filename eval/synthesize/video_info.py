"""What a plain video shows, before it is decoded: the size of its picture, its frames and seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av

from pipeline.media.crop import Orientation
from pipeline.media.errors import FAULTS, ClipError
from pipeline.media.probe import Oddity, OddVideoError, probe_header
from pipeline.media.streams import choose_streams, open_video
from runtime.limits import MAX_DECODING_BYTES
from runtime.memory_limit import memory_limited
from runtime.regular_file import open_regular


@dataclass(frozen=True)
class VideoInfo:
    """The size in pixels of a video's picture as a player shows it; frames and seconds as far as the file says them,
    else 0."""

    path: Path  # the plain file that is decoded: the video itself, or a normalized copy of it
    width: int
    height: int
    frames: int
    seconds: float


def probe_video(video: Path) -> VideoInfo:
    """What a plain video shows, from its header and its first frame. `OddVideoError` where it is to be normalized
    first, `OSError` where it cannot be read, `ValueError` where it is none, or has no picture."""
    with open_regular(video) as file, memory_limited(MAX_DECODING_BYTES):
        try:
            with open_video(file) as container:
                stream = choose_streams(container).video
                probe_header(container, stream, file)
                if container.format.name == "avi" and stream.codec_context.has_b_frames:
                    # decoding puts them in order; a copy of their packets has no times that another container keeps
                    raise OddVideoError(Oddity("AVI does not say when its B-frames are shown"))
                frame = next(iter(container.decode(stream)), None)
                if frame is None:
                    raise ClipError("decode", "video_unreadable", "none of its pictures can be decoded")
                width, height = Orientation.of(frame).size(frame)
                begin = (container.start_time or 0) if "matroska" in container.format.name else 0  # it counts from 0
                seconds = max((container.duration or 0) - begin, 0) / av.time_base
                return VideoInfo(
                    video, width, height, stream.frames or round(seconds * (stream.average_rate or 25)), seconds
                )
        except ClipError as error:
            raise ValueError(f"{video}: {error.detail}, and a video of a face was expected") from error
        except OddVideoError:
            raise
        except (av.FFmpegError, OSError, *FAULTS) as error:  # FFmpeg looks for what is not there, in an empty file say
            raise ValueError(
                f"{video}: not a video that can be read: {getattr(error, 'strerror', None) or error}"
            ) from error
