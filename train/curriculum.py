"""Curriculum: which segment of a clip an epoch uses, short ones first, then as the settings say.

CTC from scratch hardly learns whole sentences: at first every alignment is as likely as any other. A few words leave
little to align (Assael et al., LipNet, 2016; Chung et al., Lip reading sentences in the wild, 2017).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np

from model.segment_sampling import Segment, SegmentSettings, draw_words, whole_clip
from shards.loading.draws import Draw
from shards.loading.index_view import ClipIndex, IndexedClip
from train.settings import Stage, TrainSettings
from train.word_runs import word_run_lengths

Array = np.ndarray[Any, Any]

_SEGMENTED_SET = "pretrain"


def stage_at(curriculum: tuple[Stage, ...], epoch: int) -> Stage | None:
    """The stage that an epoch, counted from 1, belongs to; None after the last."""
    for stage in curriculum:
        if epoch <= stage.epochs:
            return stage
        epoch -= stage.epochs
    return None


@dataclass(frozen=True)
class SegmentDraw:
    """How a clip's segment is drawn: a run of words of clips of the set `pretrain`, others whole, as published; in a
    stage of the curriculum a run of words wherever there are word times, else only clips that are short enough.

    Attributes:
        ranges: of the segments, as the stage narrows them.
        longest: frames of a clip that is used whole in a stage of the curriculum; None: there is none.
    """

    ranges: SegmentSettings
    longest: int | None

    def __call__(self, clip: IndexedClip, random: Random) -> Segment | None:
        if clip.words and (self.longest is not None or clip.set == _SEGMENTED_SET):
            return draw_words(clip.words, clip.frames, random, self.ranges)
        if self.longest is not None and clip.frames > self.longest:
            return None
        return _whole(clip, self.ranges)

    def lengths(self, index: ClipIndex, rows: Array, seed: str) -> Array:
        """Video frames of the segments of rows (ascending), 0 where there is none (`DrawsMany`)."""
        found = np.minimum(index.frames[rows], self.ranges.max_frames).astype(np.int64)
        names, set_of = index.set
        segmented = np.isin(names, [_SEGMENTED_SET])[set_of[rows]]
        if self.longest is not None:
            found[index.frames[rows] > self.longest] = 0
            segmented[:] = True
        of_words = rows[segmented]
        found[segmented] = word_run_lengths(index, of_words, seed, self.ranges, otherwise=found[segmented])
        return found


def segment_of(settings: TrainSettings, epoch: int) -> SegmentDraw:
    """How a clip's segment is drawn in an epoch."""
    stage, ranges = stage_at(settings.curriculum, epoch), settings.segments
    if stage is None:
        return SegmentDraw(ranges, None)
    ranges = replace(
        ranges,
        min_words=1,
        max_words=min(ranges.max_words, stage.max_words),
        max_frames=min(ranges.max_frames, stage.max_frames),
    )
    return SegmentDraw(ranges, stage.max_frames)


def whole_clips(ranges: SegmentSettings) -> Draw:
    """Every clip from its first frame on, cut at the longest segment: what is validated on."""
    return lambda clip, random: _whole(clip, ranges)


def _whole(clip: IndexedClip, ranges: SegmentSettings) -> Segment:
    """A clip whole. One that is cut has the words before the cut as its text, or none without word times."""
    segment = whole_clip(clip.text, clip.frames, ranges)
    if segment.stop_frame == clip.frames or not clip.words:
        return segment
    said = " ".join(word for word, _, end in clip.words if ranges.fps * end <= segment.stop_frame)
    return segment._replace(text=said or None)
