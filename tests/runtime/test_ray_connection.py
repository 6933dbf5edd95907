"""Joining a Ray cluster: whose token is used, and what is said where there is none or it is refused."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runtime.ray_jobs import job_runner
from tests.processes import descendants, end

RAY = str(Path(sys.executable).parent / "ray")


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[str, Path]]:
    """The address of a cluster as docs/cluster.md starts it, and the home of the user who did."""
    home = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # sockets have short names
    here = os.environ | {"HOME": str(home), "RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    subprocess.run([RAY, "get-auth-token", "--generate"], env=here, check=True, capture_output=True)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = ["--port", address.partition(":")[2], "--temp-dir", str(home / "r"), "--num-cpus", "1", "--block"]
    command = [RAY, "start", "--head", "--node-ip-address", "127.0.0.1", "--include-dashboard", "false", *flags]
    process = subprocess.Popen(command, env=here, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "--block" in line:
                break
        yield address, home
    finally:
        end(process, descendants(process.pid))
        process.stdout.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.slow
def test_cluster_is_joined_with_the_token_of_its_head(head: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    address, home = head
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / ".ray" / "auth_token"))
    with job_runner(address, 1) as runner:
        assert [outcome.result for outcome in runner.map(len, ["abc"])] == [3]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_TOKEN", "0" * 64), ("RAY_AUTH_MODE", "disabled")])
def test_cluster_that_refuses_a_token_is_named(
    head: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"address: .*{head[0]}.* refuses our token"), job_runner(head[0], 1):
        pass


@pytest.mark.parametrize("kind", ["missing", "empty", "named"])
def test_cluster_is_not_joined_without_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    file = tmp_path / ".ray" / "auth_token"
    if kind == "empty":
        file.parent.mkdir()
        file.write_text("\n")
    elif kind == "named":
        file = tmp_path / "elsewhere"
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    with pytest.raises(ValueError, match=f"address: .*{file}.*get-auth-token"), job_runner("127.0.0.1:1", 1):
        pass


def test_cluster_token_is_read_from_a_regular_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "fifo"))
    with pytest.raises(ValueError, match=r"fifo: .*FIFO"), job_runner("127.0.0.1:1", 1):
        pass
