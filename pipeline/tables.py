"""Tables for a person: the plan before a build, the summary after it."""

from __future__ import annotations

from rich.table import Table

from pipeline.build import Built, count_reasons
from pipeline.config import BuildSettings
from pipeline.plan import Plan, clip_bytes
from runtime.constants import FPS


def plan_table(plan: Plan, settings: BuildSettings) -> Table:
    """What a build would do: per split, clips, hours, shards and bytes expected (as raw lip regions)."""
    table = Table(title=f"plan {plan.hash[:12]}: {settings.dataset} at {settings.root}", title_justify="left")
    for name in ("split", "clips", "hours", "shards", "bytes expected", "skipped already"):
        table.add_column(name, justify="left" if name == "split" else "right")
    splits = sorted({shard.split for shard in plan.shards} | {entry.split for entry in plan.skipped})
    rows = []
    for split in splits:
        shards = [shard for shard in plan.shards if shard.split == split]
        frames = [clip.frames for shard in shards for clip in shard.clips]
        expected = sum(clip_bytes(count, settings.crop_radius) for count in frames)
        skipped = sum(entry.split == split for entry in plan.skipped)
        rows.append((len(frames), sum(frames) / FPS / 3600, len(shards), expected, skipped))
        table.add_row(split, *_cells(rows[-1]))
    table.add_section()
    table.add_row("all", *_cells(tuple(sum(column) for column in zip(*rows, strict=True))))
    if settings.roi_codec != "npy":
        table.caption = f"bytes are for raw lip regions; --roi-codec {settings.roi_codec} takes less (README)"
    return table


def summary_table(built: Built, out: str) -> Table:
    """What a build made, and what it skipped and why."""
    manifest = built.manifest
    reused = f", {built.reused} shards were there already" if built.reused else ""
    table = Table(title=f"{out}: {built.speed:.0f} video-seconds a second{reused}", title_justify="left")
    for name in ("split", "clips", "hours", "shards", "bytes"):
        table.add_column(name, justify="left" if name == "split" else "right")
    rows = []
    for split, entries in manifest.splits.items():
        frames = sum(entry.frames for entry in entries)
        size = sum(entry.bytes for entry in entries)
        rows.append((sum(entry.clips for entry in entries), frames / FPS / 3600, len(entries), size))
        table.add_row(split, *_cells(rows[-1]))
    table.add_section()
    table.add_row("all", *_cells(tuple(sum(column) for column in zip(*rows, strict=True))))
    reasons = count_reasons(built.skipped)
    if reasons:
        lines = "\n".join(f"{count} skipped: {reason}" for reason, count in reasons.most_common())
        table.caption = f"{lines}\nevery one with its reason: {out.rstrip('/')}/errors.jsonl"
        table.caption_justify = "left"
    return table


def _cells(row: tuple[float, ...]) -> list[str]:
    clips, hours, shards, size, *rest = row
    return [
        str(int(clips)),
        f"{hours:.3f}",
        str(int(shards)),
        f"{size / 1e6:.1f} MB",
        *(str(int(value)) for value in rest),
    ]
