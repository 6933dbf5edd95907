"""The process in which files of strangers are read: a checkpoint is loaded once, then jobs come one after the other.

It ends with its server. A job that crashes it, or takes too long, costs that job: the server starts another.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path

import numpy as np

from eval.metrics.registry import load_packages
from eval.serve.face_job import METRICS, FaceJob
from eval.serve.live_job import LiveJob
from eval.serve.wire import Message, WireError, encoded, receive_blocking
from eval.synthesize import find_lips
from eval.systems import device_of, vocoder_of
from model.checkpoint import load_checkpoint
from model.synthesis import Synthesizer
from pipeline.tracking.face_networks import MissingModelsError, network
from runtime.constants import FPS, SAMPLE_RATE
from runtime.signals import exit_with_parent
from runtime.threads import sleep_when_busy

_WARM_UP_FRAMES = 50


class _Worker:
    """The process, as it is after the checkpoint was loaded."""

    def __init__(self, connection: socket.socket, synthesizer: Synthesizer) -> None:
        self._connection, self._synthesizer = connection, synthesizer

    def tell(self, message: Message) -> None:
        self._connection.sendall(encoded(message))

    def serve(self) -> None:
        """Answer the server's messages until it ends."""
        while True:
            message, _ = receive_blocking(self._connection)
            if "job" not in message:
                continue  # of an utterance that has failed: its pictures are still on their way
            request = message["job"]
            folder, voice = Path(request["folder"]), request["voice"]
            job = FaceJob(folder, request["video"], None if voice is None else Path(voice), request["most"])
            try:
                if request["live"]:
                    self._live(job)
                else:
                    job.speak(self._synthesizer, self.tell)
            except WireError:
                raise
            except (ValueError, OSError, MemoryError) as error:
                self.tell({"error": _sentence(error, job)})
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
                self.tell({"error": f"this should not have happened: {found}", "traceback": traceback.format_exc()})
            else:
                self.tell({"finished": True})

    def _live(self, job: FaceJob) -> None:
        utterance = LiveJob(job, self._synthesizer, self.tell)
        self.tell({"listening": True})
        while True:
            message, pictures = receive_blocking(self._connection)
            if message["last"]:
                utterance.release()
            utterance.add(pictures)
            if message["last"]:
                break
        utterance.finish()


def _sentence(error: Exception, job: FaceJob) -> str:
    """An error as the command line says it, but for where the server keeps its files."""
    if isinstance(error, MemoryError):
        return f"{job.video or 'live'}: it takes more memory than is allowed"
    text = str(error)
    for folder in (
        Path(tempfile.gettempdir()),
        job.folder,
        job.folder.parent,
        *([job.voice.parent] if job.voice else ()),
    ):
        text = text.replace(f"{folder}{os.sep}", "")
    return text


def warm_up(synthesizer: Synthesizer) -> None:
    """Compute everything once, so that the first job is not the one that pays for what is compiled and allocated."""
    side = synthesizer.transforms.stored_side
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    synthesizer.speak(np.zeros((_WARM_UP_FRAMES, side, side), np.uint8), FPS, noise)
    load_packages(list(METRICS))
    with suppress(MissingModelsError):  # the first job says so
        network("mesh")
        with suppress(ValueError):  # there is no face in black pictures
            find_lips([np.zeros((160, 160, 3), np.uint8)] * 5, FPS, synthesizer.transforms)


def serve(descriptor: int, parent: int, checkpoint: str, vocoder: str, device: str | None) -> None:
    """What the process does, from its start on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_with_parent(parent)
    connection = socket.socket(fileno=descriptor)
    try:
        chosen = device_of(device)
        if chosen.type == "cpu":
            sleep_when_busy()
        loaded = load_checkpoint(checkpoint)
        speaks = vocoder_of(vocoder, loaded.mel, chosen)
        synthesizer = Synthesizer.from_checkpoint(loaded, chosen, speaks, name=checkpoint)
        warm_up(synthesizer)
    except (ValueError, OSError) as error:
        connection.sendall(encoded({"failed": str(error)}))
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is not to leave what it had read
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # where FFmpeg remarks on strangers' files
    worker = _Worker(connection, synthesizer)
    try:
        worker.tell({"ready": {"device": chosen.type}})
        worker.serve()
    except (WireError, BrokenPipeError, ConnectionResetError):
        pass  # the server has ended
