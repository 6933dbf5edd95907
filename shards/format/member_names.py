"""Names of a clip's members in its tar."""

from __future__ import annotations

import re

MEMBERS = ("json", "mel", "roi", "txt", "wav")
ROI_MEMBERS = ("roi.mkv", "roi.npy")
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")


def split_member(name: str) -> tuple[str, str] | None:
    """`main/a/1.roi.npy` -> (`main/a/1`, `roi.npy`), as WebDataset takes names apart; None: no member is named so."""
    match = _MEMBER.fullmatch(name)
    return (match[1], match[2]) if match else None


def member_extension(member: str, roi_member: str) -> str:
    """The extension under which a clip's member lies in its tar: `roi` -> its `roi_member`, `txt` -> `txt`."""
    return {"roi": roi_member, "mel": "mel.npy"}.get(member, member)
