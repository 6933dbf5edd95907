"""One job of the page, in the worker: a face in, speech out, and what the page shows of it, as files and messages.

A job is told of as it goes: each part as it begins, the speech as soon as it can be played, then the picture with the
speech, and last, where there was sound, the original and its scores.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from eval.metrics.pair_scores import score
from eval.metrics.registry import metric_of
from eval.reference_audio import reference_of
from eval.serve.wire import Message
from eval.synthesize.lip_crop import LipCrops
from eval.synthesize.lip_track import track_lips
from eval.synthesize.mux import encode_speech, mux_sound, plays_everywhere
from eval.synthesize.part_times import DECODING, NETWORK, VOCODER, PartTimes
from eval.synthesize.plain_copy import on_plain_copy
from eval.synthesize.video_info import VideoInfo, probe_video
from model.synthesis import Synthesizer
from model.vocoders.mel_to_wav import analysis_of
from pipeline.media.sync import to_pcm16
from pipeline.tracking.lip_tracks import TrackSettings
from runtime.constants import FPS
from runtime.images import COLUMNS, TILE, color_map, make_tiles, mel_levels, sheet
from shards.format.wav import encode_wav

Array = np.ndarray[Any, Any]
Told = Callable[[Message], None]

PICTURE, SCORES = "picture", "scores"
SPEECH = "speech.mp4"
METRICS = ("stoi", "estoi", "pesq")
FRAMES_A_SHEET = 50 * COLUMNS


@dataclass(frozen=True)
class FaceJob:
    """What is asked for.

    Attributes:
        folder: of the job's files; results go there.
        video: name of the uploaded file in it; empty for pictures that come one by one.
        voice: file of a voice; None: the video's own sound.
        most: seconds that the clip may last.
    """

    folder: Path
    video: str
    voice: Path | None
    most: float

    def speak(self, synthesizer: Synthesizer, told: Told) -> None:
        """Do it all (`ValueError`, `OSError`: as on the command line, the message names the file)."""
        on_plain_copy(
            self.folder / self.video, lambda plain, notes: self._speak(plain, notes, synthesizer, told), self.most
        )

    def _speak(self, plain: Path, notes: list[str], synthesizer: Synthesizer, told: Told) -> None:
        times = times_told(told)
        video = self.folder / self.video
        with times.timed(DECODING):
            info = probe_video(plain)
            reference = self.reference(synthesizer)
        settings = TrackSettings(scene_cuts="split")
        lips = track_lips(video, info, settings, synthesizer.transforms, times, with_sound=True, most=self.most)
        sound = self.spoken(lips, notes, reference, synthesizer, times, told)
        self.show_lips(lips, info, synthesizer, told)
        with times.timed(PICTURE):
            mux_sound(plain, sound, lips.start, self.folder / SPEECH, Path(SPEECH), not plays_everywhere(plain))
        told({"video": True, "seconds": times.seconds})
        if lips.sound is not None:
            with times.timed(SCORES):
                self._compare(lips.sound, sound, told)
        told({"seconds": times.seconds})

    def reference(self, synthesizer: Synthesizer) -> torch.Tensor:
        """The speaker reference (`ValueError`: there is no sound to take it from)."""
        file = self.voice or self.folder / self.video
        reference = reference_of(file, analysis_of(synthesizer.vocoder))
        if reference is None:
            needed = "name a file with --speaker-reference" if self.voice is None else "that of a speaker was expected"
            raise ValueError(f"{file}: it has no sound for a speaker reference: {needed}")
        return reference

    def spoken(
        self,
        lips: LipCrops,
        notes: list[str],
        reference: torch.Tensor,
        synthesizer: Synthesizer,
        times: PartTimes,
        told: Told,
    ) -> Array:
        """The speech, int16 (L,), which is written and told of."""
        with times.timed(NETWORK):
            mel, text = synthesizer.read(lips.roi, reference)
        with times.timed(VOCODER):
            sound = to_pcm16(synthesizer.waveform(mel))
        (self.folder / "speech.wav").write_bytes(encode_speech(sound))
        told(
            {
                "speech": True,
                "text": text,
                "notes": notes + lips.notes,
                "frames": len(lips.roi),
                "length": len(lips.roi) / FPS,
                "seconds": times.seconds,
            }
        )
        picture = Image.fromarray(mel_levels(mel.cpu().numpy()))
        picture.putpalette(color_map().tobytes())
        picture.save(self.folder / "mel.png", optimize=True)
        return sound

    def show_lips(self, lips: LipCrops, info: VideoInfo | None, synthesizer: Synthesizer, told: Told) -> None:
        """Write what the network sees as sheets of frames, and tell where in the picture that was."""
        margin = synthesizer.transforms.margin
        side = lips.roi.shape[1]
        tiles = make_tiles(lips.roi[:, margin : side - margin, margin : side - margin])
        for number, first in enumerate(range(0, len(tiles), FRAMES_A_SHEET)):
            buffer = io.BytesIO()
            Image.fromarray(sheet(tiles[first : first + FRAMES_A_SHEET])).save(buffer, "JPEG", quality=85)
            (self.folder / f"lips-{number}.jpg").write_bytes(buffer.getvalue())
        size = None if info is None else [info.width, info.height]
        told(
            {
                "lips": {"tile": TILE, "columns": COLUMNS, "frames": FRAMES_A_SHEET},
                "squares": lips.squares.round(1).tolist(),
                "size": size,
            }
        )

    def _compare(self, original: Array, sound: Array, told: Told) -> None:
        (self.folder / "original.wav").write_bytes(encode_wav(to_pcm16(original)))
        scored = score(METRICS, original, sound.astype(np.float32) / np.float32(32768))
        rows = []
        for name in METRICS:
            display = metric_of(name).display
            value = scored.values.get(name)
            rows.append([display.title, display.format(value), scored.failed.get(name, display.better)])
        told({"original": True, "scores": rows})


def times_told(told: Told) -> PartTimes:
    """A stopwatch that tells how far each part is."""
    times = PartTimes()

    def tell(part: str, done: float | None) -> None:
        told({"part": part, "done": done, "seconds": times.seconds})

    times.told = tell
    return times
