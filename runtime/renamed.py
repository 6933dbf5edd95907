"""Old names of settings, flags and fields of checkpoints and datasets: each is refused, and its new name said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_SAME_MEL = "nothing: it is taken from the dataset's manifest"

RENAMED: Mapping[str, Mapping[str, str]] = {
    "data": {"half": "crop_radius", "crops": "coordinates", "splits": "split_lists"},
    "train": {
        "recipe": "task",
        "recipes": "tasks",
        "keep": "checkpoint",
        "recogniser": "asr",
        "optimiser": "optimizer",
        "micro_batches": "micro_batches_per_step",
        "on_damage": "on_error",
        "bad_steps": "max_nonfinite_steps",
        "init_visual": "init_vsr",
        "init_recogniser": "init_asr",
        "schedule.warm_up": "schedule.warmup_steps",
        "batch.max_frames": "batch.max_padded_frames",
        "losses.slope": "losses.delta",
        "segments.reference_from": "segments.speaker_reference",
        "validation.voice": "validation.speaker_reference",
        "transforms.still": "transforms.subtract_temporal_mean",
        "transforms.half": _SAME_MEL,
        "transforms.crop_radius": _SAME_MEL,
        "tasks.visual": "tasks.vsr",
    },
    "eval": {
        "voice": "speaker_reference",
        "recogniser": "asr",
        "normaliser": "normalizer",
        "max_frames": "max_padded_frames",
    },
    "synthesize": {"voice": "speaker_reference", "crops": "coordinates", "lips": "coordinates"},
    "checkpoint": {"half": "crop_radius", "still": "subtract_temporal_mean", "recogniser": "asr", "visual": "vsr"},
    "training": {"identity": "fingerprint", "place": "state", "optimiser": "optimizer"},
    "manifest": {"features.crop.half": "features.crop.crop_radius", "totals.left_out": "totals.skipped"},
    "sidecar": {"left_out": "skipped"},
}
"""Old name -> new one, dotted, of each section of a settings file, of a checkpoint's settings and its training state,
and of the manifest and the sidecars of a dataset."""


def refuse_renamed(section: str, names: Iterable[str]) -> None:
    """Refuse dotted names, of a section's settings, flags or fields, that have another name now.

    Raises:
        ValueError: naming the old and the new name.
    """
    table = RENAMED.get(section, {})
    for name in names:
        parts = name.replace("-", "_").split(".")
        for depth in range(1, len(parts) + 1):
            new = table.get(".".join(parts[:depth]))
            if new is not None:
                raise ValueError(f"{section}: {'.'.join(parts[:depth])} is not a name of this version: use {new}")


def dotted(values: Mapping[str, object], prefix: str = "") -> Iterable[str]:
    """Names of nested mappings: {"a": {"b": 1}} -> a, a.b."""
    for name, value in values.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{name}.")
