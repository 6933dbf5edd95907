"""What most tests of training begin with."""

from __future__ import annotations

import pytest

from tests.train.runs import write_small_dataset


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a dataset of noise clips, with a tokenizer; a module's own."""
    return write_small_dataset(tmp_path_factory.mktemp("dataset"))
