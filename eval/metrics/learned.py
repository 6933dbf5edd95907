"""Learned metrics: speaker similarity by Resemblyzer, and predicted MOS by DNSMOS.

Both are pretrained networks whose weights come inside their packages (the extra `judges`): nothing is downloaded. They
are loaded once a process, for the first figure, and run on the CPU in one thread: processes are the parallelism.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from eval.metrics.optional import import_extra
from eval.metrics.waveforms import MetricError, Wave, check_audible, check_dtype
from runtime.constants import SAMPLE_RATE

EXTRA = "judges"

PACKAGES = {"similarity": ("resemblyzer",), "mos": ("speechmos.dnsmos", "onnxruntime")}
"""What each imports on first use, of the extra."""

_MIN_SECONDS = 0.4
"""Both pad their windows with silence or repeat the clip: of less sound a figure would be one of the padding."""


def similarity(original: Wave, generated: Wave) -> float:
    """Cosine of the two speaker embeddings of Resemblyzer (Wan et al., "Generalized End-to-End Loss", 2018), 0 to 1.

    Each waveform is embedded as a whole, after Resemblyzer's own preparation: its volume, and pauses shortened.
    `MetricError` under 0.4 s of voice in either, or for a waveform that is empty, silent or not finite.
    """
    first, second = _embedding("original", original), _embedding("generated", generated)
    return float(np.clip(first @ second, -1.0, 1.0))  # each is of length 1


def mos(original: Wave, generated: Wave) -> float:
    """The overall quality, OVRL, of the generated waveform by DNSMOS P.835, about 1 to 5 (Reddy et al., 2022).

    The original is ignored. DNSMOS takes windows of 9.01 s, and repeats a shorter clip until it fills one.
    `MetricError` if the generated is under 0.4 s, empty, silent or not finite.
    """
    wave = _clipped("generated", generated)
    figure = float(load_dnsmos()(wave, SAMPLE_RATE, False)["ovrl_mos"])
    if not np.isfinite(figure):
        raise MetricError(f"DNSMOS comes out as {figure}")
    return figure


def _embedding(side: str, wave: Wave) -> Wave:
    resemblyzer, encoder = load_voice_encoder()
    prepared = resemblyzer.preprocess_wav(_clipped(side, wave))
    if len(prepared) < _MIN_SECONDS * SAMPLE_RATE:
        raise MetricError(f"{len(prepared) / SAMPLE_RATE:.2f} s of voice in the {side}: {_MIN_SECONDS} s are needed")
    with threadpool_limits(1):
        embedding: Wave = encoder.embed_utterance(prepared)
    if not np.isfinite(embedding).all():
        raise MetricError(f"no speaker embedding comes out of the {side}")
    return embedding


def _clipped(side: str, wave: Wave) -> Wave:
    """The waveform as it would be played: both packages want samples within -1 and 1."""
    check_dtype(side, wave)
    check_audible(side, wave)
    if len(wave) < _MIN_SECONDS * SAMPLE_RATE:
        raise MetricError(f"{len(wave) / SAMPLE_RATE:.2f} s of the {side}: {_MIN_SECONDS} s are needed")
    return wave.astype(np.float32).clip(-1.0, 1.0)


@cache
def load_voice_encoder() -> tuple[Any, Any]:
    """Resemblyzer, and its network (`PackageMissingError` without it)."""
    resemblyzer = import_extra("resemblyzer", EXTRA)
    with threadpool_limits(1):
        return resemblyzer, resemblyzer.VoiceEncoder("cpu", verbose=False)


@cache
def load_dnsmos() -> Any:
    """Takes a waveform, its rate, and whether to use the model of personalized MOS (`PackageMissingError` without
    it)."""
    module, runtime = (import_extra(name, EXTRA) for name in PACKAGES["mos"])
    folder = Path(module.__file__).parent / "dnsmos_models"
    paths = [str(folder / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
    model = module.DNSMOS(*paths)
    # the sessions it opens itself have a thread a core, and offer no way to say otherwise
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model.onnx_sess, model.p808_onnx_sess = (
        runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in paths
    )
    return model
