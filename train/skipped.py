"""Skipped clips: written down, counted, and the end of a run of which too many could not be read.

With `on_error: skip` a damaged clip costs itself. A disk that is gone or a dataset that was overwritten damages all of
them, and a run would train on nothing to its end.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shards import Dataset
from train.distributed import DistributedContext
from train.run_dir import RunDir, append_lines, read_lines
from train.settings import TrainSettings
from train.state import TrainingError, TrainState
from train.step import first_few

log = logging.getLogger(__name__)


class SkippedClips:
    """Counts the clips of an epoch that could not be read: the same count on all ranks, so that all stop together."""

    def __init__(self, dataset: Dataset, settings: TrainSettings, run_dir: RunDir, context: DistributedContext) -> None:
        self._dataset, self._settings, self._run_dir, self._context = dataset, settings, run_dir, context
        self._planned = self._skipped = 0

    def begin_epoch(self, planned: int, state: TrainState) -> None:
        """Count anew, of so many clips that are planned; from a step in the epoch on where a run resumes there."""
        self._planned, self._skipped = planned, 0
        if state.step_in_epoch:
            self._skipped = self._context.on_rank0(lambda: self._written_since(state.step - state.step_in_epoch))

    def _written_since(self, step: int) -> int:
        return sum(line["step"] > step for line in read_lines(self._run_dir.skipped))

    def add(self, skipped: Sequence[dict[str, str]], planned: int, state: TrainState) -> None:
        """Write down the clips that a step could not read, of so many that it planned, on all ranks together.

        Raises:
            TrainingError: none of the step's clips could be read, or of the epoch more than the settings allow. A
                single clip, all that a small step or a small dataset may have, is no reason.
        """
        if not skipped:
            return
        if self._context.is_rank0:
            append_lines(self._run_dir.skipped, ({"step": state.step, **clip} for clip in skipped))
            for clip in skipped:
                log.warning("skipped %s: %s", clip["key"], clip["reason"])
        self._skipped += len(skipped)
        share = self._settings.max_skipped_share
        if len(skipped) == planned > 1:
            raise self._stop(f"step {state.step}: none of its {planned} clips could be read", skipped)
        if self._skipped == self._planned or self._skipped > max(1, share * self._planned):
            what = f"{self._skipped} of {self._planned} clips until here could not be read"
            raise self._stop(f"epoch {state.epoch}: {what}, and max_skipped_share allows {share:g}", skipped)

    def _stop(self, what: str, skipped: Sequence[dict[str, str]]) -> TrainingError:
        keys = [clip["key"] for clip in skipped]
        index, dataset = self._dataset.clip_index, self._dataset.store.url
        rows = np.flatnonzero(pc.is_in(index.keys, pa.array(keys)))
        shards = list(dict.fromkeys(index.shard[0][shard] for shard in index.shard[1][rows]))
        return TrainingError(
            f"{what}: the last of shard {first_few(shards)}: {first_few(keys)}: {skipped[0]['reason']}. All are in "
            f"{self._run_dir.skipped}; `pipeline verify {dataset}` looks at the dataset, --resume auto resumes"
        )
