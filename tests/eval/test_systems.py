"""What networks run on, and what is refused."""

from __future__ import annotations

import pytest
import torch

from eval.systems import device_of, lip_to_speech_of
from model.checkpoint import Checkpoint
from tests.model.networks import small_asr


@pytest.mark.parametrize(
    ("wanted", "gpus", "found"), [(None, 0, "cpu"), (None, 2, "cuda"), ("cpu", 2, "cpu"), ("cuda", 1, "cuda")]
)
def test_a_gpu_is_taken_where_there_is_one_unless_the_cpu_is_wanted(wanted: str | None, gpus: int, found: str) -> None:
    assert device_of(wanted, gpus) == torch.device(found)


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(None) == torch.device("cpu")
    for gpus in (None, 0):
        with pytest.raises(ValueError, match="device: cuda, and there is no free GPU here"):
            device_of("cuda", gpus)


def test_a_network_of_another_recipe_is_named() -> None:
    recogniser = small_asr()
    with pytest.raises(ValueError, match=r"x\.pt: a network of the task asr, and lip2speech was expected"):
        lip_to_speech_of(Checkpoint(recogniser.settings, recogniser.state_dict()), "x.pt")
