"""Small videos and corpora made on the spot, for tests: a flash and a click that happen at the same moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE = 16_000


def click_track(seconds: float, click_at: float, rate: int = RATE) -> np.ndarray[Any, Any]:
    """float32 samples: quiet noise with one loud click of 2 ms that begins at `click_at` seconds."""
    sound = np.random.default_rng(1).normal(0, 0.002, round(seconds * rate)).astype(np.float32)
    start = round(click_at * rate)
    sound[start : start + rate // 500] += 0.8
    return sound


def pictures(
    count: int, flash: Iterable[int] = (), size: tuple[int, int] = (160, 160), seed: int = 0
) -> np.ndarray[Any, Any]:
    """uint8 (count, height, width, 3): a dim textured picture, white in the frames of `flash`."""
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 120, (size[0] // 8, size[1] // 8, 3))
    base = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
    frames = np.stack([np.roll(base, shift, axis=1) for shift in range(count)])
    frames[list(flash)] = 250
    return frames


def write_video(
    path: Path,
    frames: np.ndarray[Any, Any],
    sound: np.ndarray[Any, Any] | None,
    *,
    times: Sequence[Fraction] | None = None,
    rate: Fraction | int = 25,
    sound_start: Fraction = Fraction(0),
    sound_rate: int = RATE,
    codec: str = "libx264",
    sound_codec: str = "aac",
    options: dict[str, str] | None = None,
    encoder: dict[str, str] | None = None,
) -> Path:
    """Write a video whose frame n is shown at `times[n]` (default: n / rate), its sound beginning at `sound_start`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = Fraction(1, 90_000)
    times = times or [Fraction(n) / rate for n in range(len(frames))]
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=rate, options={"crf": "10", "preset": "ultrafast"} | (encoder or {}))
        assert isinstance(video, av.VideoStream)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.time_base = video.codec_context.time_base = base
        audio: av.AudioStream | None = None
        if sound is not None:
            stream = container.add_stream(sound_codec, rate=sound_rate, layout="mono")
            assert isinstance(stream, av.AudioStream)
            audio = stream
            audio.time_base = Fraction(1, sound_rate)
        for picture, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = int(time / base), base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            for packet in _encoded_sound(audio, sound, sound_start, sound_rate):
                container.mux(packet)
    return path


def _encoded_sound(
    audio: av.AudioStream, sound: np.ndarray[Any, Any], start: Fraction, rate: int
) -> Iterable[list[av.Packet[Any]]]:
    size = audio.codec_context.frame_size or 1024
    wanted = audio.codec_context.format.name
    for first in range(0, len(sound), size):
        block = sound[None, first : first + size]
        if not wanted.startswith("flt"):
            block = (block * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(block, format="fltp" if wanted.startswith("flt") else "s16", layout="mono")
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        frame.pts = first + round(start * rate)
        yield audio.encode(frame)
    yield audio.encode(None)


def coordinate_line(path: str, frames: int, center: tuple[int, int] = (80, 100), separator: str = ":") -> str:
    return f"{path}.mp4{separator}" + "/".join(f"{center[0]}/{center[1]}" for _ in range(frames))


class Lrs2Corpus:
    """A small corpus in LRS2 form below a folder; clips are added one by one, then the lists are written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "LRS2-BBC"
        self.crops = folder / "LRS2_crop"
        self.lines: dict[str, list[str]] = {"main": [], "pretrain": []}
        self.lists: dict[str, list[str]] = {}

    def add(
        self,
        name: str,
        split: str = "train",
        frames: int = 30,
        *,
        transcript: str | bytes | None = "Text:  PLACE BLUE AT F TWO NOW\nConf:  1\n",
        coordinates: str | None = "",
        video: bool = True,
        click_at: float = 0.4,
        **settings: Any,
    ) -> Path:
        """Add a clip `<speaker>/<clip>`; `coordinates` is its whole line, "" for a good one, None for none."""
        set_name = "pretrain" if split == "pretrain" else "main"
        path = self.root / set_name / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if video:
            shown = pictures(frames, flash=[round(click_at * 25)] if round(click_at * 25) < frames else [])
            settings.setdefault("sound", click_track(frames / 25, click_at))
            write_video(path, shown, **settings)
        if transcript is not None:
            content = transcript if isinstance(transcript, bytes) else transcript.encode()
            path.with_suffix(".txt").write_bytes(content)
        if coordinates is not None:
            self.lines[set_name].append(coordinates or coordinate_line(name, frames))
        self.lists.setdefault(split, []).append(name)
        return path

    def finish(self) -> Lrs2Corpus:
        """Write coordinate files and split lists."""
        self.crops.mkdir(parents=True, exist_ok=True)
        for set_name, lines in self.lines.items():
            if lines:
                (self.crops / f"preprocess_{set_name}.txt").write_text("\n".join(lines) + "\n")
        for split, names in self.lists.items():
            (self.folder / f"{split}.txt").write_text("\n".join(names) + "\n")
        return self
