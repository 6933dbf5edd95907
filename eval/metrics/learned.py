"""Two judges of voices that have learned to judge: the likeness of speakers, and how natural speech sounds.

Both are networks of others, whose weights come inside their packages (the extra `judges`): nothing is fetched. They are
loaded once a process, when the first figure is asked for, and run on the CPU in one thread, for processes to be the
parallelism.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from eval.metrics.audio import MetricError, Wave, check_kind, check_sound
from eval.metrics.optional import package
from runtime.constants import SAMPLE_RATE

PACKAGES = {"similarity": ("resemblyzer",), "mos": ("speechmos.dnsmos", "onnxruntime")}
"""What each imports when it is first used, of the extra `judges`."""

_LEAST_SECONDS = 0.4
"""Both make up their windows with silence or with the same once more: of less sound a figure would be one of that."""


def similarity(original: Wave, generated: Wave) -> float:
    """Cosine of the two speaker embeddings of Resemblyzer (Wan et al., "Generalized End-to-End Loss", 2018), 0 to 1.

    Each waveform is embedded as a whole, after Resemblyzer's own preparation: its volume, and pauses shortened.

    Raises:
        MetricError: under 0.4 s of voice in either, or a waveform that is empty, silent or not finite.
        PackageMissingError: Resemblyzer is not installed.
    """
    first, second = _embedded("original", original), _embedded("generated", generated)
    return float(np.clip(first @ second, -1.0, 1.0))  # each is of length 1


def mos(original: Wave, generated: Wave) -> float:
    """The overall quality, OVRL, of the generated waveform by DNSMOS P.835, about 1 to 5 (Reddy et al., 2022).

    The original is not looked at. DNSMOS hears windows of 9.01 s, and a shorter clip repeated until it fills one.

    Raises:
        MetricError: the generated is under 0.4 s, empty, silent or not finite.
        PackageMissingError: speechmos, or onnxruntime, is not installed.
    """
    wave = _sound("generated", generated)
    figure = float(_dnsmos()(wave, SAMPLE_RATE, False)["ovrl_mos"])
    if not np.isfinite(figure):
        raise MetricError(f"DNSMOS comes out as {figure}")
    return figure


def _embedded(side: str, wave: Wave) -> Wave:
    resemblyzer, encoder = _voice_encoder()
    prepared = resemblyzer.preprocess_wav(_sound(side, wave))
    if len(prepared) < _LEAST_SECONDS * SAMPLE_RATE:
        raise MetricError(f"{len(prepared) / SAMPLE_RATE:.2f} s of voice in the {side}: {_LEAST_SECONDS} s are needed")
    with _one_thread():
        embedding: Wave = encoder.embed_utterance(prepared)
    if not np.isfinite(embedding).all():
        raise MetricError(f"no speaker embedding comes out of the {side}")
    return embedding


def _sound(side: str, wave: Wave) -> Wave:
    """The waveform as it would be played: both packages want samples within -1 and 1."""
    check_kind(side, wave)
    check_sound(side, wave)
    if len(wave) < _LEAST_SECONDS * SAMPLE_RATE:
        raise MetricError(f"{len(wave) / SAMPLE_RATE:.2f} s of the {side}: {_LEAST_SECONDS} s are needed")
    return wave.astype(np.float32).clip(-1.0, 1.0)


@cache
def _voice_encoder() -> tuple[Any, Any]:
    """Resemblyzer, and its network."""
    resemblyzer = package("resemblyzer", "judges")
    with _one_thread():
        return resemblyzer, resemblyzer.VoiceEncoder("cpu", verbose=False)


@cache
def _dnsmos() -> Any:
    """Takes a waveform, its rate, and whether only one's own voice should count."""
    module, runtime = (package(name, "judges") for name in PACKAGES["mos"])
    folder = Path(module.__file__).parent / "dnsmos_models"
    paths = [str(folder / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
    model = module.DNSMOS(*paths)
    # its own sessions have a thread a core
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model.onnx_sess, model.p808_onnx_sess = (
        runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in paths
    )
    return model


@contextmanager
def _one_thread() -> Iterator[None]:
    """torch works in one thread meanwhile."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
