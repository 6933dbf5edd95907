"""Decode the packets of a file; a recording of a broadcast may begin and end in the middle of a picture."""

from __future__ import annotations

from typing import Any

import av

from pipeline.media.decoding_limits import refuse_large_picture


class PacketDecoder:
    """Decodes packets. At the edges of a broadcast's recording, those that cannot be decoded are passed over.

    Attributes:
        may_be_cut: whether the file is such a recording: in any other, whatever cannot be decoded is damage.
    """

    def __init__(self, may_be_cut: bool) -> None:
        self.may_be_cut = may_be_cut
        self._began: set[int] = set()
        self._late: set[int] = set()
        self._failed: dict[int, av.FFmpegError] = {}

    def decode(self, packet: av.Packet[Any]) -> list[Any]:
        """The frames that a packet completes.

        Raises:
            av.FFmpegError: it cannot be decoded, or an earlier one could not and was not the last of its stream.
            ClipError: its picture is too large.
        """
        stream = packet.stream_index
        try:
            frames: list[Any] = packet.decode()
        except av.FFmpegError as error:
            refuse_large_picture(packet)
            if not self.may_be_cut:
                raise
            if stream in self._began:
                self._failed.setdefault(stream, error)
            else:
                self._late.add(stream)
            return []
        if frames:
            self._began.add(stream)
            if packet.size and stream in self._failed:  # an empty packet asks for what was decoded before
                raise self._failed[stream]
        return frames

    @property
    def notes(self) -> list[str]:
        """What was passed over, in words."""
        notes = ["the recording begins in the middle of a picture"] if self._late else []
        return notes + (["the recording ends in the middle of a packet"] if self._failed else [])
