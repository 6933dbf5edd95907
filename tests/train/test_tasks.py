"""The tasks: each learns, reads only what it needs, and treats padding as the settings say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import yaml
from torch import Tensor, nn

from model.asr import ASRModel, ASRSettings
from model.checkpoint import load_checkpoint
from model.conformer import ConformerSettings, RelativeAttention
from model.losses import freeze
from model.mel import log_mel
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, SAMPLES_PER_FRAME
from shards.loading.collate import SILENCE, Batch
from shards.loading.loader import load
from shards.loading.member_reader import MemberReader
from shards.loading.planned_batches import MicroBatch, PlannedClip
from tests.model.networks import lively
from tests.train.runs import (
    finish,
    logged,
    run_killed_at,
    start,
    task_flags,
    trainer_of,
    weights_of,
)
from tests.train.steady import keep_batch_norm_steady
from train.__main__ import main, parse
from train.settings import TaskName
from train.tasks.inputs import target_mels
from train.tasks.lip2speech import Lip2SpeechTask
from train.trainer import Trainer
from train.validation_metrics import ValidationMetrics

ALL = list(get_args(TaskName))
NEW = ["vsr", "asr", "vocoder"]


@pytest.mark.parametrize("task", ALL)
def test_task_overfits_a_few_clips_and_keeps_the_best_checkpoint(shards: str, tmp_path: Path, task: str) -> None:
    """Noise that is trained on and validated on; CTC begins at about 20, the likelihood of silence is at about 8. A
    vocoder has learned most of a noise when it begins: its level and color."""
    learn = ["--splits=[val]", "--micro_batches_per_step=1", "--optimizer.learning_rate=0.01"]
    best = {"vsr": "ctc", "asr": "wer", "lip2speech": "l1", "vocoder": "stft"}[task]
    settings = {"steps": 40, "every": 40, "validation.every": 8, "checkpoint.best": best}
    assert main([*task_flags(task, shards, tmp_path / "run", **settings), *learn]) == 0
    steps = logged(tmp_path / "run")
    learned, share = ("stft", 0.9) if task == "vocoder" else ("ctc", 0.3)
    assert sum(steps[n][learned] for n in range(36, 41)) / 5 < share * steps[1][learned]
    parts = {
        "vocoder": {"stft", "bands", "l1"},
        "lip2speech": {"ctc", "ctc_skipped", "l1"},
    }.get(task, {"ctc", "ctc_skipped"})
    assert all(parts <= set(line) for line in steps.values())
    measured = {step: line[best] for step, line in logged(tmp_path / "run", "validation").items()}
    kept = load_checkpoint(tmp_path / "run/best.pt")
    assert kept.kind == task
    assert kept.metrics[f"validation_{best}"] == min(measured.values())
    assert kept.step == min(measured, key=lambda step: (measured[step], step)), "the first of those that are as good"
    assert len(set(measured.values())) > 1
    assert (kept.training is None, kept.tokenizer is not None) == (True, task != "vocoder")


@pytest.mark.slow
@pytest.mark.parametrize("task", NEW)
def test_resume_after_a_kill_equals_an_uninterrupted_run(shards: str, tmp_path: Path, task: str) -> None:
    settings = {"steps": 12, "every": 5, "validation.every": 3, "workers": 1, "ema": 0.9}
    finish(start(task_flags(task, shards, tmp_path / "straight", **settings)))
    broken = task_flags(task, shards, tmp_path / "broken", **settings)
    run_killed_at("8", tmp_path / "marker", broken)
    assert "step-00000005.pt" in finish(start([*broken, "--resume=auto"]))
    ours, theirs = weights_of(tmp_path / "broken", 12), weights_of(tmp_path / "straight", 12)
    assert ours.keys() == theirs.keys()
    assert [name for name, x in theirs.items() if not torch.equal(ours[name], x)] == []
    for kind in ("train", "validation", "epoch"):
        assert logged(tmp_path / "broken", kind) == logged(tmp_path / "straight", kind) != {}
    left, right = (load_checkpoint(tmp_path / name / "best.pt") for name in ("broken", "straight"))
    assert (left.step, left.metrics) == (right.step, right.metrics)
    assert [name for name, x in left.weights.items() if not torch.equal(right.weights[name], x)] == []


@pytest.mark.slow
@pytest.mark.parametrize("task", NEW)
def test_gradient_of_a_global_batch_is_the_same_on_one_rank_and_on_two(shards: str, tmp_path: Path, task: str) -> None:
    """With batch norm in evaluation mode. After one step of AdamW its first moments are the gradient, scaled."""
    moments = []
    for ranks in (1, 2):
        out = tmp_path / f"ranks{ranks}"
        arguments = task_flags(task, shards, out, steps=1, every=1, micro_batches_per_step=4)
        finish(start([*arguments, "--validation.split=null"], ranks, keep_batch_norm_steady))
        state = torch.load(out / "checkpoints/step-00000001.pt")["training"]["optimizer"]["state"]
        moments.append(torch.cat([state[number]["exp_avg"].flatten() for number in sorted(state)]))
    assert moments[0].norm() > 0
    assert (moments[0] - moments[1]).norm() < 1e-5 * moments[0].norm()  # sums of float32 in another order


@pytest.mark.parametrize(("task", "unread"), [("vsr", ("mel", "wav")), ("asr", ("roi",)), ("vocoder", ("roi", "mel"))])
def test_task_reads_only_the_members_that_it_uses(
    shards: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task: str,
    unread: tuple[str, ...],
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("was read")

    for member in unread:
        monkeypatch.setattr(MemberReader, member, refuse)
    assert main(task_flags(task, shards, tmp_path / "run", steps=2, every=2)) == 0
    assert logged(tmp_path / "run", "validation")
    assert main(task_flags("lip2speech", shards, tmp_path / "other", steps=2, every=2)) == 1
    assert "AssertionError: was read" in capsys.readouterr().err


def test_spec_augment_masks_in_training_and_not_in_validation(shards: str, tmp_path: Path) -> None:
    trainer = _lively(trainer_of(task_flags("asr", shards, tmp_path / "run")))
    bare = _lively(
        trainer_of([*task_flags("asr", shards, tmp_path / "run"), "--spec_augment={time_masks: 0, bands: 0}"])
    )
    batch = _batch(trainer)
    first, again, other = (_learned(trainer, batch, seed).loss for seed in (1, 1, 2))
    assert torch.equal(first, again), "drawn from the seed"
    assert not torch.equal(first, other)
    assert torch.equal(_learned(bare, batch, 1).loss, _learned(bare, batch, 2).loss)
    assert _scored(trainer, batch) == _scored(bare, batch)


@dataclasses.dataclass(frozen=True)
class _Learned:
    """What a batch does to a network: its loss, its gradient and the batch-norm statistics after it."""

    loss: Tensor
    gradient: Tensor
    statistics: Tensor


def _lively(trainer: Trainer) -> Trainer:
    """Weights that are no longer those of a new network, many of which have no effect yet."""
    lively(trainer.model.network)
    return trainer


def _learned(trainer: Trainer, batch: Batch, seed: int = 1) -> _Learned:
    """Without dropout, which is drawn for padding too and so depends on how much of it there is."""
    network = trainer.model.network
    before = {name: x.clone() for name, x in network.state_dict().items()}
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout | RelativeAttention):
            module.eval()
    network.zero_grad(set_to_none=True)
    loss = trainer.task.loss(network, batch, seed, trainer.state).total
    loss.backward()
    gradient = torch.cat([x.grad.flatten() for x in network.parameters() if x.grad is not None])
    statistics = torch.cat([torch.zeros(0), *(x.flatten() for name, x in network.named_buffers() if "running" in name)])
    learned = _Learned(loss.detach(), gradient.clone(), statistics.clone())
    network.load_state_dict(before)
    return learned


def _scored(trainer: Trainer, batch: Batch) -> dict[str, list[float]]:
    metrics = ValidationMetrics(None, frozenset())
    with torch.no_grad():
        trainer.task.validate(trainer.model.network.eval(), batch, {}, metrics)
    return metrics.sums


def _batch(trainer: Trainer) -> Batch:
    """A long clip used whole, one of which a segment is used, and a short one used whole."""
    index = trainer.dataset.index.to_pylist()
    rows = [row for row in sorted(range(len(index)), key=lambda row: -index[row]["frames"]) if index[row]["text"]]
    long, part, short = rows[0], rows[1], rows[-4]
    frames = index[long]["frames"]
    assert 10 <= index[short]["frames"] < frames - 10
    clips = tuple(
        PlannedClip(row, 0, stop, index[row]["text"], stop == index[row]["frames"])
        for row, stop in ((long, frames), (part, 17), (short, index[short]["frames"]))
    )
    loader = trainer.settings.loader(trainer.task.contents)
    (batch,) = load(trainer.dataset, [MicroBatch(0, frames, clips)], loader)
    assert batch is not None
    return batch


def _filled(batch: Batch) -> Batch:
    """The batch with garbage in its padding."""
    random = torch.Generator().manual_seed(0)
    roi, mel, wav = (x.clone() for x in (batch.roi, batch.mel, batch.wav))
    for row, frames in enumerate(batch.lengths.tolist()):
        roi[row, frames:] = torch.randint(0, 256, roi[row, frames:].shape, generator=random, dtype=torch.uint8)
        if row not in batch.wav_rows.tolist():
            mel[row, :, MEL_FRAMES_PER_VIDEO_FRAME * frames :].normal_(3, 5, generator=random)
    for place, row in enumerate(batch.wav_rows.tolist()):
        wav[place, SAMPLES_PER_FRAME * int(batch.lengths[row]) :].normal_(0, 1, generator=random)
    return dataclasses.replace(batch, roi=roi, mel=mel, wav=wav)


def _longer(batch: Batch, frames: int) -> Batch:
    """The batch as the loader would pad it for a longest clip of so many frames more."""
    clips, _, side, _ = batch.roi.shape
    roi, mel, wav = batch.roi, batch.mel, batch.wav
    if roi.numel():
        roi = torch.cat([roi, roi.new_zeros(clips, frames, side, side)], dim=1)
    if mel.numel():
        mel = torch.cat([mel, mel.new_full((*mel.shape[:2], MEL_FRAMES_PER_VIDEO_FRAME * frames), SILENCE)], dim=2)
        wav = torch.cat([wav, wav.new_zeros(len(wav), SAMPLES_PER_FRAME * frames)], dim=1)
    return dataclasses.replace(batch, roi=roi, mel=mel, wav=wav)


def _trainer(task: str, padding: str, shards: str, out: Path) -> Trainer:
    """With the output content loss on, for `lip2speech`."""
    paddings = [f"--network.padding={padding}", f"--asr.padding={padding}"]
    trainer = _lively(trainer_of([*task_flags(task, shards, out), *paddings]))
    if isinstance(trainer.task, Lip2SpeechTask):
        sizes = ASRSettings((2, 3), ConformerSettings(1, 16, 2, kernel=5), 31, 80, padding)  # type: ignore[arg-type]
        trainer.task.asr = lively(ASRModel(sizes))
        freeze(trainer.task.asr)
        trainer.state.content_on = True
    return trainer


def test_lip2speech_adds_the_weighted_estoi_loss_and_logs_it(shards: str, tmp_path: Path) -> None:
    arguments = task_flags("lip2speech", shards, tmp_path / "run", steps=2, every=2)
    windows = "--segments.window_frames=15"
    without, with_it = (trainer_of([*arguments, windows, f"--losses.estoi={weight}"]) for weight in (0, 40))
    batch = _batch(without)
    with_it.model.network.load_state_dict(without.model.network.state_dict())
    losses = [each.task.loss(each.model.network.eval(), batch, 1, each.state) for each in (without, with_it)]
    estoi = losses[1].parts["estoi"]
    assert "estoi" not in losses[0].parts
    assert 0.5 < float(estoi) < 1.5
    assert float((losses[1].total - losses[0].total).detach()) == pytest.approx(40 * float(estoi), rel=1e-3)
    assert main([*arguments, windows, "--losses.estoi=40"]) == 0
    assert all("estoi" in line for line in logged(tmp_path / "run").values())


def test_estoi_loss_of_windows_shorter_than_its_runs_is_refused(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = task_flags("lip2speech", shards, tmp_path / "run")
    assert main([*arguments, "--losses.estoi=40", "--segments.window_frames=9"]) == 2
    assert "losses.estoi: 40.0" in (message := capsys.readouterr().err)
    assert "segments.window_frames: 9" in message


@pytest.mark.parametrize("task", ALL)
def test_masked_padding_does_not_matter_in_content_or_length(shards: str, tmp_path: Path, task: str) -> None:
    """More padding: as float32 adds up in another order."""
    trainer = _trainer(task, "masked", shards, tmp_path / "run")
    batch = _batch(trainer)
    learned, filled, longer = (_learned(trainer, each) for each in (batch, _filled(batch), _filled(_longer(batch, 12))))
    assert learned.gradient.norm() > 0
    for name, value in vars(learned).items():
        assert torch.equal(getattr(filled, name), value)
        assert (getattr(longer, name) - value).norm() <= 1e-5 * value.norm()


@pytest.mark.parametrize("task", ["vsr", "asr", "lip2speech"])
def test_published_padding_changes_gradient_and_statistics(shards: str, tmp_path: Path, task: str) -> None:
    trainer = _trainer(task, "published", shards, tmp_path / "run")
    batch = _batch(trainer)
    learned, longer = _learned(trainer, batch), _learned(trainer, _longer(batch, 12))
    for name, value in vars(learned).items():
        assert (getattr(longer, name) - value).norm() > 1e-3 * value.norm()


def test_published_padding_of_a_mel_changes_the_loss(shards: str, tmp_path: Path) -> None:
    """What shows that the garbage of these tests could be noticed. Pictures are set to zero beyond a clip before any
    network sees them, as published; a mel comes from the loader as it is."""
    trainer = _trainer("asr", "published", shards, tmp_path / "run")
    batch = _batch(trainer)
    learned, filled = _learned(trainer, batch), _learned(trainer, _filled(batch))
    assert (learned.loss - filled.loss).abs() > 0.01 * learned.loss


def test_target_mels_are_silent_beyond_the_clip(shards: str, tmp_path: Path) -> None:
    """Published, networks hear what stands there."""
    trainer = trainer_of(task_flags("asr", shards, tmp_path / "run"))
    batch = _batch(trainer)
    assert batch.wav_rows.tolist() == [1]
    garbage = dataclasses.replace(batch, wav=_filled(batch).wav)
    found = target_mels(garbage, garbage.lengths[garbage.wav_rows])
    for row, frames in enumerate(batch.lengths.tolist()):
        assert (found[row, :, MEL_FRAMES_PER_VIDEO_FRAME * frames :] == SILENCE).all()
    for row in (0, 2):
        assert torch.equal(found[row], batch.mel[row])
    frames = int(batch.lengths[1])
    alone = log_mel(batch.wav[0, : SAMPLES_PER_FRAME * frames])[..., : MEL_FRAMES_PER_VIDEO_FRAME * frames]
    torch.testing.assert_close(found[1, :, : MEL_FRAMES_PER_VIDEO_FRAME * frames], alone, rtol=0, atol=1e-4)


CONFIG = {
    "train": {
        "micro_batches_per_step": 3,
        "schedule": {"steps": 60, "warmup_steps": 10},
        "tasks": {
            "vsr": {"schedule": {"steps": 70}, "curriculum": [{"epochs": 1, "max_words": 2, "max_frames": 250}]},
            "asr": {"micro_batches_per_step": 5, "spec_augment": {"bands": 7}},
        },
    }
}


def _written(path: Path, **changed: Any) -> str:
    path.write_text(yaml.safe_dump({"train": CONFIG["train"] | changed}))
    return str(path)


def test_config_of_a_task_overrides_the_rest_key_by_key(tmp_path: Path) -> None:
    file = _written(tmp_path / "x.yaml")
    found = {task: parse([f"--config={file}", f"--task={task}"])[0] for task in ALL}
    assert {task: settings.task for task, settings in found.items()} == {task: task for task in ALL}
    assert [found[task].schedule.steps for task in ALL] == [70, 60, 60, 60]
    assert [found[task].schedule.warmup_steps for task in ALL] == [10, 10, 10, 10], "beside what is laid over"
    assert [found[task].micro_batches_per_step for task in ALL] == [3, 5, 3, 3]
    assert [len(found[task].curriculum) for task in ALL] == [1, 0, 0, 0]
    assert found["asr"].spec_augment.bands == 7
    assert parse(["--config", file])[0] == found["lip2speech"], "without a word about it"


def test_flags_may_be_written_with_dashes(tmp_path: Path) -> None:
    given = ["--micro-batches-per-step=7", "--init-vsr", "x-y.pt", f"--config={_written(tmp_path / 'my-file.yaml')}"]
    settings, _, _ = parse([*given, "--schedule.warmup-steps=3"])
    assert (settings.micro_batches_per_step, settings.init_vsr, settings.schedule.warmup_steps) == (7, "x-y.pt", 3)


def test_config_may_name_the_task(tmp_path: Path) -> None:
    file = _written(tmp_path / "x.yaml", task="asr")
    assert (parse(["--config", file])[0].task, parse(["--config", file])[0].micro_batches_per_step) == ("asr", 5)
    chosen = parse(["--config", file, "--task", "vsr"])[0]
    assert (chosen.task, chosen.micro_batches_per_step, chosen.schedule.steps) == ("vsr", 3, 70)


def test_flags_override_the_config_of_a_task(tmp_path: Path) -> None:
    file = _written(tmp_path / "x.yaml")
    chosen = parse(["--config", file, "--task=asr", "--micro_batches_per_step=9", "--schedule.steps", "8"])[0]
    assert (chosen.micro_batches_per_step, chosen.schedule.steps, chosen.schedule.warmup_steps) == (9, 8, 10)


def test_task_flag_overrides_the_config_wherever_it_stands(tmp_path: Path) -> None:
    file = _written(tmp_path / "x.yaml", task="asr")
    chosen = parse(["--task", "vsr", "--config", file])[0]
    assert (chosen.task, chosen.schedule.steps) == ("vsr", 70)


def test_config_of_an_unknown_task_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = _written(tmp_path / "x.yaml", tasks={"lips": {}})
    assert main(["--config", file]) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in (file, "train.tasks", "lips", "vsr, asr, lip2speech"))
    for wrong in (["--config", _written(tmp_path / "y.yaml", task="lips")], ["--task=lips"]):
        with pytest.raises(SystemExit):
            parse(wrong)
        assert "lips" in capsys.readouterr().err


def test_config_with_unknown_settings_of_a_task_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = _written(tmp_path / "x.yaml", tasks={"asr": {"spec_augment": {"colour": 3}}})
    with pytest.raises(SystemExit):
        parse(["--config", file, "--task=asr"])
    assert "colour" in capsys.readouterr().err


@pytest.mark.parametrize("tasks", [["vsr"], {"asr": 3}, 3])
def test_config_with_tasks_of_another_form_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tasks: Any
) -> None:
    file = _written(tmp_path / "x.yaml", tasks=tasks)
    try:
        status = main(["--config", file, "--task=asr"])
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2
    assert "tasks" in capsys.readouterr().err
