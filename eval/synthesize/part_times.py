"""How long each part of a synthesis takes, and how far it is: decoding, finding lips, the network, the vocoder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

DECODING, LIPS, NETWORK, VOCODER = "decoding", "finding lips", "network", "vocoder"
"""The parts that every synthesis has."""

_SECONDS_BETWEEN = 0.1


def _nobody(part: str, done: float | None) -> None:
    """Whoever is told nothing."""


@dataclass
class PartTimes:
    """A stopwatch for each part.

    Attributes:
        told: is called when a part begins and, some times a second, while it goes on: its name, and the share of it
            that is done; None where that is not known.
        seconds: by part, in the order in which they began.
    """

    told: Callable[[str, float | None], None] = _nobody
    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = 0.0

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the time until the block ends for a part; blocks of another part inside count for that one alone."""
        if part not in self.seconds:
            self.seconds[part] = 0.0
            self.progress(part, None, now=True)
        others, began = self._total(), time.perf_counter()
        try:
            yield
        finally:
            inside = self._total() - others
            self.seconds[part] += time.perf_counter() - began - inside

    def progress(self, part: str, done: float | None, now: bool = False) -> None:
        """Tell how much of a part is done, unless somebody was told just now."""
        if now or time.perf_counter() - self._last > _SECONDS_BETWEEN:
            self._last = time.perf_counter()
            self.told(part, done)

    def __str__(self) -> str:
        return ", ".join(f"{part} {seconds:.2f} s" for part, seconds in self.seconds.items())

    def _total(self) -> float:
        return sum(self.seconds.values())
