"""What goes between the server and its worker: a JSON object and bytes beside it, each with its length before it.

Neither side unpickles anything: the worker has read strangers' files, and the server is not to trust it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

_LENGTHS = struct.Struct("<II")
MAX_MESSAGE_BYTES, MAX_BYTES_BESIDE = 4 << 20, 16 << 20

Message = dict[str, Any]


class WireError(ConnectionError):
    """The other side has ended, or sends what is no message."""


def encoded(message: Message, beside: bytes = b"") -> bytes:
    """The bytes of a message."""
    text = json.dumps(message).encode()
    return _LENGTHS.pack(len(text), len(beside)) + text + beside


async def receive(reader: asyncio.StreamReader) -> Message:
    """The next message of a worker; what is beside it is not used (WireError)."""
    try:
        text, beside = _checked(await reader.readexactly(_LENGTHS.size))
        found = json.loads(await reader.readexactly(text))
        await reader.readexactly(beside)
    except (asyncio.IncompleteReadError, OSError, ValueError, RecursionError) as error:
        raise WireError(str(error)) from error
    if not isinstance(found, dict):
        raise WireError("no message")
    return found


def receive_blocking(connection: socket.socket) -> tuple[Message, bytes]:
    """The next message of the server, and what is beside it (WireError: it has ended)."""
    text, beside = _checked(_exactly(connection, _LENGTHS.size))
    message: Message = json.loads(_exactly(connection, text))
    return message, _exactly(connection, beside)


def _checked(lengths: bytes) -> tuple[int, int]:
    text, beside = _LENGTHS.unpack(lengths)
    if text > MAX_MESSAGE_BYTES or beside > MAX_BYTES_BESIDE:
        raise WireError(f"a message of {text:,} and {beside:,} bytes")
    return text, beside


def _exactly(connection: socket.socket, count: int) -> bytes:
    content = bytearray()
    while len(content) < count:
        block = connection.recv(min(count - len(content), 1 << 20))
        if not block:
            raise WireError("the server has ended")
        content += block
    return bytes(content)
