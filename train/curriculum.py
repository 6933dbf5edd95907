"""Curriculum: which segment of a clip an epoch uses, short ones first, then as the settings say.

CTC from scratch hardly learns whole sentences: at first every alignment is as likely as any other. A few words leave
little to align (Assael et al., LipNet, 2016; Chung et al., Lip reading sentences in the wild, 2017).
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from model.segment_sampling import Segment, SegmentSettings, draw_words, whole_clip
from shards.loading.batch_plan import Draw
from shards.loading.index_view import IndexedClip
from train.settings import Stage, TrainSettings

_SEGMENTED_SET = "pretrain"


def stage_at(curriculum: tuple[Stage, ...], epoch: int) -> Stage | None:
    """The stage that an epoch, counted from 1, belongs to; None after the last."""
    for stage in curriculum:
        if epoch <= stage.epochs:
            return stage
        epoch -= stage.epochs
    return None


def segment_of(settings: TrainSettings, epoch: int) -> Draw:
    """How a clip's segment is drawn in an epoch.

    A run of words of clips of the set `pretrain`, others whole, as published; in a stage of the curriculum a run of
    words wherever there are word times, and otherwise only clips that are short enough.
    """
    stage, ranges = stage_at(settings.curriculum, epoch), settings.segments
    if stage is not None:
        ranges = replace(
            ranges,
            min_words=1,
            max_words=min(ranges.max_words, stage.max_words),
            max_frames=min(ranges.max_frames, stage.max_frames),
        )

    def draw(clip: IndexedClip, random: Random) -> Segment | None:
        if clip.words and (stage is not None or clip.set == _SEGMENTED_SET):
            return draw_words(clip.words, clip.frames, random, ranges)
        if stage is not None and clip.frames > stage.max_frames:
            return None
        return _whole(clip, ranges)

    return draw


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
