"""Descriptions of what was evaluated, and the published figures where they are of the same clips."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from eval.results import Evaluation
from runtime.html_page import counted

_WORDS = {
    "network": ("Network", "the checkpoint", "the network"),
    "shuffled_lips": ("Shuffled lips", "the checkpoint with another clip's lips", "the network with shuffled lips"),
    "untrained": ("Untrained", "the same network, new weights", "the untrained network"),
    "mean_mel": ("Mean mel", "the mean mel of the training splits, same vocoder", "the mean mel"),
    "ceiling": ("Ceiling", "the ground-truth mel, same vocoder", "the ceiling"),
    "ceiling_griffin_lim": (
        "Ceiling, Griffin-Lim",
        "the ground-truth mel through Griffin-Lim",
        "the ceiling of Griffin-Lim",
    ),
    "original": ("Original", "the recording itself", "the original"),
}
TITLES, MEANING, NAMES = ({system: words[place] for system, words in _WORDS.items()} for place in range(3))
"""What systems are called in headings, what they are, and what they are called inside a sentence."""

_REFERENCES = {
    "self": "the first frames of the very clip that is scored, as published",
    "other": "the loudest stretch of another clip of the same speaker",
}

_VOCODERS = {
    "default": "Griffin-Lim",
    "griffin_lim": "Griffin-Lim",
    "own": "neural, of the checkpoint's file",
    "published": "Griffin-Lim as published",
}

_LEAK = {"masked": "without the leak", "published": "the leak included"}
"""By what the checkpoint's networks do with padding (`model.padding`)."""


class PublishedFigures(NamedTuple):
    """Figures of the published system on a test split (docs/method.md, From mel to waveform, and scores)."""

    corpus: str  # and split, in words
    figures: dict[str, float]  # metric -> mean
    clips: int | None  # in the split as its owners list it; None where docs/method.md and the corpus do not say


_PUBLISHED = {
    "lrs2": PublishedFigures("LRS2, test split", {"stoi": 0.526}, 1243),
    "lrs3": PublishedFigures("LRS3, test part of the unseen split", {"stoi": 0.497}, None),
}


def published_of(evaluation: Evaluation, listed: int) -> tuple[PublishedFigures | None, str]:
    """The published figures, if this evaluation is of their clips, and a note on them.

    Any corpus can be laid out as LRS2 is, and a part of a split is not the split: the number of clips `listed` in the
    split tells, those included that are not in the shards or could not be read.
    """
    dataset, settings = evaluation.about.get("dataset", {}), evaluation.about.get("settings", {})
    found = _PUBLISHED.get(str(dataset.get("recipe"))) if dataset.get("split") == "test" else None
    if found is None:
        return None, ""
    if settings.get("clips") is not None or found.clips not in (None, listed):
        of = f"of {found.clips:,} clips" if found.clips else "the whole split"
        return None, (
            f"The published figures are of {found.corpus}, {of}; these are {counted(listed, 'clip')} of a split of "
            "that name and layout, so the figures do not stand beside them."
        )
    if settings.get("protocol") == "published":
        padding = evaluation.about.get("checkpoint", {}).get("padding")
        ours = f"that protocol, {_LEAK.get(padding, 'and did not record whether padding leaks')}"
    else:
        ours = "another protocol"
    return found, (
        f"The published figures are means over {found.corpus}: Griffin-Lim of 60 rounds, the speaker reference "
        "from the first 50 mel frames of the very clip that is scored, clips cut at 10 s, padding leaking between "
        "the clips of a batch. "
        f"This evaluation has {ours}."
    )


def lead(evaluation: Evaluation, summary: Mapping[str, Any]) -> dict[str, str]:
    """The parts of the sentence that says what was evaluated."""
    about, dataset = evaluation.about, evaluation.about.get("dataset", {})
    checkpoint, settings = about.get("checkpoint", {}), about.get("settings", {})
    facts = []
    if checkpoint.get("step") is not None:
        facts.append(f"step {checkpoint['step']:,}")
    if checkpoint.get("parameters"):
        facts.append(f"{checkpoint['parameters'] / 1e6:.1f} million parameters")
    return {
        "checkpoint": os.path.basename(str(checkpoint.get("path", "checkpoint"))),
        "folder": os.path.basename(os.path.dirname(str(checkpoint.get("path", "")))),
        "facts": ", ".join(facts),
        "split": str(dataset.get("split", "")),
        "dataset": str(dataset.get("url", "")).rstrip("/").rpartition("/")[2],
        "clips": counted(summary["clips"], "clip"),
        "length": length(summary["seconds"]),
        "speakers": counted(len(summary["speakers"]), "speaker"),
        "speaker_reference": _speaker_reference(evaluation, settings.get("speaker_reference", "")),
        "vocoder": vocoder_in_words(str(settings.get("vocoder", ""))),
    }


def vocoder_in_words(name: str) -> str:
    """Which vocoder was used, in words; of a checkpoint its folder and name."""
    path = PurePath(name)
    return _VOCODERS.get(name, f"neural, {'/'.join(path.parts[-2:])}" if name else "")


def length(seconds: float) -> str:
    """1.25 hours; 3.1 minutes."""
    return f"{seconds / 3600:.2f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _speaker_reference(evaluation: Evaluation, name: str) -> str:
    """Which speaker reference clips are synthesized with, exceptions included."""
    said = _REFERENCES.get(name, f"the loudest stretch of {os.path.basename(name)}" if name else "not recorded")
    own = evaluation.rows("network")["speaker_reference"].to_pylist().count("self") if name == "other" else 0
    return f"{said} ({counted(own, 'clip')} without such another: the clip's own)" if own else said


def settings_of(about: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """What `evaluation.json` says of settings, checkpoint, dataset and versions, nested names joined by dots."""
    names = ("settings", "checkpoint", "dataset", "versions")
    sections = {name.capitalize(): flatten(about.get(name, {})) for name in names}
    return {title: values for title, values in sections.items() if values}


def flatten(values: Any, path: str = "") -> dict[str, str]:
    """Nested settings as text by `outer.inner`; lists are joined by commas."""
    if isinstance(values, Mapping):
        parts = (flatten(value, f"{path}.{name}" if path else str(name)) for name, value in values.items())
        return {name: text for part in parts for name, text in part.items()}
    if isinstance(values, list) and not any(isinstance(value, Mapping | list) for value in values):
        return {path: ", ".join(map(str, values)) or "none"}
    return {path: "none" if values is None else str(values)}
