"""What can go wrong with one clip, and with a whole build."""

from __future__ import annotations


class ClipError(Exception):
    """What is wrong with one clip.

    Attributes:
        stage: read, decode, coordinates, sound or transcript.
        reason: one word of a fixed list, to count by (README, "What is left out").
        detail: what was found and what was expected.
    """

    def __init__(self, stage: str, reason: str, detail: str) -> None:
        super().__init__(f"{stage}: {reason}: {detail}")
        self.stage = stage
        self.reason = reason
        self.detail = detail


class BuildError(RuntimeError):
    """Some shards could not be built; the others are there and will not be built again."""
