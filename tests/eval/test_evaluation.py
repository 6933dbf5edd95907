"""From a checkpoint and shards to a folder of figures, all at once or in pieces."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pytest
import soundfile
import torch

from eval.__main__ import main, parse
from eval.batch_record import UnfinishedBatchError, read_batch, record_name, write_batch
from eval.batch_synthesis import SynthesizedBatch
from eval.evaluation import evaluate, plan
from eval.local_executor import free_scorers
from eval.metrics.scoring_process import ScoringProcess
from eval.metrics.speech import estoi, stoi
from eval.result_schema import ResultsError
from eval.results import Evaluation
from model.checkpoint import Checkpoint, save_checkpoint
from model.lip_to_speech import LipToSpeech
from model.tokenizer import train_tokenizer
from model.transforms import TransformSettings
from pipeline.corpora.clips import make_key
from shards import Dataset, DatasetError, Store
from shards.loading.index_view import ClipIndex
from shards.loading.reference_clips import reference_rows
from tests.eval.small import digests, small_checkpoint, small_evaluation, spoken_clip, spoken_dataset
from tests.eval.sounds import sentence
from tests.model.networks import small_asr, small_lip_to_speech
from tests.shards.datasets import HALF, write_dataset

pytest.importorskip("pystoi")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return spoken_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("run") / "best.pt")


def test_clips_have_a_row_a_system_with_their_figures_and_their_sound(
    dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    page = evaluate(small_evaluation(dataset, checkpoint, tmp_path / "x"))
    assert page == tmp_path / "x" / "report.html"
    assert page.stat().st_size > 1000
    evaluation = Evaluation.open(tmp_path / "x")
    rows = evaluation.clips.to_pylist()
    keys = sorted(dataset.index["key"].to_pylist())
    assert [(row["key"], row["system"]) for row in rows] == [
        (key, system) for key in keys for system in ("network", "untrained", "ceiling")
    ]
    assert pacsv.read_csv(tmp_path / "x" / "clips.csv").num_rows == len(rows)
    for row in rows:
        wave, rate = soundfile.read(tmp_path / "x" / row["wav"], dtype="float32")
        original = (dataset.sample(row["key"]).wav / 32768).astype(np.float32)
        assert rate == 16_000
        assert len(wave) == 640 * row["frames"] - 160
        assert row["stoi"] == pytest.approx(stoi(original, wave), abs=1e-6), "scored is what lies in the file"
        assert row["estoi"] == pytest.approx(estoi(original, wave), abs=1e-6)
        assert row["l1"] is None if row["system"] == "ceiling" else row["l1"] > 0
        assert row["seconds"] == row["frames"] / 25
    summary = json.loads((tmp_path / "x" / "summary.json").read_text())
    assert summary["clips"] == 8
    assert [(clip["key"], clip["split"]) for clip in summary["skipped"]] == [("main/b/9", "test")]
    of = [row["estoi"] for row in rows if row["system"] == "ceiling"]
    assert summary["systems"]["ceiling"]["estoi"]["mean"] == pytest.approx(np.mean(of))
    assert summary["systems"]["ceiling"]["estoi"]["mean"] > summary["systems"]["untrained"]["estoi"]["mean"] + 0.3


def test_evaluation_reads_the_lips_with_the_beam_of_the_settings(tmp_path: Path) -> None:
    clips = [spoken_clip(f"main/a/{number}", "test", 40 + number) for number in range(3)]
    dataset = write_dataset(str(tmp_path / "dataset"), {"test-000000.tar": clips})
    (tmp_path / "dataset/errors.jsonl").touch()
    tokenizer = train_tokenizer(["place blue at f two now", "set white by q nine please"], 25)
    torch.manual_seed(3)
    network = LipToSpeech(replace(small_lip_to_speech().settings, vocabulary=tokenizer.vocabulary_size))
    pictures = TransformSettings(crop_radius=HALF, size=32)
    save_checkpoint(
        tmp_path / "x.pt", Checkpoint(network.settings, network.state_dict(), tokenizer, transforms=pictures)
    )
    read = []
    for beam in (1, 8):
        out = tmp_path / f"report-{beam}"
        evaluate(small_evaluation(dataset, tmp_path / "x.pt", out, beam=beam, metrics=[], systems=["network"]))
        read.append([row["lips_hypothesis"] for row in Evaluation.open(out).clips.to_pylist()])
    assert read[0] != read[1]


def test_network_without_a_ctc_head_is_evaluated_on_clips_without_transcripts(tmp_path: Path) -> None:
    clips = [replace(spoken_clip(f"main/a/{number}", "test", 40 + number), text="") for number in range(3)]
    dataset = write_dataset(str(tmp_path / "dataset"), {"test-000000.tar": clips})
    (tmp_path / "dataset/errors.jsonl").touch()
    network = LipToSpeech(replace(small_lip_to_speech().settings, vocabulary=0))
    pictures = TransformSettings(crop_radius=HALF, size=32)
    save_checkpoint(tmp_path / "x.pt", Checkpoint(network.settings, network.state_dict(), transforms=pictures))
    page = evaluate(small_evaluation(dataset, tmp_path / "x.pt", tmp_path / "report"))
    rows = Evaluation.open(tmp_path / "report").clips.to_pylist()
    assert page.exists()
    assert len(rows) == 9
    assert all(0 < row["stoi"] < 1 for row in rows if row["system"] != "original")
    assert not [row for row in rows if row.get("lips_hypothesis")]


def test_speaker_reference_is_never_of_the_clip_itself_but_where_its_speaker_has_no_other(
    dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    evaluate(small_evaluation(dataset, checkpoint, tmp_path / "other", metrics=[]))
    evaluate(small_evaluation(dataset, checkpoint, tmp_path / "self", metrics=[], speaker_reference="self"))
    reference_of = dict(
        zip(
            *(
                Evaluation.open(tmp_path / "other").rows("network")[name].to_pylist()
                for name in ("key", "speaker_reference")
            ),
            strict=True,
        )
    )
    keys = dataset.index["key"].to_pylist()
    others = reference_rows(dataset.index, range(len(keys)))
    assert reference_of == {
        key: "self" if other is None else keys[other] for key, other in zip(keys, others, strict=True)
    }
    assert reference_of["main/alone/0"] == "self"
    assert all(key != reference for key, reference in reference_of.items())
    assert set(Evaluation.open(tmp_path / "self").clips["speaker_reference"].to_pylist()) == {"self"}
    theirs, own = (Evaluation.open(tmp_path / name).figures("network", "l1") for name in ("other", "self"))
    differ = dict(zip(theirs[0], theirs[1] != own[1], strict=True))
    assert differ == {key: key != "main/alone/0" for key in keys}


def test_speaker_reference_may_be_a_file(dataset: Dataset, checkpoint: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "voice.wav", sentence(), 16_000)
    evaluate(
        small_evaluation(dataset, checkpoint, tmp_path / "x", metrics=[], speaker_reference=str(tmp_path / "voice.wav"))
    )
    assert set(Evaluation.open(tmp_path / "x").clips["speaker_reference"].to_pylist()) == {"file"}
    with pytest.raises(ValueError, match="nobody: no such file"):
        evaluate(small_evaluation(dataset, checkpoint, tmp_path / "y", speaker_reference="nobody"))


def test_published_protocol_takes_the_clips_own_reference_and_cuts_clips(
    dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    settings = small_evaluation(dataset, checkpoint, tmp_path / "x", protocol="published")
    assert (settings.speaker_reference, settings.vocoder, settings.max_seconds) == ("self", "published", 10.0)
    with pytest.raises(ValueError, match=r"speaker_reference: file\.wav, and the published protocol has self"):
        replace(settings, speaker_reference="file.wav")
    evaluate(small_evaluation(dataset, checkpoint, tmp_path / "cut", metrics=[], max_seconds=1.8))
    frames = Evaluation.open(tmp_path / "cut").rows("network")["frames"].to_pylist()
    assert sorted(frames) == [40, *[45] * 7]


def test_resume_after_a_stop_leaves_the_same_files(dataset: Dataset, checkpoint: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {"asr": "tests.eval.plugs:listener", "mels": True, "max_padded_frames": 110}
    settings = small_evaluation(dataset, checkpoint, tmp_path / "straight", **more)
    evaluate(settings)
    straight = digests(tmp_path / "straight")
    assert sum(name.startswith("batches/") for name in straight) >= 4
    stopped = tmp_path / "stopped"
    shutil.copytree(tmp_path / "straight", stopped)
    for name in ("clips.parquet", "clips.csv", "summary.json", "report.html", "batches/000001.json"):
        (stopped / name).unlink()
    (stopped / "wav" / "original" / "main" / "b" / "1.wav").unlink()  # of another batch: someone tidied up
    (stopped / "wav" / "network" / "main" / "a" / ".0.wav.1234.part").write_bytes(
        b"crop_radius"
    )  # killed while it wrote
    evaluate(replace(settings, out=str(stopped)))
    assert digests(stopped) == straight


def test_local_executor_leaves_the_same_files_with_any_number_of_scoring_processes(
    dataset: Dataset, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def counted(scorers: Sequence[ScoringProcess]) -> SimpleQueue[ScoringProcess]:
        started.append(len(scorers))
        return free_scorers(scorers)

    monkeypatch.setattr("eval.local_executor.free_scorers", counted)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, workers in (("one", 0), ("a core", None)):
            evaluate(small_evaluation(dataset, checkpoint, tmp_path / name, workers=workers))
    finally:
        torch.set_num_threads(threads)
    assert started == [1, 3]
    assert digests(tmp_path / "a core") == digests(tmp_path / "one")


def test_identity_has_the_beam_and_evaluation_json_has_the_checkpoint(
    dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    settings = small_evaluation(dataset, checkpoint, tmp_path / "x", metrics=[])
    assert replace(settings, beam=8).identity() == settings.identity() | {"beam": 8}
    evaluate(settings)
    about = json.loads((tmp_path / "x" / "evaluation.json").read_text())
    assert about["checkpoint"]["padding"] == "masked"
    assert about["checkpoint"]["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert about["versions"].keys() >= {"torch", "soxr"}
    with pytest.raises(ValueError, match="beam was 1 and is 8"):
        evaluate(replace(settings, beam=8))


def test_evaluation_in_bf16_has_figures_near_those_of_float32_and_says_so(
    dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    tables = []
    for precision in ("float32", "bf16"):
        settings = small_evaluation(dataset, checkpoint, tmp_path / precision, metrics=["lsd"], precision=precision)
        evaluate(settings)
        assert json.loads((tmp_path / precision / "evaluation.json").read_text())["identity"]["precision"] == precision
        table = Evaluation.open(tmp_path / precision).clips.filter(pc.equal(pc.field("system"), "network"))
        tables.append(table.sort_by("key"))
    float32, bf16 = ([table[name].to_numpy() for name in ("l1", "lsd")] for table in tables)
    assert not np.array_equal(float32[0], bf16[0])
    for one, other in zip(float32, bf16, strict=True):
        assert other == pytest.approx(one, rel=0.05)


def test_folder_of_another_evaluation_is_refused_and_the_difference_named(
    dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    settings = small_evaluation(dataset, checkpoint, tmp_path / "x", metrics=[])
    evaluate(settings)
    before = digests(tmp_path / "x")
    with pytest.raises(ValueError, match="vocoder was 'default' and is 'published'"):
        evaluate(replace(settings, vocoder="published"))
    assert digests(tmp_path / "x") == before
    evaluate(settings)
    assert digests(tmp_path / "x") == before, "the same once more"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(ValueError, match="is not empty and holds no evaluation"):
        evaluate(replace(settings, out=str(tmp_path / "mine")))


def test_metric_that_fails_on_a_clip_costs_that_figure_only(dataset: Dataset, checkpoint: Path, tmp_path: Path) -> None:
    names = ["stoi", "tests.eval.plugs:choosy", "tests.eval.plugs:faulty"]
    evaluate(small_evaluation(dataset, checkpoint, tmp_path / "x", metrics=names))
    evaluation = Evaluation.open(tmp_path / "x")
    short = [
        key
        for key, frames in zip(*(dataset.index[name].to_pylist() for name in ("key", "frames")), strict=True)
        if frames <= 50
    ]
    assert short
    assert len(evaluation.figures("network", "stoi")[0]) == 8
    for name, reason in (("choosy", "too short for this one"), ("faulty", "ZeroDivisionError: ")):
        metric = f"tests.eval.plugs:{name}"
        failed = evaluation.failures("network")[metric]
        assert set(failed) == set(short)
        assert all(text.startswith(reason) for text in failed.values())
        assert len(evaluation.figures("network", metric)[0]) == 8 - len(failed)
    summary = json.loads((tmp_path / "x" / "summary.json").read_text())
    assert summary["systems"]["network"]["tests.eval.plugs:choosy"]["failed"] == len(short)
    assert summary["failures"]["network"]["tests.eval.plugs:choosy"] == {"too short for this one": len(short)}


def test_metric_that_kills_its_process_or_never_ends_costs_that_figure_only(
    dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    deadly, endless = "tests.eval.plugs:deadly", "tests.eval.plugs:endless"
    more: dict[str, Any] = {"metrics": [deadly, "tests.eval.plugs:level", endless], "metric_timeout": 1.0}
    evaluate(small_evaluation(dataset, checkpoint, tmp_path / "x", **more, systems=["network"], clips=2))
    found = Evaluation.open(tmp_path / "x")
    short = sorted(row["key"] for row in found.rows("network").to_pylist() if row["frames"] <= 50)
    assert short
    failures = found.failures("network")
    assert failures == {
        deadly: dict.fromkeys(short, "the process that measured it died: SIGKILL"),
        endless: dict.fromkeys(short, "timed out after 1 s"),
    }
    assert len(found.figures("network", "tests.eval.plugs:level")[0]) == 2
    summary = json.loads((tmp_path / "x" / "summary.json").read_text())
    assert summary["failures"]["network"][endless] == {"timed out after 1 s": len(short)}


def test_asr_recognizes_every_system_and_the_recording_itself(
    dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    metrics = ["tests.eval.plugs:level"]
    evaluate(small_evaluation(dataset, checkpoint, tmp_path / "x", metrics=metrics, asr="tests.eval.plugs:listener"))
    evaluation = Evaluation.open(tmp_path / "x")
    assert evaluation.systems == ["network", "untrained", "ceiling", "original"]
    for row in evaluation.clips.to_pylist():
        words = round(row["seconds"] - (0 if row["system"] == "original" else 0.01))
        assert row["hypothesis"] == " ".join(["now"] * words)
        assert (row["word_errors"], row["words"]) == (abs(words - 2), 2)
        assert row["tests.eval.plugs:level"] > 0, "what looks at one waveform alone looks at the recording too"
    errors = sum(row["word_errors"] for row in evaluation.rows("network").to_pylist())
    summary = json.loads((tmp_path / "x" / "summary.json").read_text())
    assert summary["systems"]["network"]["wer"]["mean"] == pytest.approx(errors / 16)


def test_asr_that_fails_on_a_clip_costs_that_hypothesis_only(
    dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    plugs: dict[str, Any] = {"metrics": [], "asr": "tests.eval.plugs:stumbler"}
    evaluate(small_evaluation(dataset, checkpoint, tmp_path / "x", **plugs))
    for row in Evaluation.open(tmp_path / "x").clips.to_pylist():
        short = 640 * row["frames"] - (0 if row["system"] == "original" else 160) <= 32_000
        assert (row["hypothesis"] is None) == short
        reason = "RuntimeError: too short to recognize"
        assert json.loads(row["failed"]) == ({"wer": reason, "cer": reason} if short else {})


def test_hypothesis_that_is_too_long_is_not_kept(dataset: Dataset, checkpoint: Path, tmp_path: Path) -> None:
    plugs: dict[str, Any] = {"metrics": [], "asr": "tests.eval.plugs:talker", "systems": ["network"], "clips": 2}
    evaluate(small_evaluation(dataset, checkpoint, tmp_path / "x", **plugs))
    for row in Evaluation.open(tmp_path / "x").clips.to_pylist():
        assert (row["hypothesis"], row["word_errors"]) == (None, None)
        assert json.loads(row["failed"])["wer"] == "the hypothesis has 8,000,000 characters: more than 100,000 bytes"


def test_text_of_a_clip_is_cut_where_the_clip_is(checkpoint: Path, tmp_path: Path) -> None:
    timed = spoken_clip("main/a/0", "test", 60)
    words = [("now", 0.2, 0.6), ("or", 0.9, 1.4), ("never", 1.5, 2.2)]
    timed = replace(timed, text="now or never", meta=replace(timed.meta, words=words))
    clips = [timed, spoken_clip("main/a/1", "test", 61), spoken_clip("main/a/2", "test", 20)]
    (tmp_path / "errors.jsonl").touch()
    dataset = write_dataset(str(tmp_path), {"test-000000.tar": clips})
    plugs: dict[str, Any] = {"metrics": [], "asr": "tests.eval.plugs:listener", "max_seconds": 1.5}
    evaluate(small_evaluation(dataset, checkpoint, tmp_path / "x", **plugs))
    rows = Evaluation.open(tmp_path / "x").rows("ceiling").to_pylist()
    assert [(row["frames"], row["text"], row["words"]) for row in rows] == [
        (38, "now or", 2),
        (38, None, None),  # without word times it is not known
        (20, "now now", 2),
    ]


def test_clips_too_short_for_a_reference_and_a_long_one_are_synthesized_alike_in_any_batch(
    checkpoint: Path, tmp_path: Path
) -> None:
    clips = [spoken_clip("main/a/0", "test", 7), spoken_clip("main/a/1", "test", 9), spoken_clip("main/b/0", "test", 8)]
    clips += [spoken_clip("main/c/0", "test", 150), spoken_clip("main/c/1", "train", 400)]
    (tmp_path / "errors.jsonl").touch()
    named = {f"{split}-000000.tar": [clip for clip in clips if clip.meta.split == split] for split in ("test", "train")}
    dataset = write_dataset(str(tmp_path), named)
    together, alone = (
        small_evaluation(
            dataset, checkpoint, tmp_path / name, metrics=[], speaker_reference=voice, max_padded_frames=frames
        )
        for name, voice, frames in (("together", "other", 60), ("alone", "other", 9))
    )
    assert [micro_batch.frames for micro_batch in plan(dataset, together)] == [150, 9]
    for settings in (together, alone):
        evaluate(settings)
    one, other = (Evaluation.open(tmp_path / name).figures("network", "l1") for name in ("together", "alone"))
    assert one[0] == other[0]
    np.testing.assert_allclose(one[1], other[1], atol=1e-5)


@pytest.mark.parametrize("key", ["main/../../x", "/main/x", "main//x", "main/a\0b", "main/" + "x" * 250])
def test_key_that_could_leave_the_folder_is_refused(
    dataset: Dataset, checkpoint: Path, tmp_path: Path, key: str
) -> None:
    keys = pa.array([key, *dataset.index["key"].to_pylist()[1:]])
    hostile = Dataset(dataset.store, dataset.manifest)
    vars(hostile)["clip_index"] = ClipIndex.of(dataset.index.set_column(0, "key", keys))
    with pytest.raises(DatasetError, match="cannot name a file"):
        plan(hostile, small_evaluation(dataset, checkpoint, tmp_path / "x"))


def test_evaluation_writes_files_of_clips_whose_names_were_long(checkpoint: Path, tmp_path: Path) -> None:
    stems = ["x" * 251, f"{'speaker ' * 20}/{'clip ' * 30}", "\N{CJK UNIFIED IDEOGRAPH-8BED}" * 80]
    keys = [make_key("main", stem) for stem in stems]
    (tmp_path / "errors.jsonl").touch()
    dataset = write_dataset(str(tmp_path), {"test-000000.tar": [spoken_clip(key, "test", 8) for key in sorted(keys)]})
    evaluate(small_evaluation(dataset, checkpoint, tmp_path / "x", metrics=[]))
    assert all((tmp_path / "x" / "wav" / "network" / f"{key}.wav").is_file() for key in keys)


def test_damaged_clip_costs_that_clip(dataset: Dataset, checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset.store.url, tmp_path / "data")
    row = next(row for row in dataset.index.to_pylist() if row["key"] == "main/b/1")
    with (tmp_path / "data" / row["shard"]).open("r+b") as file:
        file.seek(row["roi_offset"])
        file.write(b"not an array")
    settings = small_evaluation(dataset, checkpoint, tmp_path / "x", metrics=[])
    settings = replace(settings, shards=str(tmp_path / "data"))
    page = evaluate(settings)
    assert "main/b/1" not in Evaluation.open(tmp_path / "x").clips["key"].to_pylist()
    summary = json.loads((tmp_path / "x" / "summary.json").read_text())
    assert [clip["key"] for clip in summary["damaged"]] == ["main/b/1"]
    assert summary["clips"] == 7
    assert "main/b/1" in page.read_text()
    shutil.copy(Path(dataset.store.url) / row["shard"], tmp_path / "data" / row["shard"])
    evaluate(settings)
    assert "main/b/1" in Evaluation.open(tmp_path / "x").clips["key"].to_pylist(), (
        "whole again, it is synthesized after all"
    )


def test_unusable_input_is_named_before_anything_is_written(
    dataset: Dataset, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    other = small_asr()
    save_checkpoint(tmp_path / "asr.pt", Checkpoint(other.settings, other.state_dict()))
    flags = [
        "--checkpoint",
        str(checkpoint),
        "--shards",
        dataset.store.url,
        "--out",
        str(tmp_path / "x"),
        "--workers=0",
    ]
    for more, said in (
        (["--split", "dev"], "split 'dev': there is no clip in it"),
        (["--split", "test", "--checkpoint", str(tmp_path / "asr.pt")], "task asr, and lip2speech was expected"),
        (["--split", "test", "--checkpoint", str(tmp_path / "none.pt")], "none.pt"),
        (["--split", "test", "--metrics=[loudness]"], "loudness"),
        (["--split", "test", "--asr", "nobody"], "nobody: there is no such file"),
        (["--split", "test", "--asr", "no.such:factory"], "no.such:factory: cannot be imported"),
        (["--split", "test", "--max-seconds", ".inf"], "max_seconds: inf: a number of 0.2 or more was expected"),
        (["--split", "test", "--normalizer", "nothing"], "normalizer 'nothing'"),
        (["--split", "test", "--beam", "0"], "beam: 0 is too small, at least 1 was expected"),
        (["--split", "test", "--beam", "4", "--asr", "tests.eval.plugs:listener"], "listener: beam 4, which is"),
        (["--split", "test", "--speaker-reference", "nobody"], "nobody: no such file"),
    ):
        assert main([*flags, *more]) == 2, said
        assert said in capsys.readouterr().err
        assert not (tmp_path / "x").exists()
    with pytest.raises(SystemExit):
        parse([*flags, "--split", "test", "--colour", "red"])


DIGEST = "ab12" * 16
ROW = {"key": "main/s/1", "split": "test", "speaker": "s", "frames": 5, "seconds": 0.2, "system": "network"}


def sealed(record: bytes) -> bytes:
    return b'{"sha256": "%s", "record": %s}' % (hashlib.sha256(record).hexdigest().encode(), record)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"rows": [{"key": "main/s/1", "system": "os:system"}]}, "split None, and a value was expected"),
        ({"rows": [{"key": "../x"}]}, "split None, and a value was expected"),
        ({"rows": [{"key": []}]}, "rows of the columns of this evaluation were expected: .* 'list'"),
        ({"rows": [{"key": "main/s/1", "failed": 3}]}, "int"),
        ({"rows": [{"key": "main/s/1", "frames": 1 << 40}]}, "large"),
        ({"rows": [{"key": "main/s/1", "colour": "red"}]}, "column 'colour'"),
        ({"rows": [3]}, r"rows\[0\]: Expected object, got int"),
        ({"rows": {}}, "rows: Expected array, got object"),
        ({"rows": [ROW | {"system": "ceiling"}], "damaged": []}, "a row of the network was expected"),
        ({"rows": [ROW]}, "a row of the network was expected"),
        ({"rows": [ROW, ROW], "damaged": []}, "2 rows of 'main/s/1' by network"),
        ({"number": 8}, "is the record of another batch"),
        ({"number": -1}, "number: Expected int >= 0"),
        ({"damaged": [{"key": 3, "reason": ""}]}, "key: Expected str, got int"),
        ({"damaged": [{"key": "main/s/2", "reason": ""}]}, "is the record of another batch"),
        ({"files": ["x"]}, "files: Expected object, got array"),
        ({"files": {"x": "0"}}, "files"),
        ({"files": {"../../x": DIGEST}}, "x: has changed since it was written, or is missing"),
        ({"files": {"wav": DIGEST}}, "wav: has changed since it was written, or is missing"),
    ],
)
def test_read_batch_refuses_a_record_that_no_evaluation_writes(
    changes: dict[str, Any], found: str, tmp_path: Path
) -> None:
    record = {"number": 7, "rows": [], "damaged": [{"key": "main/s/1", "reason": "x"}], "files": {}} | changes
    (tmp_path / "batches").mkdir()
    (tmp_path / "wav").mkdir()
    (tmp_path / record_name(7)).write_bytes(sealed(json.dumps(record).encode()))
    with pytest.raises(UnfinishedBatchError, match=found) as error:
        read_batch(Store(str(tmp_path)), 7, ["stoi"], ["main/s/1"])
    assert error.value.changed
    assert str(error.value).startswith(f"{tmp_path}/")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"[" * 99_999, b'{"sha256": "%s", "record": {}}' % DIGEST.encode(), sealed(b"[]"), sealed(b"{}")],
    ids=["empty", "list", "deep", "changed", "sealed list", "sealed nothing"],
)
def test_read_batch_refuses_what_is_no_record(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "batches").mkdir()
    (tmp_path / record_name(7)).write_bytes(content)
    with pytest.raises(UnfinishedBatchError, match=r"batches/000007\.json: ") as error:
        read_batch(Store(str(tmp_path)), 7, ["stoi"], ["main/s/1"])
    assert error.value.changed


def damage_record(out: Path) -> None:
    content = (out / record_name(1)).read_bytes()
    (out / record_name(1)).write_bytes(content.replace(b'"frames": 5', b'"frames": 6', 1))


def truncate_record(out: Path) -> None:
    content = (out / record_name(1)).read_bytes()
    (out / record_name(1)).write_bytes(content[: len(content) // 2])


def exchange_records(out: Path) -> None:
    (out / record_name(1)).write_bytes((out / record_name(2)).read_bytes())


def fifo_for_record(out: Path) -> None:
    (out / record_name(1)).unlink()
    os.mkfifo(out / record_name(1))


def flip_sample(out: Path) -> None:
    path = first_wav(out)
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)


def fifo_for_wav(out: Path) -> None:
    path = first_wav(out)
    path.unlink()
    os.mkfifo(path)


def link_for_wav(out: Path) -> None:
    """The same bytes, from elsewhere."""
    path = first_wav(out)
    path.rename(out.parent / "elsewhere.wav")
    path.symlink_to(out.parent / "elsewhere.wav")


def remove_wavs(out: Path) -> None:
    shutil.rmtree(out / "wav")


def first_wav(out: Path) -> Path:
    """Of the second batch."""
    return out / str(next(iter(json.loads((out / record_name(1)).read_text())["record"]["files"])))


DAMAGES = [
    damage_record,
    truncate_record,
    exchange_records,
    fifo_for_record,
    flip_sample,
    fifo_for_wav,
    link_for_wav,
    remove_wavs,
]


@pytest.fixture(scope="module")
def finished(dataset: Dataset, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "x"
    evaluate(small_evaluation(dataset, checkpoint, out, metrics=[], max_padded_frames=110))
    return out


@pytest.mark.parametrize("damage", DAMAGES)
def test_read_batch_notices_what_was_changed_since_it_was_written(
    damage: Callable[[Path], None], finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x"
    shutil.copytree(finished, out)
    keys = sorted({row["key"] for row in json.loads((out / record_name(1)).read_text())["record"]["rows"]})
    assert read_batch(Store(str(out)), 1, [], keys).number == 1
    damage(out)
    with pytest.raises(UnfinishedBatchError, match=str(out)) as error:
        read_batch(Store(str(out)), 1, [], keys)
    assert error.value.changed


def test_resume_makes_batches_again_that_were_changed_since_they_were_written(
    finished: Path, dataset: Dataset, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x"
    shutil.copytree(finished, out)
    flip_sample(out)
    (out / record_name(2)).write_bytes(b"{")
    evaluate(small_evaluation(dataset, checkpoint, out, metrics=[], max_padded_frames=110))
    assert digests(out) == digests(finished)
    assert re.search(r"2 of \d+ batches are made again: .*\.wav: has changed", capsys.readouterr().err)


def test_evaluation_makes_batches_again_whose_waveforms_vanish_while_it_runs(
    finished: Path, dataset: Dataset, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x"

    def write(store: Store, batch: SynthesizedBatch, rows: Sequence[dict[str, Any]]) -> None:
        write_batch(store, batch, rows)
        if batch.number == 2 and not (tmp_path / "removed").exists():
            (tmp_path / "removed").touch()
            shutil.rmtree(out / "wav")

    monkeypatch.setattr("eval.evaluation.write_batch", write)
    evaluate(small_evaluation(dataset, checkpoint, out, metrics=[], max_padded_frames=110))
    assert (tmp_path / "removed").exists()
    assert digests(out) == digests(finished)


def test_resume_writes_nothing_outside_of_the_folder(
    finished: Path, dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "wav" / "network")
    (tmp_path / "elsewhere").mkdir()
    (out / "wav" / "network").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ResultsError, match=r"is a link that leads out of .*remove it"):
        evaluate(small_evaluation(dataset, checkpoint, out, metrics=[], max_padded_frames=110))
    assert not list((tmp_path / "elsewhere").iterdir())
