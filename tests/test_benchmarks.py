"""Benchmarks measure what they say. Not how fast: that depends on the machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.clip import Corpus, build_sample
from pipeline.config import BuildSettings
from pipeline.corpora import index_corpus
from shards import Sample
from shards.format.manifest import ERRORS_NAME
from tests.benchmarks import large_index, vocoder
from tests.benchmarks.busy_machine import small_step
from tests.benchmarks.gpu import __main__ as gpu
from tests.benchmarks.gpu import train_shards
from tests.benchmarks.gpu.steps import rows
from tests.benchmarks.gpu.synthetic_run import SMALL as SMALL_RUN
from tests.benchmarks.gpu.synthetic_run import build_run, varying_lengths
from tests.benchmarks.gpu.table import HEADER
from tests.benchmarks.plain_baseline import plain_network
from tests.benchmarks.training_vs_plain import cut_to, from_shards, padding_of, plainly, table, trainer_on
from tests.corpora import Lrs2Corpus
from tests.model.networks import small_lip_to_speech, small_vocoder, without_dropout
from tests.train.runs import SMALL as SMALL_TRAINING
from tests.train.runs import SMALL_ASR, write_small_dataset
from train.tasks.ctc import encode_texts
from train.tasks.inputs import prepare

SMALL = [
    "--network.visual={channels: 2, dropout: 0.1, conformer: {layers: 1, width: 16, heads: 2, kernel: 5}}",
    "--network.speaker={channels: [8], width: 8}",
    "--network.decoder={width: 16, channels: [8]}",
    "--transforms.size=32",
    "--batch.max_padded_frames=90",
    "--workers=0",
]
NOTHING_DRAWN = [
    f"--transforms.{name}=0" for name in ("max_shift", "flip_probability", "erase_size", "mask_probability")
]


@pytest.fixture(scope="module")
def samples(small_corpus: Lrs2Corpus) -> list[Sample]:
    settings = BuildSettings(dataset="lrs2", root=str(small_corpus.root))
    corpus = Corpus.of(settings)
    return [build_sample(clip, settings, corpus) for clip in index_corpus(settings).clips]


def test_vocoder_measures_griffin_lim_and_the_neural_one(samples: list[Sample]) -> None:
    header, rule, *rows = vocoder.measure([sample for sample in samples if len(sample.wav) > 8000][:2], small_vocoder())
    assert [row.split("|")[1].strip() for row in rows] == ["Griffin-Lim", "neural"]
    assert {row.count("|") for row in (header, rule, *rows)} == {7}


def test_busy_machine_takes_steps_of_the_demo_s_sizes() -> None:
    step, batch = small_step()
    step(batch)


def test_training_vs_plain_measures_both_ways(small_settings: BuildSettings, samples: list[Sample]) -> None:
    header, rule, *rows = table(small_settings, samples[:4], 1, [*SMALL, "--workers=1"])
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    ways = ("shards", "plain", "shards / plain")
    assert [row[0] for row in cells] == [f"{cut}: {way}" for cut in ("as they are", "cut") for way in ways]
    assert {row.count("|") for row in (header, rule, *rows)} == {10}
    rates = [float(cell.replace(",", "")) for row in cells for cell in row[2:] if cell]
    assert len(rates) == 2 * 3 * 7
    assert min(rates) > 0


def test_training_vs_plain_reads_every_clip_once_in_as_many_batches_either_way(
    small_settings: BuildSettings, samples: list[Sample], tmp_path: Path
) -> None:
    cut = [cut_to(sample, share) for sample, share in zip(samples, np.linspace(0.2, 1, len(samples)), strict=True)]
    trainer = trainer_on(cut, str(tmp_path), SMALL)
    ours, plain = from_shards(trainer), plainly(small_settings, cut, trainer, str(tmp_path))
    read = [list(way.read(way.plan(1))) for way in (ours, plain)]
    lengths = [sorted(torch.cat([batch.lengths for batch in batches]).tolist()) for batches in read]
    assert lengths[0] == lengths[1] == sorted(len(sample.roi) for sample in cut)
    assert len(read[0]) == len(read[1]) > 1
    assert padding_of(read[0]) < padding_of(read[1])


def test_training_vs_plain_trains_both_ways_on_the_same_inputs(
    small_settings: BuildSettings, samples: list[Sample], tmp_path: Path
) -> None:
    sample = cut_to(samples[0], 0.8)
    trainer = trainer_on([sample], str(tmp_path), [*SMALL, *NOTHING_DRAWN])
    ours, plain = from_shards(trainer), plainly(small_settings, [sample], trainer, str(tmp_path))
    (batch,), (example,) = (list(way.read(way.plan(1))) for way in (ours, plain))
    inputs = prepare(batch, trainer.settings, torch.device("cpu"), 0)
    # shards are grey before they are resized: 2 grey levels at most
    difference = (inputs.video[:, 0] - example.video).abs() * 255 * trainer.settings.transforms.std
    assert difference.max() <= 2.5
    assert difference.mean() < 0.5
    assert example.video.std() > 0.1
    size = inputs.target.shape[2]
    assert size == 4 * len(sample.roi)
    assert torch.allclose(inputs.target, example.target[:, :, :size], atol=1e-4)  # float32, read from 16 bits
    assert torch.equal(inputs.windows.sizes, example.window[:, 1])
    assert trainer.task.tokenizer is not None
    pieces, piece_lengths = encode_texts(batch.texts, trainer.task.tokenizer)
    assert torch.equal(pieces, example.pieces)
    assert torch.equal(piece_lengths, example.piece_lengths)


def test_gpu_benchmark_takes_whole_steps_and_says_what_failed(tmp_path: Path) -> None:
    run = build_run(torch.device("cpu"), [*SMALL_RUN, "--precision=float32"], vocabulary=50)
    lines = list(rows(run, ["host", "neither"], "eager", small=True, out=tmp_path))
    assert lines[0].startswith("| eager, 2 clips of 8 frames | ")
    assert lines[1].startswith("eager, neither: ValueError")
    assert run.state.step == 4  # one more, whose operations are counted


@pytest.mark.slow
def test_gpu_benchmark_runs_all_parts_that_a_cpu_can_and_says_what_it_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu.main(["--device=cpu", "--minutes=60", f"--out={tmp_path}"])
    notes, table = capsys.readouterr().out.split(HEADER)
    ran, skipped = ["steps", "plain", "end_to_end", "agreement"], ["inside", "float32", "compiled", "graphs"]
    assert re.findall(r"== (\w+): \d+ s, exit status 0\n", notes) == ran
    assert sorted(re.findall(r"== (\w+): skipped on cpu\n", notes)) == sorted(skipped)
    first, *others = table.splitlines()[2:]
    rate, share = (float(cell.strip(" %")) for cell in first.split("|")[4:6])
    assert min(rate, share) > 0
    begin = ("| plain, 3 clips", "| lip2speech from shards", "| evaluation from shards")
    assert all(any(line.startswith(row) for line in others) for row in begin)


@pytest.mark.slow
def test_gpu_benchmark_trains_shards_for_so_many_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = write_small_dataset(tmp_path / "shards")
    (tmp_path / "shards" / ERRORS_NAME).touch()
    flags = [f"--shards={shards}", f"--out={tmp_path / 'out'}", "--split=val", "--clips=2", "--device=cpu"]
    small = [flag for flag in SMALL_TRAINING if not flag.startswith(("--device", "--checkpoint", "--validation"))]
    small += ["--network.intermediate_ctc=[]"]
    train_shards.main([*flags, "--seconds=10", *small, SMALL_ASR, "--precision=float32", "--checkpoint.log_every=1"])
    said = capsys.readouterr().out
    assert all(f"| {task} from shards, the recipe | " in said for task in ("vsr", "asr", "lip2speech"))
    assert re.search(r"^network: l1 \S+, stoi \S+, estoi \S+,", said, re.M)
    gpu.main(["plain", "--device=cpu", "--minutes=0.1", f"--out={tmp_path}", f"--train={shards}"])
    assert re.search(r"== train: skipped, \d+ s are left and 120 are the least\n", capsys.readouterr().out)


def test_gpu_benchmark_stops_a_part_at_its_limit_and_begins_none_without_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.run("short", 0.2, "agreement", ["--device=cpu"]) == []
    gpu.main(["plain", "--device=cpu", "--minutes=0.1", f"--out={tmp_path}"])
    said = capsys.readouterr().out
    assert re.search(r"== short: \d+ s, exit status -9, stopped after its 0 s\n", said)
    assert "== plain: skipped, 0.1 minutes are over\n" in said


def test_gpu_benchmark_has_batches_of_a_bounded_size_and_many_shapes() -> None:
    batches = varying_lengths(2400, 30)
    assert len(batches) == 30
    assert all(len(lengths) * max(lengths) <= 2400 for lengths in batches)
    assert len({sum(lengths) for lengths in batches}) > 20


def test_plain_network_computes_what_the_network_does() -> None:
    torch.manual_seed(0)
    ours = without_dropout(small_lip_to_speech("published")).train()
    plain = without_dropout(plain_network(ours.settings)).train()
    plain.load_state_dict(ours.state_dict())
    video, lengths, reference = torch.randn(2, 1, 8, 48, 48), torch.tensor([8, 6]), torch.randn(2, 80, 50)
    for found, expected in zip(plain(video, lengths, reference), ours(video, lengths, reference), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_large_index_benchmark_measures_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(part: Callable[[str, int], str], folder: str, clips: int) -> tuple[float, float, float, str]:
        return 1.0, 1.0, 1.0, part(folder, clips)

    monkeypatch.setattr(large_index, "_alone", here)
    header, rule, *parts = large_index.measure(1000)
    assert {line.count("|") for line in (header, rule, *parts)} == {6}
    assert len(parts) == len(large_index.PARTS)
    assert "1,000 clips in 8 shards" in parts[0]


def test_large_index_benchmark_runs_parts_in_processes_of_their_own(tmp_path: Path) -> None:
    seconds, of_cores, megabytes, note = large_index._alone(large_index.write_sidecars, str(tmp_path), 3)
    assert min(seconds, of_cores, megabytes) > 0
    assert note == "3 clips in 1 shards"
