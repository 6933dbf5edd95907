"""An S3 server for tests, in a process of its own.

Not in a thread of the tests' process: the loader's worker processes are forked from that one, and a lock that the
server's thread held at that moment would be held in them for good.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SERVER = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def s3_server() -> Iterator[str]:
    """Start a server and end it; its address. It also ends when the process that started it is gone."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port, f"the S3 server ended with status {process.wait()}: what it said is above"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
