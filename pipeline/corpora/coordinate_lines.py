"""Give the lines of a coordinate file to the videos that they name."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.corpora.written_names import WrittenNames


def lines_by_video(
    lines: Mapping[str, str], videos: WrittenNames, where: str, prefix: str = ""
) -> tuple[dict[str, str], list[str]]:
    """The coordinate line of each video that has one. Lines of videos that are not there are passed over.

    Args:
        lines: path as written -> numbers, from `read_coordinate_file`.
        videos: what is there.
        where: the coordinate file, for messages.
        prefix: what a path in the file leaves out: the folder of a set and `/`.

    Returns:
        video -> its line, and notices of videos with several lines that differ.

    Raises:
        ValueError: no line is of a video that is there; quotes the first and the nearest name.
    """
    found: dict[str, str] = {}
    repeated: list[str] = []
    for written, numbers in lines.items():
        video = videos.find(written, prefix)
        if video is not None and found.setdefault(video, numbers) != numbers:
            repeated.append(video)
    if lines and not found:
        raise ValueError(
            f"{where}: none of the {len(lines)} videos of its lines is there: {videos.quote_missing(next(iter(lines)))}"
        )
    if not repeated:
        return found, []
    return found, [f"{where}: {len(repeated)} clips have two lines that differ, the first was used: {repeated[0]}"]
