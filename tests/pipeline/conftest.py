"""What tests of odd files are made with: FFmpeg, and short sources of picture and sound."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.corpora import click_track, pictures, write_video
from tests.pipeline.odd_files import Ffmpeg


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder of two clips with transcripts."""
    root = tmp_path / "corpus"
    for name in ("a", "b"):
        write_video(root / f"{name}.mp4", pictures(10), click_track(0.4, 0.1))
        (root / f"{name}.txt").write_text("words\n")
    return root


@pytest.fixture
def ffmpeg(tmp_path: Path) -> Ffmpeg:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

    def run(*arguments: str | Path, frames: np.ndarray[Any, Any] | None = None, rate: int = 25) -> Path:
        command: list[str | Path] = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"]
        if frames is not None:
            height, width = frames.shape[1:]
            command += [
                "-f",
                "rawvideo",
                "-pix_fmt",
                "gray",
                "-s",
                f"{width}x{height}",
                "-r",
                str(rate),
                "-i",
                "pipe:0",
            ]
        pixels = None if frames is None else frames.tobytes()
        subprocess.run([*command, *arguments], check=True, cwd=tmp_path, input=pixels)
        return tmp_path / arguments[-1]

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """50 frames of 160x160 and two seconds of sound; a flash and a click at 1 s."""
    return write_video(tmp_path / "source.mp4", pictures(50, [25]), click_track(2.0, 1.0))


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "sound.wav", click_track(1.0, 0.4, 48_000), 48_000)
    return tmp_path / "sound.wav"
