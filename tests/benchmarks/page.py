"""How long the page takes for a clip of 3 and of 20 seconds, part by part, and from release to speech in live mode.

A network of the demo's sizes, on all cores; a drawn face of 160x160, and the same at 640x480 as a camera has it. In
live mode pictures of 480x360 come 25 a second, in chunks of five, and the clock runs from the last one to the message
that there is speech: a browser needs some milliseconds more to play it. What else the machine does is in the figures:
look at the load.
"""

from __future__ import annotations

import io
import os
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from model.checkpoint import Checkpoint, save_checkpoint
from model.lip_to_speech import LipToSpeech
from tests.corpora import click_track, write_video
from tests.eval.page_server import Server, Visitor, page_server
from tests.faces import on_canvas, talking_face
from train.__main__ import parse

ROOT = Path(__file__).resolve().parents[2]
SECONDS = (3, 20)
PARTS = ("decoding", "finding lips", "network", "vocoder", "picture", "scores")
_PICTURES_A_CHUNK = 5

Array = np.ndarray[Any, Any]


def measure(runs: int) -> Iterator[str]:
    """Lines of the report: two Markdown tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings, *_ = parse(["--config", str(ROOT / "configs/demo.yaml")])
        network = LipToSpeech(settings.network)
        save_checkpoint(
            folder / "best.pt", Checkpoint(network.settings, network.state_dict(), transforms=settings.transforms)
        )
        face, _ = talking_face(0, 25 * SECONDS[-1])
        with page_server(folder / "best.pt", folder / "page", threads=None) as server:
            yield from _files(server, folder, face, runs)
            yield ""
            yield from _live(server, folder, face, runs)
    yield f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {torch.__version__}"


def _files(server: Server, folder: Path, face: Array, runs: int) -> Iterator[str]:
    yield f"| a file, seconds | {' | '.join(PARTS)} | all |"
    yield f"|---{'|---:' * (len(PARTS) + 1)}|"
    for title, side in (("160x160", None), ("640x480", 480)):
        for seconds in SECONDS:
            frames = face[: 25 * seconds]
            frames = frames if side is None else on_canvas(frames, 640, 480, 80, 0, side)
            video = write_video(folder / f"{title}-{seconds}.mp4", frames, click_track(seconds, 1.0))
            with Visitor(server) as visitor:
                jobs = [visitor.speak(video)["seconds"] for _ in range(runs + 1)][1:]
            taken = [statistics.median(job[part] for job in jobs) for part in PARTS]
            total = statistics.median(sum(job.values()) for job in jobs)
            yield f"| {title}, {seconds} s | {' | '.join(f'{part:.2f}' for part in (*taken, total))} |"


def _live(server: Server, folder: Path, face: Array, runs: int) -> Iterator[str]:
    parts = PARTS[:4]
    yield f"| live, seconds after release | {' | '.join(parts)} | until there is speech |"
    yield f"|---{'|---:' * (len(parts) + 1)}|"
    voice = write_video(folder / "voice.mp4", face[:25], click_track(1.0, 0.2))
    for seconds in SECONDS:
        frames = on_canvas(face[: 25 * seconds], 480, 360, 60, 0, 360)
        with Visitor(server) as visitor:
            visitor.send(voice, "voice")
            utterances = [_utterance(visitor, frames) for _ in range(runs + 1)][1:]
        taken = [statistics.median(after[part] for _, after in utterances) for part in parts]
        waited = statistics.median(waited for waited, _ in utterances)
        yield f"| {seconds} s | {' | '.join(f'{part:.2f}' for part in (*taken, waited))} |"


def _utterance(visitor: Visitor, frames: Array) -> tuple[float, dict[str, float]]:
    """Seconds from the last picture to the news that there is speech, and those of each part in them."""
    chunks = [_packed(frames, first) for first in range(0, len(frames), _PICTURES_A_CHUNK)]
    job = visitor.start(live=True, voice="file")["job"]
    began = time.perf_counter()
    for number, chunk in enumerate(chunks, 1):
        time.sleep(max(0.0, began + number * _PICTURES_A_CHUNK / 25 - time.perf_counter()))
        released = time.perf_counter()
        visitor.ask("POST", "pictures?end" if number == len(chunks) else "pictures", chunk)
    spoken = next(state for state in visitor.news() if state and state["id"] == job and state.get("speech"))
    return time.perf_counter() - released, spoken["after"]


def _packed(frames: Array, first: int) -> bytes:
    content = b""
    for number in range(first, min(first + _PICTURES_A_CHUNK, len(frames))):
        buffer = io.BytesIO()
        Image.fromarray(frames[number]).save(buffer, "JPEG", quality=85)
        content += struct.pack("<II", 40 * number, buffer.tell()) + buffer.getvalue()
    return content
