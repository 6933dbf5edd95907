"""Validation: the same clips, whole, every time; the best weights are kept apart."""

from __future__ import annotations

import math
from contextlib import closing

from shards.reading.plan import MicroBatch, plan_evaluation
from train.lip2speech import Inputs, prepare, validation_l1, whole_clips
from train.logbook import Logbook
from train.run import Run


def validation_plan(run: Run) -> list[MicroBatch]:
    """What is validated on; nothing if the settings name no split (ValueError: as `plan_evaluation`)."""
    settings = run.settings
    if settings.validation is None:
        return []
    draw, clips = whole_clips(settings.segments), settings.keep.validation_clips
    return plan_evaluation(run.dataset.index, [settings.validation], draw, settings.batch, clips)


def validate(run: Run, planned: list[MicroBatch], book: Logbook) -> None:
    """Mean L1 over a fixed part of the validation split, whole clips; the best weights so far are kept apart.

    Each rank takes every so-many-th micro-batch; nothing is done together until the sums are, so shares may differ.
    """
    settings, ranks = run.settings, run.ranks
    if not planned:
        return
    kept = None
    if run.average is not None:
        kept = {name: x.clone() for name, x in run.network.state_dict().items()}
        run.network.load_state_dict(run.average)
    run.network.eval()
    total = count = 0.0
    with closing(run.batches(planned[ranks.rank :: ranks.world])) as batches:
        for batch in batches:
            if batch is None or not batch.keys:
                continue
            inputs: Inputs = prepare(batch, run.tokenizer, settings, ranks.device, None)
            l1, clips = validation_l1(run.network, inputs, settings)
            total, count = total + l1, count + clips
    if kept is not None:
        run.network.load_state_dict(kept)
    total, count = ranks.totals([total, count])
    mean = total / count if count else math.inf
    book.scalars("validation", run.place.step, l1=mean, clips=count)
    if mean < run.place.best:
        run.place.best = mean
        if ranks.first:
            run.folder.save_best(run.checkpoint(averaged=True))
