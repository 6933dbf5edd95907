"""Validation: the same clips every time, cut at the longest segment, scored with the weights that would be saved.

Each rank takes every `world_size`-th micro-batch; nothing is done together until the sums are, so shares may differ.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from random import Random

import torch
from torch import Tensor

from eval.metrics.pool import ScoringPool
from eval.metrics.registry import SPEECH_METRICS
from model.segment_sampling import loudest_reference
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME
from shards import Dataset
from shards.loading.batch_plan import plan_evaluation, plan_references
from shards.loading.collate import Contents, ReadFailure
from shards.loading.loader import LoaderSettings, load
from shards.loading.planned_batches import MicroBatch, PlannedBatches
from train.checkpointing import sha256_of
from train.curriculum import whole_clips
from train.distributed import DistributedContext
from train.settings import TrainSettings
from train.state import TrainedModel, TrainingError
from train.tasks.task import Task
from train.validation_metrics import Example, Transcript, ValidationMetrics

log = logging.getLogger(__name__)


def best_criterion(task: Task) -> str:
    """What the best is the best of, in words: where it changes, older bests do not count."""
    chosen = task.settings.validation
    clips = f"{chosen.clips} clips of {chosen.split}"
    heard = ""
    if chosen.vocoder is not None and task.settings.task == "lip2speech":
        heard = f", vocoder {sha256_of(chosen.vocoder)}"  # the file may be another one by the time the run resumes
    return f"{task.best_score} of {clips}, speaker reference {chosen.speaker_reference}{heard}"


def is_better(name: str, value: float, best: float | None) -> bool:
    """Whether a score is better than the best so far: scores of speech when higher, losses and error rates lower."""
    higher = name in SPEECH_METRICS and SPEECH_METRICS[name].display.higher_is_better
    return best is None or (value > best if higher else value < best)


class Validator:
    """Scores a model on the clips of the settings' split.

    Attributes:
        planned: micro-batches of this rank.
        shown: keys of the clips that TensorBoard shows.
        references: speaker references by key, of this rank's clips that have one of another clip.

    Raises:
        ValueError: as `plan_evaluation`; or the score that the best is chosen by is not one of those measured.
    """

    def __init__(self, task: Task, settings: TrainSettings, dataset: Dataset, context: DistributedContext) -> None:
        self._task, self._settings, self._dataset, self._context = task, settings, dataset, context
        chosen = settings.validation
        self._speech = chosen.speech if task.synthesizes else ()
        best, measured = task.best_score, sorted({*task.scores, *self._speech})
        if best not in measured:
            raise ValueError(f"checkpoint.best: {best} is not measured by this task; it measures {', '.join(measured)}")
        assert chosen.split is not None
        draw = whole_clips(settings.segments)
        planned = plan_evaluation(dataset.clip_index, [chosen.split], draw, settings.batch, chosen.clips)
        self.planned: PlannedBatches = planned[context.rank :: context.world_size]
        keys = dataset.clip_index.keys_of(planned.all_rows)
        by_hash = sorted(keys, key=lambda key: Random(f"shown {key}").random())
        self.shown = frozenset(by_hash[: chosen.examples])
        self.references: Mapping[str, Tensor] = {}
        if task.uses_speaker_reference and chosen.speaker_reference == "other":
            frames = settings.segments.reference_frames
            self.references = load_references(dataset, self.planned, frames, settings.loader(task.contents))

    @torch.no_grad()
    def run(self, model: TrainedModel) -> tuple[dict[str, float], list[Example], list[Transcript]]:
        """Validate the average of the weights where there is one, else the weights. Call it on all ranks.

        Returns:
            Mean scores, examples and transcripts, of all ranks, both sorted by key.

        Raises:
            TrainingError: none of the clips could be read.
        """
        network, processes = model.network, self._settings.validation.processes
        # rank 0's batch-norm statistics are what is saved; those of the other ranks may differ
        self._context.broadcast(network.buffers())
        with ExitStack() as stack:
            if model.ema is not None:
                self._context.broadcast(model.ema.weights.values())
                stack.enter_context(model.ema.applied_to(network))
            scorers = stack.enter_context(ScoringPool(self._speech, processes)) if self._speech else None
            metrics = ValidationMetrics(scorers, self.shown)
            network.eval()
            loader = self._settings.loader(self._task.validation_contents)
            skipped: list[ReadFailure] = []
            read = 0
            pin_memory = self._context.device.type == "cuda"
            for batch in stack.enter_context(closing(load(self._dataset, self.planned, loader, pin_memory))):
                if batch is None:
                    continue
                for clip in batch.skipped:
                    log.warning("validation: skipped %s: %s", clip.key, clip.reason)
                    metrics.add("skipped", 1, 0)
                skipped += batch.skipped
                read += len(batch.keys)
                if batch.keys:
                    self._task.validate(network, batch, self.references, metrics)
            metrics.finish()
        self._refuse_nothing(read, skipped)
        scores = metrics.means(self._context)
        examples = sorted(self._context.all_gather(metrics.examples), key=lambda example: example.key)
        return scores, examples, sorted(self._context.all_gather(metrics.transcripts))

    def _refuse_nothing(self, read: int, skipped: list[ReadFailure]) -> None:
        """Stop on all ranks where none of them could read a clip: nothing was measured."""
        if self._context.all_reduce_sum([read]) != [0.0]:
            return
        if found := self._context.all_gather(skipped):
            url, split = self._dataset.store.url, self._settings.validation.split
            raise TrainingError(
                f"validation: none of the {len(found)} clips of {split} could be read: {found[0].reason}. `pipeline "
                f"verify {url}` looks at the dataset, --validation.split null does without validation"
            )


def load_references(
    dataset: Dataset, planned: Sequence[MicroBatch], mel_frames: int, loader: LoaderSettings
) -> dict[str, Tensor]:
    """Speaker references by key: (n_mels, mel_frames) on the CPU, the loudest stretch of another clip of the speaker.

    Clips whose speaker has no other clip in the split, or whose other clip is damaged, have none.
    """
    of_row = plan_references(dataset.clip_index, planned)
    distinct = sorted({each.number: each for each in of_row.values()}.values())
    loader = replace(loader, on_error="skip", contents=Contents(roi=False))
    found = {
        one.number: loudest_reference(batch.mel, MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths, mel_frames)[0]
        for one, batch in zip(distinct, load(dataset, distinct, loader), strict=True)
        if batch is not None and batch.keys
    }
    keys = dataset.clip_index.keys
    return {keys[row].as_py(): found[one.number] for row, one in of_row.items() if one.number in found}
