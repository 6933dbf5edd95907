"""Split a long clip into parts: which frames each has, and which words."""

from __future__ import annotations

import math
from itertools import pairwise

from pipeline.corpora.transcripts import Transcript
from runtime.constants import FPS


def part_edges(frames: int, max_minutes: float) -> list[tuple[int, int]]:
    """First and end frame of each part: as few as can be, of about the same length, none above `max_minutes`."""
    count = math.ceil(frames / max(1, math.floor(max_minutes * 60 * FPS)))
    edges = [frames * number // count for number in range(count + 1)]
    return list(pairwise(edges))


def part_of_transcript(transcript: Transcript, first: float, last: float) -> Transcript:
    """What is said between `first` and `last` seconds, by the words' times; nothing where there are none."""
    if not transcript.words:
        note = "the transcript is the whole video's, without times of its words: not used for its parts"
        return Transcript("", [], note if transcript.text else transcript.note)
    inside = [
        (word, max(0.0, start - first), min(end, last) - first)
        for word, start, end in transcript.words
        if first < (start + end) / 2 < last
    ]
    return Transcript(" ".join(word for word, _, _ in inside), inside, transcript.note)
