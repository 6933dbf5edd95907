"""Names that were replaced are refused, and the new one named: settings, flags, fields of checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from runtime.renamed import RENAMED, dotted, refuse_renamed
from tests.model.networks import small_asr


@pytest.mark.parametrize(("section", "old"), [(section, old) for section, names in RENAMED.items() for old in names])
def test_refuse_renamed_names_the_old_and_the_new_name(section: str, old: str) -> None:
    with pytest.raises(ValueError, match=old) as caught:
        refuse_renamed(section, [f"{old}.inner"])
    assert RENAMED[section][old] in str(caught.value)


def test_refuse_renamed_passes_new_names() -> None:
    refuse_renamed("train", dotted({"task": "vsr", "batch": {"max_padded_frames": 3}, "segments": {"max_frames": 2}}))


@pytest.mark.parametrize(("old", "new"), [("half", "crop_radius"), ("still", "subtract_temporal_mean")])
def test_load_checkpoint_refuses_a_renamed_setting_and_names_the_new_one(old: str, new: str, tmp_path: Path) -> None:
    network = small_asr()
    save_checkpoint(tmp_path / "x.pt", Checkpoint(network.settings, network.state_dict()))
    content = torch.load(tmp_path / "x.pt", weights_only=True)
    torch.save(content | {"transforms": {old: 40}}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=rf"{old}.*{new}"):
        load_checkpoint(tmp_path / "x.pt")
    torch.save(content | {"kind": "visual"}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"visual.*vsr"):
        load_checkpoint(tmp_path / "x.pt")
