"""Settings of an evaluation; the class is the schema of the command's flags and of the YAML section `eval`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from eval.metrics.scoring_process import METRIC_SECONDS
from eval.result_schema import SYSTEMS
from model.vocoders.mel_to_wav import DEFAULT_GRIFFIN_LIM, PUBLISHED_GRIFFIN_LIM
from runtime.ray_jobs import TASK_TIMEOUT

VOCODERS = {"griffin_lim": DEFAULT_GRIFFIN_LIM, "published": PUBLISHED_GRIFFIN_LIM}
OWN = "own"
"""The vocoder in the checkpoint's own file."""

PUBLISHED_SECONDS = 10.0
"""At which the published test cuts clips (docs/method.md, Segments)."""

_LONGEST_TIMEOUT = 7 * 24 * 3600


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated, and how.

    Attributes:
        checkpoint: of the task lip2speech, ours or a published file.
        shards: dataset, a local folder or an fsspec URL.
        split: of the clips that are evaluated.
        out: folder of the report.
        protocol: `published` sets speaker_reference, vocoder and max_seconds as in the published test
            (docs/method.md).
        speaker_reference: `other`, the loudest stretch of another clip of the same speaker; `self`, the first frames of
            the very clip that is scored, as published; or a file whose loudest stretch of sound serves every clip.
        systems: what is scored side by side (eval/systems.py), `network` among them.
        vocoder: `default`, that of a released checkpoint, else Griffin-Lim; `griffin_lim`; `published`, the published
            form of it; or a checkpoint of the task vocoder. Of a neural one, the system `ceiling` gets a neighbor
            `ceiling_griffin_lim`.
        precision: of the networks; bf16 is twice as fast where the processor computes in it (docs/evaluation.md).
        max_seconds: clips are cut there; None: whole.
        clips: N clips, the same ones each time; None: the whole split.
        metrics: names of metrics (eval/metrics), or import paths `package.module:function`. The mel's L1 is always
            measured.
        metric_timeout: seconds that a metric may take for a clip of a system; where it takes longer there is no figure.
        asr: whose word errors on the waveforms are counted: a checkpoint of the task asr, `whisper:NAME`, or an import
            path `package.module:factory`; None: none are.
        beam: size of the beam, of the ASR model and of the network's CTC head; 1: greedy.
        normalizer: of texts before they are compared.
        mels: also write the systems' mels.
        max_padded_frames: padded video frames of a batch. A longer clip is a batch of its own.
        seed: of the untrained network's weights.
        examples: clips shown of the best, of the median and of the worst.
        device: of the networks and the vocoder; None: GPUs if there are any.
        workers: processes that score at once; None: one a core, without Ray up to five minutes of sound; 0: everything
            in this process, without Ray, but for metrics, which are measured in one beside it.
        address: of a Ray cluster, `auto` or HOST:PORT; None: this machine.
        task_timeout: seconds that a batch, or the scoring of a clip, may take with Ray before it is tried again.
    """

    checkpoint: str
    shards: str
    split: str
    out: str
    protocol: Literal["published"] | None = None
    speaker_reference: str = "other"
    systems: list[str] = field(default_factory=lambda: ["network", "untrained", "ceiling", "original"])
    vocoder: str = "default"
    precision: Literal["float32", "bf16"] = "float32"
    max_seconds: float | None = None
    clips: int | None = None
    metrics: list[str] = field(
        default_factory=lambda: ["stoi", "estoi", "pesq", "pesq_wide", "lsd", "mcd", "f0_error", "voicing_error"]
    )
    metric_timeout: float = METRIC_SECONDS
    asr: str | None = None
    beam: int = 1
    normalizer: str = "plain"
    mels: bool = False
    max_padded_frames: int = 1200
    seed: int = 0
    examples: int = 3
    device: Literal["cpu", "cuda"] | None = None
    workers: int | None = None
    address: str | None = None
    task_timeout: float = TASK_TIMEOUT

    def __post_init__(self) -> None:
        for name, least in (("clips", 1), ("beam", 1), ("max_padded_frames", 1), ("examples", 1), ("workers", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: {value} is too small, at least {least} was expected")
        if self.max_seconds is not None and not 0.2 <= self.max_seconds < math.inf:
            raise ValueError(f"max_seconds: {self.max_seconds}: a number of 0.2 or more was expected")
        if not 0 < self.metric_timeout <= _LONGEST_TIMEOUT:
            raise ValueError(
                f"metric_timeout: {self.metric_timeout}: seconds were expected, {_LONGEST_TIMEOUT} at most"
            )
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics: one is named twice: {', '.join(self.metrics)}")
        unknown = [name for name in self.systems if name not in SYSTEMS]
        if unknown or "network" not in self.systems:
            found = f"{unknown[0]} is none" if unknown else "network is missing"
            raise ValueError(f"systems: {found}: expected network, and any of {', '.join(SYSTEMS[1:])}")
        if self.vocoder in VOCODERS and "ceiling_griffin_lim" in self.systems:
            raise ValueError(
                f"systems: ceiling_griffin_lim is the ceiling itself with the vocoder {self.vocoder}: leave it out, or "
                "name a checkpoint of the task vocoder"
            )
        neural = self.vocoder not in ("default", *VOCODERS)  # what `default` is, the checkpoint says
        both = {"ceiling_griffin_lim"} if "ceiling" in self.systems and neural else set()
        object.__setattr__(self, "systems", [name for name in SYSTEMS if name in {*self.systems, *both}])
        if self.protocol == "published":
            for name, value in (
                ("speaker_reference", "self"),
                ("vocoder", "published"),
                ("max_seconds", PUBLISHED_SECONDS),
            ):
                default = next(each.default for each in dataclasses.fields(self) if each.name == name)
                if getattr(self, name) not in (default, value):
                    raise ValueError(f"{name}: {getattr(self, name)}, and the published protocol has {value}")
                object.__setattr__(self, name, value)

    def with_vocoder(self, of_its_own: bool) -> EvaluationSettings:
        """The settings of a checkpoint that holds a vocoder or not: `default` is no more among them, and
        `ceiling_griffin_lim` stands beside the ceiling of a neural one (`ValueError`: it is the ceiling itself, or the
        vocoder is to be the checkpoint's own, which has none)."""
        if self.vocoder == OWN and not of_its_own:
            raise ValueError(f"vocoder: {OWN}, and {self.checkpoint} holds none")
        if self.vocoder != "default":
            return self
        return dataclasses.replace(self, vocoder=OWN if of_its_own else "griffin_lim")

    @property
    def vocoder_file(self) -> str | None:
        """The checkpoint of the task vocoder, if one is named."""
        return None if self.vocoder in ("default", OWN, *VOCODERS) else self.vocoder

    def identity(self) -> dict[str, Any]:
        """The settings that figures depend on, but for files, of which the bytes count."""
        apart = (
            "checkpoint",
            "shards",
            "out",
            "protocol",
            "examples",
            "device",
            "workers",
            "address",
            "task_timeout",
            "metric_timeout",
        )
        found = {name: value for name, value in dataclasses.asdict(self).items() if name not in apart}
        # what it was called when evaluations were made that may be resumed, or compared with this one
        return found | {"vocoder": "default" if self.vocoder == "griffin_lim" else self.vocoder}
