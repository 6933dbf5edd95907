"""Splits of GRID as the literature makes them, and what is our own where it published no file lists.

Speaker sets are published facts. Which sentences of a speaker are held out was seldom published: here they are those
with the least hash of speaker and name, so that everybody who has the corpus gets the same lists. Lists of others are
read with `--split`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.config import ProtocolName
from pipeline.corpora.clips import CorpusIndex

GridName = tuple[str, str]
"""Speaker (`s1`) and name (`bbaf2n`) of a clip."""


@dataclass(frozen=True)
class Protocol:
    """Which clips are in which split.

    Attributes:
        speakers: split -> its speakers; empty: any.
        held_out: split -> how many of a speaker's thousand sentences it gets; the rest is `train`.
    """

    speakers: dict[str, tuple[int, ...]]
    held_out: dict[str, int]


_ANY_SPEAKER = Protocol({}, {"test": 50, "val": 50})

PROTOCOLS: dict[ProtocolName, Protocol] = {
    # Lip2AudSpec, Ephrat et al., and most GRID lip-to-speech papers since: these speakers, about 90/5/5 % of each
    "four": Protocol({"train": (1, 2, 4, 29)}, {"test": 50, "val": 50}),
    # Vougioukas et al. 2019 and later: no speaker in two splits
    "unseen": Protocol(
        {
            "train": (1, 3, 5, 6, 7, 8, 10, 12, 14, 16, 17, 22, 24, 26, 28, 32),
            "val": (9, 20, 23, 27, 29, 30, 34),
            "test": (2, 4, 11, 13, 15, 18, 19, 25, 31, 33),
        },
        {},
    ),
    # LipNet's overlapped speakers: 255 sentences of each held out. `val` is ours: the literature has none here
    "overlap": Protocol({}, {"test": 255, "val": 50}),
}
_SENTENCES = 1000


def assign_protocol(
    name: ProtocolName | None, clips: Iterable[GridName], index: CorpusIndex, root: str
) -> dict[GridName, str]:
    """The split of each clip by a protocol, without clips of speakers that it leaves out.

    Args:
        name: the protocol; None: every speaker that is there, split as `four` splits its own.
        clips: speaker and name of what is there.
        index: gets notices of speakers that are left out, and of those that are missing.
        root: of the corpus, for messages.

    Raises:
        ValueError: there is no clip of the protocol's speakers.
    """
    protocol = PROTOCOLS[name] if name is not None else _ANY_SPEAKER
    by_speaker: dict[str, list[GridName]] = {}
    for clip in sorted(clips):
        by_speaker.setdefault(clip[0], []).append(clip)
    split_of_speaker = {f"s{n}": split for split, speakers in protocol.speakers.items() for n in speakers}
    if not split_of_speaker:
        split_of_speaker = dict.fromkeys(by_speaker, "train")
    assigned: dict[GridName, str] = {}
    for speaker, split in split_of_speaker.items():
        assigned |= dict.fromkeys(by_speaker.get(speaker, ()), split)
        assigned |= _held_out(by_speaker.get(speaker, []), protocol.held_out)
    missing = [speaker for speaker in split_of_speaker if speaker not in by_speaker]
    if not assigned:
        raise ValueError(
            f"{root}: protocol {name!r} needs speakers {_in_order(missing)}; here are {_in_order(by_speaker)}"
        )
    if missing:
        index.notices.append(f"{root}: no clips of {_in_order(missing)}, which protocol {name!r} has")
    others = Counter(speaker for speaker, clips in by_speaker.items() if speaker not in split_of_speaker for _ in clips)
    if others:
        index.notices.append(
            f"{root}: {others.total()} clips of {_in_order(others)} are not built: protocol {name!r} does without"
        )
    return dict(sorted(assigned.items()))


def _held_out(clips: list[GridName], counts: dict[str, int]) -> dict[GridName, str]:
    """Sentences of one speaker that are not trained on; of fewer than a thousand, as many in proportion."""
    ranked = sorted(clips, key=lambda clip: hashlib.sha256("/".join(clip).encode()).digest())
    assigned: dict[GridName, str] = {}
    for split, count in counts.items():
        first = len(assigned)
        taken = ranked[first : first + round(len(clips) * count / _SENTENCES)]
        assigned |= dict.fromkeys(taken, split)
    return assigned


def _in_order(speakers: Iterable[str]) -> str:
    return " ".join(sorted(speakers, key=lambda speaker: (len(speaker), speaker)))
