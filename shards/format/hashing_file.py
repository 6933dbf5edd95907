"""A file that keeps the checksum of what is written to it, so that it need not be read again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import IO, Any


@dataclass
class HashingFile:
    """Passes writes on, and digests them."""

    file: IO[bytes]
    digest: Any = field(default_factory=hashlib.sha256)
    closed: bool = False

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self.file.write(content)

    def tell(self) -> int:
        return self.file.tell()

    def flush(self) -> None:
        self.file.flush()
