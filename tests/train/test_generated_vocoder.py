"""A vocoder trained on generated mels: what it is given, what it is to become, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.checkpoint import load_checkpoint
from model.segment_sampling import draw_windows, loudest_reference, whole_windows
from model.synthesis import Synthesizer
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME
from shards.loading.collate import Batch
from tests.train.runs import finish, logged, start, task_flags, trainer_of
from train.__main__ import main
from train.tasks.generated_vocoder import GeneratedVocoderTask
from train.tasks.vocoder import cut_segments

ESTOI = ["--losses.estoi=4", "--segments.window_frames=15"]


@pytest.fixture(scope="module")
def lip2speech(shards: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A lip-to-speech network, hardly trained. Not to be changed by a test."""
    run = tmp_path_factory.mktemp("lip2speech") / "run"
    assert main(task_flags("lip2speech", shards, run, steps=2, every=2)) == 0
    return str(run / "checkpoints/step-00000002.pt")


def _flags(shards: str, run: Path, lip2speech: str, **more: Any) -> list[str]:
    return [*task_flags("vocoder", shards, run, init_lip2speech=lip2speech, **more), *ESTOI]


def _task_and_batch(arguments: list[str]) -> tuple[GeneratedVocoderTask, Batch, Tensor]:
    """The task of a command line, a batch of its training, and the mel frames of its clips."""
    trainer = trainer_of(arguments)
    assert isinstance(trainer.task, GeneratedVocoderTask)
    batch = next(one for one in trainer.epochs.open(1, 0).batches if one is not None)
    return trainer.task, batch, MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths


def test_generated_vocoder_learns_and_is_a_vocoder_like_any(shards: str, lip2speech: str, tmp_path: Path) -> None:
    learn = ["--splits=[val]", "--micro_batches_per_step=1", "--optimizer.learning_rate=0.01"]
    command = _flags(shards, tmp_path / "run", lip2speech, steps=40, every=40, **{"validation.every": 40})
    assert main([*command, *learn, "--validation.speech=[estoi]", "--checkpoint.best=null"]) == 0
    steps = list(logged(tmp_path / "run").values())
    first, last = (sum(line["stft"] for line in some) / 5 for some in (steps[:5], steps[-5:]))
    assert last < 0.95 * first
    assert any(line["estoi"] > 0.1 for line in steps), "of the clips that are as long as a run"
    kept = load_checkpoint(tmp_path / "run/best.pt", "vocoder")
    assert "validation_estoi" in kept.metrics, "by default the best is chosen by it"


def test_generated_vocoder_is_given_the_mels_that_are_evaluated(shards: str, lip2speech: str, tmp_path: Path) -> None:
    task, batch, lengths = _task_and_batch(_flags(shards, tmp_path / "run", lip2speech))
    generator = torch.Generator().manual_seed(0)
    references = {key: torch.randn(80, 50, generator=generator) for key in batch.keys}
    arguments = batch, whole_windows(lengths), int(lengths.max())
    segments = task.segments(*arguments, None, references)
    expected = Synthesizer.from_checkpoint(lip2speech).mels(
        batch.roi, batch.lengths, torch.stack(list(references.values()))
    )
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(segments.mel[row, :, :length], expected.mel[row, :, :length])
        assert (segments.mel[row, :, length:] == -1).all()
    recorded = cut_segments(*arguments)
    assert torch.equal(segments.wav, recorded.wav)
    assert not torch.allclose(segments.mel, recorded.mel, atol=0.1)
    own, sizes = loudest_reference(recorded.mel, lengths), segments.lengths
    other = task.segments(*arguments, None, dict(zip(batch.keys, own, strict=True)))
    assert torch.equal(other.lengths, sizes)
    assert not torch.equal(other.mel, segments.mel), "the reference is heard"


def test_generated_vocoder_is_given_the_sound_of_its_window(shards: str, lip2speech: str, tmp_path: Path) -> None:
    task, batch, lengths = _task_and_batch(_flags(shards, tmp_path / "run", lip2speech))
    whole = task.segments(batch, whole_windows(lengths), int(lengths.max()), 1, {})
    windows = draw_windows(lengths, torch.Generator().manual_seed(2), 20)
    assert windows.starts.any()
    part = task.segments(batch, windows, 20, 1, {})
    for row, first in enumerate(windows.starts.tolist()):
        torch.testing.assert_close(part.mel[row], whole.mel[row, :, first : first + 20])
        torch.testing.assert_close(part.wav[row], whole.wav[row, 160 * first : 160 * (first + 19)])


def test_lips_are_augmented_when_a_vocoder_is_trained(shards: str, lip2speech: str, tmp_path: Path) -> None:
    """The speaker references that are drawn are the same."""
    none = ["--transforms.max_shift=0", "--transforms.flip_probability=0", "--transforms.erase_size=0"]
    mels = []
    for more in ([], [*none, "--transforms.mask_probability=0"]):
        task, batch, lengths = _task_and_batch([*_flags(shards, tmp_path / "run", lip2speech), *more])
        arguments = batch, whole_windows(lengths), int(lengths.max())
        mels += [task.segments(*arguments, seed, {}).mel for seed in (1, 1, None)]
    augmented, again, evaluated, bare, _, also_evaluated = mels
    assert torch.equal(augmented, again)
    assert not torch.equal(augmented, bare)
    assert torch.equal(evaluated, also_evaluated)


def test_generated_vocoder_leaves_the_network_as_it_is(shards: str, lip2speech: str, tmp_path: Path) -> None:
    trainer = trainer_of(_flags(shards, tmp_path / "run", lip2speech, steps=2))
    assert trainer.train()
    assert trainer.task.lip2speech is not None
    weights = load_checkpoint(lip2speech).weights
    assert all(torch.equal(x, weights[name]) for name, x in trainer.task.lip2speech.state_dict().items())


def test_resume_keeps_the_network_whose_mels_the_vocoder_began_with(
    shards: str, lip2speech: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.pt"
    copy.write_bytes(Path(lip2speech).read_bytes())

    def run(*more: str, init_lip2speech: str = str(copy), steps: int) -> int:
        return main([*_flags(shards, tmp_path / "run", init_lip2speech, steps=steps, every=1), *more])

    assert run(steps=1) == 0
    copy.unlink()
    assert run("--resume=auto", steps=2) == 0
    assert str(tmp_path / "run/lip2speech.pt") in capsys.readouterr().err
    assert run("--resume=auto", init_lip2speech="null", steps=3) == 2
    assert "another lip2speech" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"init_lip2speech": "nothing.pt"}, "nothing.pt"),
        ({"transforms.size": 48}, "trained with transforms.size 32"),
        ({"task": "asr", "checkpoint.best": "ctc"}, "init_lip2speech: the task asr"),
        ({"segments.window_frames": 10}, "segments.window_frames: 10: ESTOI is of runs of 11 frames"),
    ],
)
def test_generated_vocoder_refuses_what_does_not_fit(
    shards: str,
    lip2speech: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: dict[str, Any],
    named: str,
) -> None:
    command = [*_flags(shards, tmp_path / "run", lip2speech), *(f"--{name}={value}" for name, value in more.items())]
    assert main(command) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_generated_vocoder_refuses_a_network_of_another_task(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(task_flags("vsr", shards, tmp_path / "vsr", steps=1, every=1)) == 0
    assert main(_flags(shards, tmp_path / "run", str(tmp_path / "vsr/best.pt"))) == 2
    assert "a network of the task vsr" in capsys.readouterr().err


@pytest.mark.slow
def test_generated_vocoder_trains_on_two_ranks_with_references_of_others(
    shards: str, lip2speech: str, tmp_path: Path
) -> None:
    more = ["--micro_batches_per_step=2", "--segments.speaker_reference=other", "--network.padding=published"]
    finish(start([*_flags(shards, tmp_path / "run", lip2speech, steps=3, every=3), *more], ranks=2))
    assert sorted(logged(tmp_path / "run")) == [1, 2, 3]


def test_vocoder_takes_windows_of_as_many_frames_as_estoi_needs(shards: str, tmp_path: Path) -> None:
    arguments = task_flags("vocoder", shards, tmp_path / "run", steps=3, **{"segments.window_frames": 11})
    assert main([*arguments, "--losses.estoi=4"]) == 0
    assert any(line["estoi"] > 0 for line in logged(tmp_path / "run").values())
