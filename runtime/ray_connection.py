"""Start Ray on this machine, listening on loopback only and with a token of its own, or join a cluster by address.

Whoever reaches a Ray cluster runs code on it (docs/cluster.md). What is started here listens on the loopback interface
only, and takes requests with a token that is made anew each time and handed on by environment. Ray reads all of that
from the environment, and some of it when it is imported: it is imported here, and only when a job starts.
"""

from __future__ import annotations

import importlib
import ipaddress
import logging
import os
import re
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.limits import MAX_TOKEN_BYTES
from runtime.regular_file import read_regular

_CONNECT_SECONDS = 10.0
_LONGEST_TMPDIR = 38
"""Characters: the name of a socket has 107, and Ray adds `/ray/session_<date>_<time>_<pid>/sockets/plasma_store`."""

_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Meant for other systems; on Linux, too, a node has a loopback address, and listens there only, where this is 0."""


@contextmanager
def connected_ray(address: str | None, workers: int | None) -> Iterator[Any]:
    """The module `ray`, connected until the block ends; what was started here is stopped then.

    Args:
        address: "auto" or "host:6379"; None starts Ray on this machine.
        workers: processors that it says it has there; None: those of the machine.

    Raises:
        ValueError: no cluster answers at `address`, it refuses the user's token, or there is none; Ray would
            listen on all interfaces.
    """
    if len(os.fsencode(os.environ.get("TMPDIR", ""))) > _LONGEST_TMPDIR:
        os.environ.setdefault("RAY_TMPDIR", "/tmp")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with _environment(_of_this_machine() if address is None else _of_cluster(address)):
        import ray

        read_environment_again()
        if address is None:
            _start(ray, workers)
        else:
            _join(ray, address)
        try:
            yield ray
        finally:
            ray.shutdown()


def _of_this_machine() -> dict[str, str]:
    return {_CLUSTERS: "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _of_cluster(address: str) -> dict[str, str]:
    """Environment for joining; a cluster whose nodes have no tokens is joined only where the user says so."""
    found = {
        "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token"),
        "RAY_gcs_server_port_wait_time_s": "1",  # tries, which take 40 s where something else answers
        "RAY_BACKEND_LOG_LEVEL": os.environ.get("RAY_BACKEND_LOG_LEVEL", "error"),
    }
    if _is_loopback(_host_and_port(address)[0]):
        found[_CLUSTERS] = "0"
    if found["RAY_AUTH_MODE"].lower() != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return found
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        token = read_regular(path, MAX_TOKEN_BYTES).strip()
    except FileNotFoundError:
        token = b""
    if not token:
        raise ValueError(
            f"address: {address!r}: {path}: no token of this cluster was found: copy the one that "
            "`ray get-auth-token --generate` made on its first node, or set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH "
            "(docs/cluster.md)"
        )
    return found


def _start(ray: Any, workers: int | None) -> None:
    if not _is_loopback(ray.util.get_node_ip_address()):
        raise ValueError(f"Ray {ray.__version__} would listen on all interfaces: set {_CLUSTERS}=0")
    ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


def _join(ray: Any, address: str) -> None:
    host, port = _host_and_port(address)
    try:
        if port is not None:  # Ray itself would try for many minutes
            socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except ray.exceptions.AuthenticationError as error:
        raise _refused(address) from error
    except (OSError, OverflowError) as error:
        if "AuthenticationError" in str(error.__cause__):  # a traceback, after some tries
            raise _refused(address) from error
        raise ValueError(f"address: no Ray cluster answers at {address!r}: {error}") from error


def _refused(address: str) -> ValueError:
    return ValueError(
        f"address: the Ray cluster at {address!r} refuses our token: set RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or "
        "~/.ray/auth_token to the one of its first node (docs/cluster.md)"
    )


def _host_and_port(address: str) -> tuple[str, int | None]:
    """Of "host:6379"; no port of anything else."""
    found = re.fullmatch(r"([^:/]+):(\d{1,5})", address)
    return (found[1], int(found[2])) if found else (address, None)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_environment_again() -> None:
    """Ray keeps what it read when it was imported and first started, from one start to the next in the same process."""
    constants: Any = importlib.import_module("ray._private.ray_constants")
    constants.ENABLE_RAY_CLUSTER = os.environ.get(_CLUSTERS) != "0"
    raylet: Any = importlib.import_module("ray._raylet")
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the length of a block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
