"""Settings of the page; the class is the schema of the command's flags and of the YAML section `serve`."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ServeSettings:
    """What is served, where, and what a visitor may ask for.

    Attributes:
        checkpoint: of the task lip2speech, ours or a published file.
        host: address to listen on; any other than this machine's own asks visitors for a token, which is printed.
        port: 0 takes a free one.
        shards: dataset whose speakers are offered as voices; None: the one that the checkpoint's run was trained on, if
            it is there; `none`: no voices.
        voices: speakers offered, at most.
        vocoder: `default`, that of a released checkpoint, else Griffin-Lim; `griffin_lim`; `published`; or a checkpoint
            of the task vocoder.
        device: of the network and the vocoder; None: a GPU if there is one.
        max_seconds: that a clip may last.
        max_mb: megabytes that an uploaded file may have.
        max_waiting: jobs that may wait for their turn.
        job_timeout: seconds that a job may take before it is ended.
    """

    checkpoint: str
    host: str = "127.0.0.1"
    port: int = 7860
    shards: str | None = None
    voices: int = 8
    vocoder: str = "default"
    device: Literal["cpu", "cuda"] | None = None
    max_seconds: float = 60.0
    max_mb: int = 100
    max_waiting: int = 8
    job_timeout: float = 300.0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("port", 0, 65_535),
            ("voices", 0, 100),
            ("max_seconds", 1, 20 * 60),
            ("max_mb", 1, 4096),
            ("max_waiting", 1, 1000),
            ("job_timeout", 1, 24 * 3600),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name}: {getattr(self, name)}, and {least:,} to {most:,} was expected")
        if not self.host or any(character in self.host for character in " /?#@"):
            raise ValueError(f"host: {self.host!r}, and an address or a name was expected, such as 0.0.0.0")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the page."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, by its address or as `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
