"""Comparability of evaluations: what differs between them besides the network, in words."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from eval.fingerprint import DIGEST
from eval.report.about import flatten
from eval.results import Evaluation

_IGNORED = ("checkpoint", "metrics", "systems", "clips", "mels", "max_padded_frames", "seed")
"""Parts of an evaluation's identity that may differ: what is compared, what is excluded by clip or metric,
and what the network's figures do not depend on."""

_LONGEST = 300
"""Characters of a value that are said."""

_TITLES = {"manifest": "the dataset (its manifest)"}
_CLIP = {"frames": "length", "text": "transcript", "speaker_reference": "speaker reference"}

Clips = dict[str, dict[str, Any]]
"""Rows of the network by key."""


def clips_of(evaluation: Evaluation) -> Clips:
    """The network's rows by key, in the columns that tell one clip from another; `ValueError` where there are none, or
    one occurs twice."""
    rows = evaluation.rows("network").select(["key", "split", *_CLIP]).to_pylist()
    clips = {row["key"]: row for row in rows}
    if not rows:
        raise ValueError(f"{evaluation.folder}: has no clips of the network")
    if len(clips) < len(rows):
        raise ValueError(
            f"{evaluation.folder}: {len(rows)} rows of the network for {len(clips)} clips: one each expected"
        )
    return clips


def settings_differences(evaluations: Mapping[str, Evaluation]) -> list[str]:
    """A sentence for everything of dataset, split, protocol and libraries that differs (`evaluation.json`)."""
    settings = {name: _settings(evaluation.about) for name, evaluation in evaluations.items()}
    sentences = []
    for setting in dict.fromkeys(setting for of in settings.values() for setting in of):
        values = {name: of.get(setting, "unset") for name, of in settings.items()}
        if len(set(values.values())) > 1:
            which = ", ".join(f"{value[:_LONGEST]} in {name}" for name, value in values.items())
            sentences.append(f"{_TITLES.get(setting, setting)[:_LONGEST]} is not the same: {which}")
    return sentences


def clip_differences(clips: Mapping[str, Clips], shared: set[str]) -> list[str]:
    """A sentence for each way in which clips of the same key differ between evaluations."""
    sentences = []
    for column, title in _CLIP.items():
        keys = sorted(key for key in shared if len({of[key][column] for of in clips.values()}) > 1)
        if keys:
            count = f"{len(keys)} clip{'s' if len(keys) > 1 else ''}"
            sentences.append(f"the {title} of {count} is not the same, such as of {keys[0]}")
    return sentences


def no_shared_clip(clips: Mapping[str, Clips], differences: list[str]) -> str:
    """Why evaluations without a clip in common cannot be compared."""
    found = []
    for name, of in clips.items():
        splits = ", ".join(sorted({str(row["split"]) for row in of.values()}))
        found.append(f"{name} has {len(of)} of {splits} ({', '.join(islice(of, 2))} ...)")
    return "; ".join(["no clip is in every evaluation, so there is nothing to compare", *found, *differences])


def _settings(about: Mapping[str, Any]) -> dict[str, str]:
    """What figures depend on, in words: `identity`, nested parts as `outer.inner`, and the libraries' versions."""
    identity = {name: value for name, value in (about.get("identity") or {}).items() if name not in _IGNORED}
    versions = {f"the version of {name}": value for name, value in (about.get("versions") or {}).items()}
    flat = flatten(identity) | flatten(versions)
    return {name: f"{text[:12]}..." if DIGEST.fullmatch(text) else text for name, text in flat.items()}
