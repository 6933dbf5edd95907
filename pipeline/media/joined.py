"""Lay the parts of a joined file end to end: files that were put one after the other, each with a clock of its own.

FFmpeg's own tool does so for broadcasts alone, with one clock for the file: where the last packets of a part come after
the first of the next, as parsers hand them over, it is off by what it takes for a leap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from pipeline.media.decoding_limits import DecodingLimits
from pipeline.media.errors import ClipError
from pipeline.media.probe import PacketProbe
from pipeline.media.streams import choose_streams, open_video
from runtime.regular_file import open_regular

FORMAT = "nut"
"""Of the copy: it holds any codec, with times as fine as the source's."""


@dataclass
class _Part:
    """Seconds by a part's own clock."""

    start: float = float("inf")
    end: float = float("-inf")


@dataclass
class _Clock:
    """Which part each packet is of: streams pass from one to the next by themselves."""

    probe: PacketProbe
    part_of_stream: dict[int, int] = field(default_factory=dict)

    def part(self, packet: av.Packet[Any]) -> int:
        number = self.part_of_stream.get(packet.stream_index, 0) + (self.probe.leap(packet) is not None)
        self.part_of_stream[packet.stream_index] = number
        return number


def lay_end_to_end(source: Path, out: Path) -> bool:
    """Copy picture and sound of a joined file, as they are, with one clock.

    Returns:
        Whether it was done: not where picture and sound leap at different places, which is something else.

    Raises:
        av.FFmpegError: it cannot be read or copied.
        ClipError: `too_large`: its packets are more bytes than the file has, since they lie over each other.
    """
    offsets = _offsets(source)
    if not offsets:
        return False
    with (
        open_regular(source) as file,
        open_video(file) as container,
        av.open(str(out), "w", format=FORMAT) as target,
    ):
        streams = choose_streams(container)
        chosen = [stream for stream in (streams.video, streams.audio) if stream is not None]
        copies = {stream.index: target.add_stream_from_template(stream, opaque=True) for stream in chosen}
        clock, last = _Clock(PacketProbe.of(container)), dict[int, int]()
        limits, bytes_left = DecodingLimits(), 2 * source.stat().st_size
        for packet in container.demux(chosen):
            if not packet.size or packet.time_base is None:
                continue
            limits.check_packet(packet)
            bytes_left -= packet.size
            if bytes_left < 0:
                raise ClipError("decode", "too_large", "its packets are more than twice the bytes of the file")
            index = packet.stream_index
            shift = round(offsets[clock.part(packet)] / float(packet.time_base))
            packet.pts = None if packet.pts is None else packet.pts + shift
            # Matroska leaves the first decoding times out
            decoded = packet.dts if packet.dts is not None else -round(1 / packet.time_base)
            packet.dts = last[index] = max(decoded + shift, last.get(index, decoded + shift - 1) + 1)
            packet.stream = copies[index]
            target.mux(packet)
    return True


def _offsets(source: Path) -> list[float]:
    """Seconds to add to the times of each part, so that each begins where the one before ends; none if unclear."""
    parts: list[_Part] = []
    with open_regular(source) as file, open_video(file) as container:
        streams = choose_streams(container)
        clock, limits = _Clock(PacketProbe.of(container)), DecodingLimits()
        for packet in container.demux([stream for stream in (streams.video, streams.audio) if stream is not None]):
            limits.check_packet(packet)
            if not packet.size or packet.time_base is None:
                continue
            number = clock.part(packet)
            parts += [_Part() for _ in range(number + 1 - len(parts))]
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None:
                seconds = time * float(packet.time_base)
                part = parts[number]
                part.start = min(part.start, seconds)
                part.end = max(part.end, seconds + (packet.duration or 0) * float(packet.time_base))
    if len(set(clock.part_of_stream.values())) != 1:
        return []
    offsets, end = [], parts[0].start
    for part in parts:
        offsets.append(end - part.start)
        end += part.end - part.start
    return offsets
