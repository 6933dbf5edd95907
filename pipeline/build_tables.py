"""Print tables of a build: the plan before it, the summary after it."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from pipeline.build import Built, count_reasons
from pipeline.config import BuildSettings
from pipeline.plan import Plan, clip_bytes
from runtime.constants import FPS
from runtime.terminal import printable


def plan_table(plan: Plan, settings: BuildSettings) -> Table:
    """What a build would do: per split, clips, hours, shards and bytes expected (as raw lip regions)."""
    rows = {}
    for split in sorted({shard.split for shard in plan.shards} | {entry.split for entry in plan.skipped}):
        shards = [shard for shard in plan.shards if shard.split == split]
        frames = [clip.frames for shard in shards for clip in shard.clips]
        size = sum(clip_bytes(count, settings.crop_radius) for count in frames)
        skipped = sum(entry.split == split for entry in plan.skipped)
        rows[split] = (len(frames), sum(frames), len(shards), size, skipped)
    title = f"plan {plan.hash[:12]}: {settings.dataset} at {settings.root}"
    table = _table(title, ("bytes expected", "skipped already"), rows)
    if settings.roi_codec != "npy":
        table.caption = f"bytes are for raw lip regions; --roi-codec {settings.roi_codec} takes less (README)"
    return table


def summary_table(built: Built, out: str) -> Table:
    """What a build made, and what it skipped and why."""
    reused = f", {built.reused} shards were built before" if built.reused else ""
    rows = {
        split: tuple(sum(column) for column in zip(*((e.clips, e.frames, 1, e.bytes) for e in entries), strict=True))
        for split, entries in built.manifest.splits.items()
    }
    table = _table(f"{out}: {built.speed:.0f} video-seconds a second{reused}", ("bytes",), rows)
    reasons = count_reasons(built.skipped)
    if reasons:
        lines = "\n".join(f"{count} skipped: {reason}" for reason, count in reasons.most_common())
        table.caption = f"{lines}\nevery one with its reason: {out.rstrip('/')}/errors.jsonl"
        table.caption_justify = "left"
    return table


def _table(title: str, further: tuple[str, ...], rows: Mapping[str, tuple[int, ...]]) -> Table:
    """A row a split and one of sums: clips, frames (shown as hours), shards, bytes, and a count where there is one."""
    table = Table(title=printable(title), title_justify="left")
    for name in ("split", "clips", "hours", "shards", *further):
        table.add_column(name, justify="left" if name == "split" else "right")
    total = tuple(sum(column) for column in zip(*rows.values(), strict=True))
    for number, (split, (clips, frames, shards, size, *rest)) in enumerate([*rows.items(), ("all", total)]):
        if number == len(rows):  # not by name: a folder without split lists is one split, `all`
            table.add_section()
        table.add_row(
            printable(split),
            str(clips),
            f"{frames / FPS / 3600:.3f}",
            str(shards),
            f"{size / 1e6:.1f} MB",
            *map(str, rest),
        )
    return table
