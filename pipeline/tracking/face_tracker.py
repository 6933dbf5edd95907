"""Follow every face through a video, frame after frame: detection now and then, the mesh in between.

Faces are detected at the first frame, after a loss or a cut, and once a second. In between the mesh looks where the
face was in the frame before. A face that is found again after a loss, in the same shot and near where it was, is the
same one. A cut begins new faces, unless it is undone within a fifth of a second: that was a disturbance.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pipeline.tracking.cuts import THUMBNAIL, CutFinder, shows_same
from pipeline.tracking.face_search import LEAST_SCORE, find_faces
from pipeline.tracking.frame import Square
from pipeline.tracking.mesh import Face, fit_mesh, is_same_face
from runtime.constants import FPS

Array = np.ndarray[Any, Any]

_DETECTION_SECONDS = 1.0
_RECENT_SECONDS = 1.0
"""A face that was lost so recently is looked for in every frame, and thoroughly where there is no other."""
_SEARCH_SECONDS = 0.2
"""A picture that is without faces for longer is searched thoroughly this often."""
_DISTURBANCE_SECONDS = 0.2
_FARTHEST = 0.75
"""Eye distances that a face moves at most from one frame to the next."""
_FOUND_AGAIN = 2.0
"""Eye distances from where it was, within which a face that was lost is found again."""


class Thumbnailed(Protocol):
    """What is asked of a picture here; the networks ask more."""

    def thumbnail(self, side: int) -> Array: ...


@dataclass
class FaceLog:
    """All that was seen of one face.

    Attributes:
        number: its own in this video.
        shot: number of the shot that it is seen in, from 0.
        seen: frame number -> the face, in order.
    """

    number: int
    shot: int
    seen: dict[int, Face] = field(default_factory=dict)

    @property
    def first_frame(self) -> int:
        return next(iter(self.seen))

    @property
    def last_frame(self) -> int:
        return next(reversed(self.seen))

    @property
    def last(self) -> Face:
        return self.seen[self.last_frame]


@dataclass(frozen=True)
class _Before:
    """What was there before a cut that may turn out to be none."""

    frame: int
    thumbnail: Array
    changed: float
    live: list[FaceLog]


@dataclass
class FaceTracker:
    """Looks at frames in the order in which they are shown.

    Attributes:
        fps: frames a second, about.
        find, mesh: the networks, as `find_faces` and `fit_mesh` run them.
        count: frames looked at.
        cuts: frames that begin another shot.
        faces: every face of every shot.
    """

    fps: float = float(FPS)
    find: Callable[[Any, Sequence[Face], bool], list[Face]] = find_faces
    mesh: Callable[[Any, Square], Face] = fit_mesh
    count: int = 0
    cuts: list[int] = field(default_factory=list)
    faces: list[FaceLog] = field(default_factory=list)
    _live: list[FaceLog] = field(default_factory=list)
    _finder: CutFinder = field(default_factory=CutFinder)
    _before: _Before | None = None
    _detected: int | None = None
    _searched: int | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def add(self, picture: Thumbnailed) -> list[tuple[FaceLog, Face]]:
        """Look at the next frame; returns the faces that are seen in it."""
        frame, thumbnail, last = self.count, picture.thumbnail(THUMBNAIL), self._finder.last
        self.count += 1
        self._finder.add(thumbnail)
        if self._finder.is_cut and last is not None:
            if self._before is None:
                self._before = _Before(frame, last, self._finder.changed, self._live)
            self._begin_shot(frame)
        self._undo_cut(frame, thumbnail)
        lost = self._follow(picture, frame)
        if self._is_detection_due(frame, lost):
            self._detect(picture, frame)
        return [(log, log.seen[frame]) for log in self._live if frame in log.seen]

    @property
    def has_lost_a_face(self) -> bool:
        """Whether a face was seen a second or less before the last frame, and not in it."""
        return self._was_lost_recently(self.count - 1)

    def finish(self) -> None:
        """After the last frame: a second or less at either end in which hardly any face was seen is no shot.

        Decoders begin with gray where a file was cut out of another; such frames are missing, and no more.
        """
        if self.cuts and self._is_blank(0, self.cuts[0], shot=0):
            self.faces = [log for log in self.faces if log.shot]
            for log in self.faces:
                log.shot -= 1
            del self.cuts[0]
        if self.cuts and self._is_blank(self.cuts[-1], self.count, shot=len(self.cuts)):
            self.faces = [log for log in self.faces if log.shot < len(self.cuts)]
            del self.cuts[-1]

    def _is_blank(self, first: int, end: int, shot: int) -> bool:
        seen = max((len(log.seen) for log in self.faces if log.shot == shot), default=0)
        return end - first <= _RECENT_SECONDS * self.fps and seen < (end - first) / 2

    def _begin_shot(self, frame: int) -> None:
        self.cuts.append(frame)
        self._live, self._detected, self._searched = [], None, None

    def _undo_cut(self, frame: int, thumbnail: Array) -> None:
        """Take a cut back: the picture is as before, or goes on changing, as that of a moving camera does."""
        before = self._before
        if before is None or frame == before.frame:
            return
        moves = frame == before.frame + 1 and self._finder.changed > before.changed / 2
        if frame - before.frame > _DISTURBANCE_SECONDS * self.fps:
            self._before = None
        elif moves or shows_same(thumbnail, before.thumbnail):
            self.cuts = [cut for cut in self.cuts if cut < before.frame]
            self.faces = [log for log in self.faces if log.first_frame < before.frame]
            self._live, self._before, self._detected = before.live, None, None

    def _follow(self, picture: Any, frame: int) -> bool:
        """Fit the mesh to the faces of the frame before; returns whether one was lost."""
        lost = False
        for log in list(self._live):
            if log.last_frame != frame - 1:
                continue
            face = self.mesh(picture, log.last.square)
            jumps = math.dist(face.lips, log.last.lips) > _FARTHEST * log.last.scale
            if face.score >= LEAST_SCORE and jumps and self._finder.is_jump and frame not in self.cuts:
                for other in self._live:
                    other.seen.pop(frame, None)
                self._begin_shot(frame)
                return True
            if face.score < LEAST_SCORE or jumps or self._is_followed(face, frame):
                lost = True
            else:
                log.seen[frame] = face
        return lost

    def _is_followed(self, face: Face, frame: int) -> bool:
        """Whether a face is one of those that were seen in this frame already."""
        return any(is_same_face(face, log.last) for log in self._live if log.last_frame == frame)

    def _is_detection_due(self, frame: int, lost: bool) -> bool:
        nobody = not any(log.last_frame == frame for log in self._live)
        if self._detected is None or lost or nobody or self._was_lost_recently(frame):
            return True
        return frame - self._detected >= _DETECTION_SECONDS * self.fps

    def _was_lost_recently(self, frame: int) -> bool:
        return any(0 < frame - log.last_frame <= _RECENT_SECONDS * self.fps for log in self._live)

    def _detect(self, picture: Any, frame: int) -> None:
        known = [log.last for log in self._live if log.last_frame == frame]
        long_ago = self._searched is None or frame - self._searched >= _SEARCH_SECONDS * self.fps
        thorough = not known and (long_ago or self._was_lost_recently(frame))
        self._detected, self._searched = frame, frame if thorough else self._searched
        for face in self.find(picture, known, thorough):
            self._log_of(face, frame).seen[frame] = face

    def _log_of(self, face: Face, frame: int) -> FaceLog:
        """The face of this shot that was lost and is found again, or a new one."""
        lost = [log for log in self._live if log.last_frame < frame and is_same_face(face, log.last, _FOUND_AGAIN)]
        if lost:
            return min(lost, key=lambda log: math.dist(face.lips, log.last.lips))
        log = FaceLog(next(self._numbers), len(self.cuts))
        self.faces.append(log)
        self._live.append(log)
        return log
