"""The error of one clip, with its stage and reason."""

from __future__ import annotations

from shards.format.sidecar import Reason, Stage


class ClipError(Exception):
    """What is wrong with one clip.

    Attributes:
        stage, reason: as in the dataset's list of skipped clips.
        detail: what was found and what was expected.
    """

    def __init__(self, stage: Stage, reason: Reason, detail: str) -> None:
        super().__init__(f"{stage}: {reason}: {detail}")
        self.stage = stage
        self.reason = reason
        self.detail = detail
