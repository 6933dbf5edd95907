"""Whether evaluations can be compared: what is not alike between them, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from eval.results import Evaluation

_OF_NO_ACCOUNT = ("checkpoint", "metrics", "clips", "mels", "max_padded_frames", "seed")
"""Parts of an evaluation's identity that may differ: what is compared, what is left out clip by clip or metric by
metric, and what the network's figures do not depend on."""

_TITLES = {"manifest": "the dataset (its manifest)"}
_DIGEST = re.compile("[0-9a-f]{64}")
_CLIP = {"frames": "length", "text": "transcript", "speaker_reference": "speaker reference"}

Clips = dict[str, dict[str, Any]]
"""Rows of the network by key."""


def clips_of(evaluation: Evaluation) -> Clips:
    """The network's rows by key, in the columns that tell one clip from another.

    Raises:
        ValueError: there are none, or one is there twice.
    """
    rows = evaluation.rows("network").select(["key", "split", *_CLIP]).to_pylist()
    clips = {row["key"]: row for row in rows}
    if not rows:
        raise ValueError(f"{evaluation.folder}: has no clips that the network speaks")
    if len(clips) < len(rows):
        raise ValueError(
            f"{evaluation.folder}: {len(rows)} rows of the network for {len(clips)} clips: one each expected"
        )
    return clips


def unlike_settings(evaluations: Mapping[str, Evaluation]) -> list[str]:
    """A sentence for everything of dataset, split, protocol and libraries that differs (`evaluation.json`)."""
    settings = {name: _settings(evaluation.about) for name, evaluation in evaluations.items()}
    sentences = []
    for setting in dict.fromkeys(setting for of in settings.values() for setting in of):
        values = {name: of.get(setting, "unset") for name, of in settings.items()}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{value} in {name}" for name, value in values.items())
            sentences.append(f"{_TITLES.get(setting, setting)} is not the same: {told}")
    return sentences


def unlike_clips(clips: Mapping[str, Clips], shared: set[str]) -> list[str]:
    """A sentence for each way in which clips of the same key differ between evaluations."""
    sentences = []
    for column, title in _CLIP.items():
        keys = sorted(key for key in shared if len({of[key][column] for of in clips.values()}) > 1)
        if keys:
            count = f"{len(keys)} clip{'s' if len(keys) > 1 else ''}"
            sentences.append(f"the {title} of {count} is not the same, such as of {keys[0]}")
    return sentences


def nothing_shared(clips: Mapping[str, Clips], unlike: list[str]) -> str:
    """Why evaluations without a clip in common cannot be compared."""
    told = []
    for name, of in clips.items():
        splits = ", ".join(sorted({str(row["split"]) for row in of.values()}))
        told.append(f"{name} has {len(of)} of {splits} ({', '.join(islice(of, 2))} ...)")
    return "; ".join(["no clip is in every evaluation, so there is nothing to compare", *told, *unlike])


def _settings(about: Mapping[str, Any]) -> dict[str, str]:
    """What figures depend on, in words: `identity`, nested parts as `outer.inner`, and the libraries' versions."""
    identity = about.get("identity") or {}
    told = _flat({name: value for name, value in identity.items() if name not in _OF_NO_ACCOUNT})
    return told | _flat({f"the version of {name}": value for name, value in (about.get("versions") or {}).items()})


def _flat(content: Any, name: str = "") -> dict[str, str]:
    if not isinstance(content, dict):
        text = "none" if content is None else str(content)
        return {name: f"{text[:12]}..." if _DIGEST.fullmatch(text) else text}
    return {
        path: value
        for inner, part in content.items()
        for path, value in _flat(part, f"{name}.{inner}" if name else str(inner)).items()
    }
