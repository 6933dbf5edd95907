"""What all tests share: where reference arrays and footage lie, if they do, a small corpus, and an S3 to work on."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import hypothesis
import pytest
import torch

from pipeline import build_lock
from pipeline.config import BuildSettings
from runtime import ray_jobs
from runtime.ray_connection import read_environment_again
from shards.loading import member_reader
from tests.corpora import Lrs2Corpus
from tests.s3 import s3_server

SHARED = Path(__file__).resolve().parents[2] / "shared"

hypothesis.settings.register_profile("any machine", deadline=None)  # how long an example takes says nothing
hypothesis.settings.load_profile("any machine")

torch.set_num_threads(1)  # on a busy machine, threads that wait for each other cost small tests more than they bring


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage that failed is tried again at once, and what was written to a bucket is there at once."""
    monkeypatch.setattr(ray_jobs, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(member_reader, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(build_lock, "SETTLE_SECONDS", 0.0)


@pytest.fixture
def cluster_token(monkeypatch: pytest.MonkeyPatch) -> str:
    """The token of the Ray clusters that a test starts, which whoever joins them finds in the environment."""
    token: str = secrets.token_hex(32)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    read_environment_again()
    return token


@pytest.fixture(scope="session")
def reference() -> Path:
    """Arrays that the published implementation computed; tests that need them are skipped where there are none."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("needs ../shared/reference")
    return SHARED / "reference"


@pytest.fixture(scope="session")
def footage() -> Path:
    """Real talking-face clips in LRS2 form; tests that need them are skipped where there are none."""
    if not (SHARED / "real").is_dir():
        pytest.skip("needs ../shared/real")
    return SHARED / "real"


@pytest.fixture(scope="session")
def grid() -> Path:
    """A few files of GRID as its owners ship it; tests that need them are skipped where there are none."""
    if not (SHARED / "grid").is_dir():
        pytest.skip("needs ../shared/grid")
    return SHARED / "grid"


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Lrs2Corpus:
    """Ten good clips of two speakers in train, val, test and pretrain. Not to be changed by a test."""
    corpus = Lrs2Corpus(tmp_path_factory.mktemp("corpus"))
    timed = "Text:  PLACE BLUE\nConf:  1\n\nWORD START END ASDSCORE\nPLACE 0.10 0.40 9.1\nBLUE 0.40 0.90 8.2\n"
    for number, split in enumerate(["train"] * 6 + ["val", "test", "pretrain", "pretrain"]):
        transcript = timed if split == "pretrain" else "Text:  PLACE BLUE AT F TWO NOW\nConf:  1\n"
        corpus.add(f"speaker{number % 2}/{number:05}", split, frames=25 + number, transcript=transcript)
    return corpus.finish()


@pytest.fixture
def small_settings(small_corpus: Lrs2Corpus) -> BuildSettings:
    return BuildSettings(dataset="lrs2", root=str(small_corpus.root), shard_mb=0.8)


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """Where an S3 server answers; tests that need it are skipped where it is not installed."""
    for package in ("moto", "flask_cors", "s3fs"):
        pytest.importorskip(package)
    with s3_server() as address:
        yield address


@pytest.fixture
def s3(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty S3 as a file system: what `s3://` means during a test, here and in processes that it starts."""
    import s3fs

    with urlopen(Request(f"{s3_address}/moto-api/reset", method="POST"), timeout=30):
        pass
    for name, value in {
        "AWS_ENDPOINT_URL": s3_address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # what it knows of another test's buckets
    return s3fs.S3FileSystem()
