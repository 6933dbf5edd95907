"""Every setting of a training run, as typed dataclasses: the `train` section of a config file, with flags over it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from model.asr import ASRSettings
from model.estoi_loss import run_frames, run_samples
from model.lip_to_speech import LipToSpeechSettings
from model.losses import LossSettings
from model.segment_sampling import SegmentSettings
from model.spec_augment import SpecAugmentSettings
from model.transforms import TransformSettings
from model.vocoders.neural_vocoder import VocoderSettings
from runtime.constants import HOP_LENGTH, MEL_FRAMES_PER_VIDEO_FRAME, SAMPLES_PER_FRAME
from runtime.settings_numbers import check_numbers
from shards.loading.batch_plan import BatchSettings
from shards.loading.cache import CacheSettings
from shards.loading.collate import Contents
from shards.loading.loader import LoaderSettings
from train.optim import OptimizerSettings, ScheduleSettings

_MOST_THREADS = 1024

TaskName = Literal["vsr", "asr", "lip2speech", "vocoder"]
Score = Literal["l1", "stft", "ctc", "wer", "cer", "stoi", "estoi", "pesq", "pesq_wide"]


@dataclass(frozen=True)
class Stage:
    """A stage of a curriculum.

    Attributes:
        epochs: how long it lasts.
        max_words: longest runs of words, of clips with word times; the shortest is one word.
        max_frames: runs of words are cut at it; clips without word times that are longer are skipped.
    """

    epochs: int
    max_words: int
    max_frames: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"curriculum: {name} {value} is too small, at least 1 was expected")


@dataclass(frozen=True)
class CheckpointSettings:
    """What is written while training, and how often.

    Attributes:
        every: global steps between checkpoints.
        last: checkpoints that are kept to resume from; `best.pt` apart.
        milestones: those of each multiple of this step are kept beyond that; None: none are.
        best: the score that `best.pt` is chosen by; None: stoi for lip2speech (as published), pesq for vocoder (estoi
            on generated mels), wer for the others.
        log_every: global steps between lines of log.jsonl.
    """

    every: int = 1000
    last: int = 3
    milestones: int | None = None
    best: Score | None = None
    log_every: int = 10

    def __post_init__(self) -> None:
        for name in ("every", "last", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"checkpoint.{name}: {getattr(self, name)} is too small, at least 1 was expected")
        if self.milestones is not None and (self.milestones < 1 or self.milestones % self.every):
            raise ValueError(
                f"checkpoint.milestones: {self.milestones}, a multiple of checkpoint.every ({self.every}) was expected"
            )


@dataclass(frozen=True)
class ValidationSettings:
    """What is measured now and then on clips that are not trained on, always the same ones.

    Attributes:
        split: where they are; None: nothing is validated.
        every: global steps between validations.
        clips: a fixed part of the split; None: all of it.
        speaker_reference: `other`, the loudest frames of another clip of the speaker (the clip's own first frames where
            the speaker has no other); `self`, the first frames of the clip itself, as published.
        speech: scores of synthesized speech; without any, no waveform is synthesized but those of `examples`.
        examples: clips that are shown and played in TensorBoard.
        vocoder: checkpoint of the task `vocoder` that lip2speech is heard through; None: Griffin-Lim.
        processes: of a rank, that score speech while the next is synthesized; 0: none but itself.
    """

    split: str | None = "val"
    every: int = 3000
    clips: int | None = 200
    speaker_reference: Literal["other", "self"] = "other"
    speech: tuple[Literal["stoi", "estoi", "pesq", "pesq_wide"], ...] = ("stoi", "estoi", "pesq")
    examples: int = 4
    vocoder: str | None = None
    processes: int = 2

    def __post_init__(self) -> None:
        if self.every < 1 or (self.clips is not None and self.clips < 1) or min(self.examples, self.processes) < 0:
            raise ValueError(
                f"validation: every {self.every}, clips {self.clips}, examples {self.examples}, processes "
                f"{self.processes}: expected 1 or more, 1 or more, 0 or more, 0 or more"
            )


@dataclass(frozen=True)
class TrainSettings:
    """A run.

    Attributes:
        task: what is trained: `vsr`, a visual encoder with a CTC head; `asr`, an ASR model of ground-truth mels;
            `lip2speech`; or `vocoder`, which takes the place of Griffin-Lim.
        shards: dataset to train on, a local folder or an fsspec URL.
        out: run dir: checkpoints, logs, the resolved settings.
        splits: to train on; empty: train and pretrain, whichever there are, or else all that are not held out by their
            names (see `Dataset.training_splits`).
        tokenizer: SentencePiece model; None: `tokenizer.model` of the dataset.
        seed: of everything that is drawn.
        micro_batches_per_step: G, micro-batches of a global step, dealt to ranks and accumulation steps; a multiple of
            the number of ranks.
        clip_norm: gradients are scaled down to this norm; None: not.
        ema: decay of an average of the weights, which is then validated and kept as best; None: none. In the first
            steps it is (1 + step) / (10 + step) where that is less.
        precision: bf16 autocasts the networks on a GPU or CPU; losses stay in float32. float32 is without TF32. auto:
            by device and size of the network when the run begins (`train.precision`).
        compile: run the network through torch.compile.
        sync_batch_norm: batch-norm statistics over all ranks, on GPUs. A rank that has no micro-batch in the last step
            of an epoch takes part with a clip of zeros, which the statistics then see. Without it each rank normalizes
            by its own micro-batch, and rank 0's running statistics are saved, so that a run depends on the number of
            ranks.
        threads: of a rank, on a CPU; None: one a core, or what OMP_NUM_THREADS says, which torchrun sets to 1. Networks
            as small as the demo's are faster with one.
        workers: loader processes a rank; 0: none.
        loader_timeout: seconds that a batch of a local dataset is waited for, before that is an error.
        rank_timeout: seconds that ranks wait for one that does not answer, before that is an error.
        on_error: what cannot be read stops the run, or is skipped and counted.
        max_skipped_share: of an epoch's clips that may be skipped before that stops the run; so does a step of several
            clips of which none can be read.
        max_nonfinite_steps: steps in a row whose loss or gradient is not finite that stop the run; fewer are skipped.
        init_vsr, init_asr, init: checkpoints, ours or published, to start from: the visual encoder (and CTC head),
            the ASR model of the output content loss, of units and of distillation, all of the network.
        init_lip2speech: of `vocoder`: the network whose mels it is trained on and validated with; None: ground truth.
        network: of lip2speech; `vsr` trains its visual encoder alone.
        asr: of `asr`.
        vocoder: of `vocoder`.
        curriculum: what comes first; after its last stage segments are as `segments` says.
        spec_augment: of `asr`.
        transforms: see there; `crop_radius` is no setting here, but taken from the dataset's manifest.
        segments, batch, losses, optimizer, schedule, checkpoint, validation, cache: see there.
    """

    task: TaskName = "lip2speech"
    shards: str = "data/demo-shards"
    out: str = "runs/demo"
    splits: tuple[str, ...] = ()
    tokenizer: str | None = None
    seed: int = 0
    micro_batches_per_step: int = 1
    clip_norm: float | None = None
    ema: float | None = None
    precision: Literal["auto", "float32", "bf16"] = "auto"
    compile: bool = False
    sync_batch_norm: bool = False
    threads: int | None = None
    workers: int = 1
    loader_timeout: float = 60.0
    rank_timeout: float = 1800.0
    on_error: Literal["raise", "skip"] = "raise"
    max_skipped_share: float = 0.1
    max_nonfinite_steps: int = 10
    init_vsr: str | None = None
    init_asr: str | None = None
    init_lip2speech: str | None = None
    init: str | None = None
    network: LipToSpeechSettings = field(default_factory=LipToSpeechSettings)
    asr: ASRSettings = field(default_factory=ASRSettings)
    vocoder: VocoderSettings = field(default_factory=VocoderSettings)
    curriculum: tuple[Stage, ...] = ()
    spec_augment: SpecAugmentSettings = field(default_factory=SpecAugmentSettings)
    transforms: TransformSettings = field(default_factory=TransformSettings)
    segments: SegmentSettings = field(default_factory=SegmentSettings)
    batch: BatchSettings = field(default_factory=BatchSettings)
    losses: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.micro_batches_per_step < 1 or self.workers < 0 or self.max_nonfinite_steps < 1:
            raise ValueError(
                f"micro_batches_per_step {self.micro_batches_per_step}, workers {self.workers}, max_nonfinite_steps "
                f"{self.max_nonfinite_steps}: expected 1 or more, 0 or more, 1 or more"
            )
        if self.threads is not None and not 1 <= self.threads <= _MOST_THREADS:
            raise ValueError(f"threads: {self.threads}, and 1 to {_MOST_THREADS:,} were expected")
        for number, stage in enumerate(self.curriculum, 1):
            if stage.max_frames < self.segments.min_frames:
                raise ValueError(
                    f"curriculum: max_frames {stage.max_frames} of stage {number} is below segments.min_frames, "
                    f"{self.segments.min_frames}"
                )
        shown, run = self.segments.window_frames, run_frames() / MEL_FRAMES_PER_VIDEO_FRAME
        if self.task == "vocoder":  # its windows are a mel frame longer than their sound
            run = (run_samples() + HOP_LENGTH) / SAMPLES_PER_FRAME
        if self.task in ("lip2speech", "vocoder") and self.losses.estoi and shown < run:
            raise ValueError(
                f"losses.estoi: {self.losses.estoi}, and segments.window_frames: {shown}: ESTOI is of runs of "
                f"{math.ceil(run)} frames; choose windows of at least that, or losses.estoi 0"
            )
        for name in ("loader_timeout", "rank_timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)}, seconds above 0 were expected")
        if not 0 <= self.max_skipped_share <= 1:
            raise ValueError(f"max_skipped_share: {self.max_skipped_share}, a share from 0 to 1 was expected")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema: {self.ema}, a decay between 0 and 1 was expected")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm: {self.clip_norm}, a norm above 0 was expected")

    def loader(self, contents: Contents) -> LoaderSettings:
        """How these members of clips are loaded."""
        return LoaderSettings(
            workers=self.workers,
            on_error=self.on_error,
            timeout=self.loader_timeout,
            contents=contents,
            cache=self.cache,
        )
