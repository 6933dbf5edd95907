"""The demo corpus on disk: layout, splits, streams and timing, and that it is reproducible."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.demo import CorpusSummary, write_corpus
from pipeline.demo.camera import film
from pipeline.demo.clip import LATE_SAMPLES, ClipPlan, perform
from pipeline.demo.corpus import plan_corpus

CLIPS, SPEAKERS, SEED = 10, 3, 4
RATE, FPS = 16000, 25
SPLITS = ("train", "val", "test", "pretrain")


@dataclass(frozen=True)
class Decoded:
    """frames (N, 160, 160) gray and their ticks in 1/25 s; sound placed by presentation time, from time 0."""

    frames: np.ndarray
    ticks: list[float]
    sound: np.ndarray
    naive_sound: np.ndarray


def decode(path: Path) -> Decoded:
    frames, ticks, pieces = [], [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="gray"))
            assert frame.time is not None
            ticks.append(round(frame.time * FPS, 6))
    with av.open(str(path)) as container:
        for decoded_sound in container.decode(audio=0):
            assert decoded_sound.time is not None
            pieces.append((round(decoded_sound.time * RATE), decoded_sound.to_ndarray()[0]))
    sound = np.zeros(max(start + len(piece) for start, piece in pieces), np.float32)
    for start, piece in pieces:
        skipped = max(0, -start)
        sound[start + skipped : start + len(piece)] = piece[skipped:]
    return Decoded(np.stack(frames), ticks, sound, np.concatenate([piece for _, piece in pieces]))


def lag(decoded: np.ndarray, synthesized: np.ndarray) -> int:
    """By how many samples `decoded` is later than `synthesized`."""
    size = 2 * max(len(decoded), len(synthesized))
    correlation = np.fft.irfft(np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(synthesized, size)))
    best = int(np.argmax(correlation))
    return best if best < size // 2 else best - size


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CorpusSummary]:
    out = tmp_path_factory.mktemp("demo") / "corpus"
    calls: list[tuple[int, int]] = []
    summary = write_corpus(
        out, clips=CLIPS, speakers=SPEAKERS, seed=SEED, workers=2, on_clip=lambda *call: calls.append(call)
    )
    assert calls == [(done, CLIPS) for done in range(1, CLIPS + 1)]
    return out, summary


@pytest.fixture(scope="module")
def plans() -> list[ClipPlan]:
    return plan_corpus(CLIPS, SPEAKERS, SEED)


def path_of(out: Path, plan: ClipPlan) -> Path:
    return out / "LRS2-BBC" / plan.clip_set / f"{plan.key}.mp4"


def centers_of(out: Path, clip_set: str) -> dict[str, np.ndarray]:
    found = {}
    for line in (out / "LRS2_crop" / f"preprocess_{clip_set}.txt").read_text().splitlines():
        key, _, numbers = line.partition(".mp4:")
        found[key] = np.array(numbers.split("/"), int).reshape(-1, 2)
    return found


def split_of(out: Path, split: str) -> list[str]:
    return (out / f"{split}.txt").read_text().split()


def text_of(path: Path) -> str:
    first = path.with_suffix(".txt").read_text().splitlines()[0]
    assert first.startswith("Text:  ")
    return first.removeprefix("Text:  ")


def test_demo_corpus_has_the_same_bytes_by_two_processes_or_by_one_that_is_interrupted_and_resumes(
    corpus: tuple[Path, CorpusSummary], tmp_path: Path
) -> None:
    out, _ = corpus
    again = tmp_path / "again"

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_corpus(again, clips=CLIPS, speakers=SPEAKERS, seed=SEED, workers=1, on_clip=stop)
    assert not (again / "demo.json").exists()
    with pytest.raises(ValueError, match="other settings"):
        write_corpus(again, clips=CLIPS + 1, speakers=SPEAKERS, seed=SEED, workers=1)
    write_corpus(again, clips=CLIPS, speakers=SPEAKERS, seed=SEED, workers=1)
    names = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert [name for name in names if (out / name).read_bytes() != (again / name).read_bytes()] == []


def test_demo_corpus_lays_clips_out_as_lrs2_each_in_one_split(corpus: tuple[Path, CorpusSummary]) -> None:
    out, summary = corpus
    listed = {split: split_of(out, split) for split in SPLITS}
    assert {split: len(keys) for split, keys in listed.items()} == summary.splits
    assert sum(summary.splits.values()) == summary.clips == CLIPS
    for clip_set, splits in (("main", ("train", "val", "test")), ("pretrain", ("pretrain",))):
        keys = sorted(key for split in splits for key in listed[split])
        assert len(set(keys)) == len(keys)
        folder = out / "LRS2-BBC" / clip_set
        assert keys == sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.mp4"))
        assert keys == sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.txt"))
        assert keys == sorted(centers_of(out, clip_set))
    assert not list(out.rglob("*.partial*"))


def test_demo_corpus_has_test_speakers_in_no_other_split(corpus: tuple[Path, CorpusSummary]) -> None:
    out, _ = corpus
    speakers = {s: {key.split("/")[0] for key in split_of(out, s)} for s in SPLITS}
    assert not speakers["test"] & (speakers["train"] | speakers["val"] | speakers["pretrain"])
    assert speakers["val"] <= speakers["train"]
    assert speakers["pretrain"] <= speakers["train"]


@pytest.mark.parametrize(("clips", "speakers"), [(120, 6), (9, 3), (60, 10)])
def test_demo_corpus_splits_have_their_shares_and_share_no_sentence(clips: int, speakers: int) -> None:
    plans = plan_corpus(clips, speakers, 0)
    texts = [text for plan in plans for text in plan.sentences]
    assert len(plans) == clips
    assert len(set(texts)) == len(texts)
    counts = {split: sum(plan.split == split for plan in plans) for split in SPLITS}
    assert min(counts.values()) >= 1
    assert 0.5 * clips <= counts["train"] <= 0.7 * clips
    unseen = {plan.speaker.name for plan in plans if plan.split == "test"}
    assert len(unseen) == max(1, round(speakers / 3))
    assert sorted(plan.timing for plan in plans if plan.timing != "plain") == ["late_sound", "variable_rate"]


def test_demo_corpus_main_transcripts_are_the_sentences_in_upper_case(
    corpus: tuple[Path, CorpusSummary], plans: list[ClipPlan]
) -> None:
    out, _ = corpus
    for plan in plans:
        if plan.clip_set == "main":
            expected = plan.sentences[0].replace(",", "").upper()
            assert path_of(out, plan).with_suffix(".txt").read_text() == f"Text:  {expected}\nConf:  1\n"


def test_demo_corpus_pretrain_word_times_lie_in_the_clip_and_on_the_speech(
    corpus: tuple[Path, CorpusSummary], plans: list[ClipPlan]
) -> None:
    out, _ = corpus
    for plan in (plan for plan in plans if plan.clip_set == "pretrain"):
        path = path_of(out, plan)
        lines = path.with_suffix(".txt").read_text().splitlines()
        assert lines[1:4] == ["Conf:  1", "", "WORD START END ASDSCORE"]
        rows = [re.fullmatch(r"([A-Z']+) (\d+\.\d\d) (\d+\.\d\d) (\d+\.\d)", line) for line in lines[4:]]
        words = [(row[1], float(row[2]), float(row[3])) for row in rows if row]
        assert len(words) == len(rows)
        assert " ".join(word for word, _, _ in words) == text_of(path)
        decoded = decode(path)
        assert 5.5 <= len(decoded.ticks) / FPS <= 10.2
        assert all(start < end for _, start, end in words)
        assert all(a[2] <= b[1] + 0.011 for a, b in pairwise(words))
        assert words[0][1] >= 0
        assert words[-1][2] <= len(decoded.ticks) / FPS
        spoken = np.zeros(len(decoded.sound), bool)
        for _, start, end in words:
            spoken[int(start * RATE) : int(end * RATE)] = True
        power = decoded.sound**2
        assert power[spoken].mean() > 100 * power[~spoken].mean()


def test_demo_corpus_files_are_h264_and_aac_of_lrs2s_size_and_rates(
    corpus: tuple[Path, CorpusSummary], plans: list[ClipPlan]
) -> None:
    out, summary = corpus
    for plan in plans:
        path = path_of(out, plan)
        with av.open(str(path)) as container:
            (video,), (audio,) = container.streams.video, container.streams.audio
            assert (video.codec_context.name, video.width, video.height) == ("h264", 160, 160)
            assert video.codec_context.pix_fmt == "yuv420p"
            assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", RATE, 1)
            assert (video.average_rate == FPS) == (plan.timing != "variable_rate")
        # The index stands before the media: the file plays while it loads.
        head = path.read_bytes()
        assert head.index(b"moov") < head.index(b"mdat")
        seconds = (decode(path).ticks[-1] + 1) / FPS
        assert (1.4 <= seconds <= 4.1) or plan.clip_set == "pretrain"
    assert summary.variable_rate == "main/spk02/00001"
    assert summary.late_sound == "main/spk01/00001"


def test_demo_corpus_sound_is_in_step_by_presentation_time(
    corpus: tuple[Path, CorpusSummary], plans: list[ClipPlan]
) -> None:
    out, _ = corpus
    for plan in plans:
        decoded, synthesized = decode(path_of(out, plan)), perform(plan).sound
        late = LATE_SAMPLES if plan.timing == "late_sound" else 0
        if late:
            synthesized[:late] = 0
        assert abs(lag(decoded.sound, synthesized)) <= 1, plan.key
        # A reader that takes the first sample for that of frame 0 goes wrong where it should.
        assert abs(lag(decoded.naive_sound, synthesized)) > 1000 if late else lag(decoded.naive_sound, synthesized) == 0
        assert len(decoded.sound) >= (decoded.ticks[-1] + 1) * 640


def test_demo_corpus_has_a_clip_whose_sound_starts_after_its_first_frame(
    corpus: tuple[Path, CorpusSummary],
) -> None:
    out, summary = corpus
    with av.open(str(out / "LRS2-BBC" / f"{summary.late_sound}.mp4")) as container:
        assert container.streams.video[0].start_time == 0
        first = next(container.decode(audio=0))
        # AAC's priming is decoded with it: silence from 1024 samples before the sound on.
        assert first.time == (LATE_SAMPLES - 1024) / RATE


def test_demo_corpus_has_a_clip_of_variable_rate_whose_frames_show_their_time(
    corpus: tuple[Path, CorpusSummary], plans: list[ClipPlan]
) -> None:
    out, _ = corpus
    (plan,) = (plan for plan in plans if plan.timing == "variable_rate")
    decoded, take = decode(path_of(out, plan)), perform(plan)
    gaps = np.diff(decoded.ticks)
    assert set(gaps) >= {1.0, 2.0}
    assert len(decoded.ticks) < len(take.shapes) == decoded.ticks[-1] + 1
    frames = film(plan.speaker.look, take.portrait, take.shapes, take.motion, plan.seed)
    drawn = np.stack([frame.picture.mean(2) for frame in frames])
    by_time = np.abs(decoded.frames - drawn[np.array(decoded.ticks, int)]).mean()
    by_count = np.abs(decoded.frames - drawn[: len(decoded.ticks)]).mean()
    assert by_time < 0.8 * by_count


def test_demo_corpus_coordinates_lie_on_the_drawn_mouth_one_a_frame(
    corpus: tuple[Path, CorpusSummary], plans: list[ClipPlan]
) -> None:
    out, _ = corpus
    for plan in plans:
        centers = centers_of(out, plan.clip_set)[plan.key]
        ticks = decode(path_of(out, plan)).ticks
        assert len(centers) == len(ticks)
        assert centers.min() >= 40
        assert centers.max() < 140
    plan = plans[2]
    take = perform(plan)
    frames = film(plan.speaker.look, take.portrait, take.shapes, take.motion, plan.seed)
    rows, columns = np.mgrid[:160, :160]
    for (x, y), frame in zip(centers_of(out, plan.clip_set)[plan.key], frames, strict=True):
        total = frame.lips.sum()
        assert total > 60
        assert abs((frame.lips * columns).sum() / total - x) < 2
        assert abs((frame.lips * rows).sum() / total - y) < 3
        # The box of 80 x 80 around the center holds the whole mouth.
        box = (np.abs(rows - y) < 40) & (np.abs(columns - x) < 40)
        assert frame.lips[~box].sum() == 0


def log_mel(sound: np.ndarray, frames: int) -> np.ndarray:
    """(frames, 160): four steps of 10 ms of 40 bands, natural log."""
    padded = np.pad(sound, 512, mode="reflect")
    pieces = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::160][: 4 * frames]
    window = np.pad(np.hanning(641)[:640], 192)
    spectrum = np.abs(np.fft.rfft(pieces * window))
    edges = 700 * (10 ** (np.linspace(90, 2840, 42) / 2595) - 1)
    hertz = np.arange(513)[:, None] * RATE / 1024
    up = (hertz - edges[:-2]) / np.diff(edges)[:-1]
    down = (edges[2:] - hertz) / np.diff(edges)[1:]
    mel: np.ndarray = np.log(np.maximum(spectrum @ np.clip(np.minimum(up, down), 0, None), 1e-4))
    return mel.reshape(frames, -1)


def test_demo_corpus_sound_is_predicted_in_part_from_mouth_pixels_by_a_linear_probe(
    corpus: tuple[Path, CorpusSummary], plans: list[ClipPlan]
) -> None:
    out, _ = corpus
    centers = {clip_set: centers_of(out, clip_set) for clip_set in ("main", "pretrain")}
    inputs, outputs = [], []
    for plan in (plan for plan in plans if plan.split != "test" and plan.timing == "plain"):
        decoded = decode(path_of(out, plan))
        mouths = []
        for frame, (x, y) in zip(decoded.frames, centers[plan.clip_set][plan.key], strict=True):
            box = np.pad(frame, 40)[y + 10 : y + 70, x + 10 : x + 70].astype(float)
            mouths.append(box.reshape(15, 4, 15, 4).mean((1, 3)).ravel() / 255)
        # Five frames of context; the clip's mean is its face and light, which say nothing of the words.
        padded = np.pad(np.array(mouths) - np.mean(mouths, 0), ((2, 2), (0, 0)), mode="edge")
        inputs.append(np.concatenate([padded[k : k + len(mouths)] for k in range(5)], 1))
        peak = np.abs(decoded.sound).max()
        outputs.append(log_mel(decoded.sound[: 640 * len(mouths)] / peak, len(mouths)))

    def r_squared(ridge: float) -> float:
        missed, all_ = 0.0, 0.0
        for held in range(len(inputs)):
            x = np.concatenate([part for k, part in enumerate(inputs) if k != held])
            y = np.concatenate([part for k, part in enumerate(outputs) if k != held])
            mean = y.mean(0)
            weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ (y - mean))
            missed += float(((outputs[held] - mean - inputs[held] @ weights) ** 2).sum())
            all_ += float(((outputs[held] - mean) ** 2).sum())
        return 1 - missed / all_

    best = max(r_squared(ridge) for ridge in (10.0, 100.0))
    print(f"held-out R squared of the linear probe: {best:.3f}")
    # Measured 0.2 to 0.4: lips tell open from closed and round from spread, not voice, nose or tongue.
    assert 0.05 < best < 0.6


def test_demo_corpus_that_is_complete_is_not_written_again(corpus: tuple[Path, CorpusSummary]) -> None:
    out, summary = corpus
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert write_corpus(out, clips=CLIPS, speakers=SPEAKERS, seed=SEED) == summary
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times


def test_demo_corpus_refuses_a_folder_of_other_settings_or_files(
    corpus: tuple[Path, CorpusSummary], tmp_path: Path
) -> None:
    out, _ = corpus
    with pytest.raises(ValueError, match=r"out: .* other settings"):
        write_corpus(out, clips=CLIPS, speakers=SPEAKERS, seed=SEED + 1)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"out: .* not empty"):
        write_corpus(tmp_path)
    with pytest.raises(ValueError, match=r"out: .* is a file"):
        write_corpus(tmp_path / "thesis.tex")


def test_demo_corpus_json_has_settings_and_totals(corpus: tuple[Path, CorpusSummary]) -> None:
    out, summary = corpus
    written = json.loads((out / "demo.json").read_text())
    assert written["settings"] == {"version": 1, "clips": CLIPS, "speakers": SPEAKERS, "seed": SEED}
    assert written["summary"]["seconds"] == summary.seconds
    assert written["summary"]["splits"] == summary.splits


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speakers": 2}, r"speakers is 2; accepted are 3 to 40"),
        ({"clips": 8, "speakers": 3}, r"clips is 8; accepted with 3 speakers are 9"),
        ({"seed": -1}, r"seed is -1; accepted are whole numbers from 0"),
        ({"workers": 0}, r"workers is 0; accepted are whole numbers from 1"),
    ],
)
def test_demo_corpus_names_settings_out_of_range(tmp_path: Path, settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_corpus(tmp_path / "never", **settings)  # type: ignore[arg-type]
    assert not (tmp_path / "never").exists()
