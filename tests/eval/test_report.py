"""The report of an evaluation: what it shows is what was measured, whatever the clips are called."""

from __future__ import annotations

import json
import re
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eval.metrics.registry import display_of
from eval.report.about import published_of
from eval.report.alignment import align_words
from eval.report.charts import against_length, beyond, distribution
from eval.report.clip_cards import choose
from eval.report.report import write_report
from eval.result_schema import SYSTEMS
from eval.results import Evaluation
from model.mel import log_mel
from runtime.images import color_map
from shards import Dataset
from shards.format.wav import encode_wav
from tests.eval.evaluations import (
    CLIPS,
    HOSTILE,
    HOSTILE_KEY,
    METRICS,
    all_rows,
    evaluation_of,
    row_of,
    sixty_clips,
    summary_of,
    tone,
)
from tests.pipeline.test_preview import Page, content_of, picture_of

Made = tuple[Evaluation, Dataset, dict[str, Any]]


def islands(source: str) -> dict[str, Any]:
    """The data of a page's tables, by the table's name."""
    found = re.findall(
        r'id="table-(\w+)">(?:(?!id="table-).)*?<script type="application/json">(.*?)</script>', source, re.S
    )
    return {name: json.loads(data) for name, data in found}


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return sixty_clips(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def file(made_up: Made) -> Path:
    return write_report(*made_up)


@pytest.fixture(scope="module")
def evaluation(made_up: Made) -> Evaluation:
    return made_up[0]


@pytest.fixture(scope="module")
def dataset(made_up: Made) -> Dataset:
    return made_up[1]


@pytest.fixture(scope="module")
def summary(made_up: Made) -> dict[str, Any]:
    return made_up[2]


def test_report_is_one_file_that_refers_to_nothing_outside_itself(file: Path, evaluation: Evaluation) -> None:
    assert file == evaluation.folder / "report.html"
    page = Page(file)
    assert "://" not in page.source
    assert "url(" not in page.source
    assert "@import" not in page.source
    references = [
        found[name]
        for _, found in page.elements
        for name in ("src", "srcset", "href", "poster", "action")
        if name in found
    ]
    assert len(references) > 9 * 6
    assert all(reference.startswith(("data:", "#")) for reference in references)


def test_report_policy_allows_its_own_styles_and_scripts_and_nothing_else(file: Path) -> None:
    page = Page(file)
    assert f"; style-src {page.allowed('style')};" in page.policy
    assert f"; script-src {page.allowed('script')};" in page.policy
    assert page.policy.startswith("default-src 'none'; img-src data:; media-src data:;")
    assert "unsafe" not in page.policy
    assert not any("style" in found for _, found in page.elements)


def test_report_shows_whatever_an_evaluation_says_as_text(file: Path) -> None:
    page = Page(file)
    assert "<script>alert" not in page.source
    assert "<img src=x" not in page.source
    assert not any(name.startswith("on") for _, found in page.elements for name in found)
    assert page.text.count(HOSTILE) >= 5  # said, speaker, voice, why there is no figure, why it was skipped
    assert HOSTILE_KEY in page.text
    assert sum(tag == "script" for tag, _ in page.elements) == 2 + len(islands(page.source))


def test_report_table_of_systems_has_means_intervals_and_failures(file: Path, summary: dict[str, Any]) -> None:
    page = Page(file)
    cells = [found for tag, found in page.elements if tag == "td" and "data-metric" in found]
    parts = ("systems", "differences")
    names = [(part, system) for part in parts for system, of in summary[part].items() for _ in of]
    assert len(cells) == len(names)
    for (part, system), cell in zip(names, cells, strict=True):
        expected = summary[part][system][cell["data-metric"]]
        shown = [float(cell[name]) for name in ("data-value", "data-low", "data-high")]
        assert shown == [expected["mean"], expected["low"], expected["high"]]
    stoi = summary["systems"]["network"]["stoi"]
    assert f"{stoi['mean']:.3f} {stoi['low']:.3f} to {stoi['high']:.3f}" in page.text
    assert "4 failed" in page.text
    wer = summary["systems"]["network"]["wer"]
    assert f"{100 * wer['mean']:.1f} {100 * wer['low']:.1f} to" in page.text  # shown in percent
    assert [row[3] for row in zip(*islands(page.source)["failures"]["values"], strict=True)] == [4]


def test_report_shows_paired_differences_of_the_network(
    file: Path, evaluation: Evaluation, summary: dict[str, Any]
) -> None:
    assert list(summary["differences"]) == ["untrained", "ceiling", "original"]
    found = summary["differences"]["untrained"]["pesq"]
    network, untrained = (
        dict(zip(*evaluation.figures(system, "pesq")[:2], strict=True)) for system in ("network", "untrained")
    )
    assert found["clips"] == len(network) == CLIPS - 4  # those that both have a figure of
    assert found["mean"] == pytest.approx(np.mean([network[key] - untrained[key] for key in network]))
    assert found["low"] < found["mean"] < found["high"]
    shown = f"{found['mean']:+.3f} {found['low']:+.3f} to {found['high']:+.3f}"
    assert shown in Page(file).text


def test_summary_difference_of_error_rates_is_that_of_the_pooled_rates(tmp_path: Path) -> None:
    rows = all_rows([f"main/s/{number}" for number in range(9)])
    for number, row in enumerate(rows):
        row |= {"word_errors": number % 5, "words": 5 + int(row["key"][-1]) % 3}
    summary = summary_of(evaluation_of(tmp_path, rows))
    network, ceiling = (summary["systems"][system]["wer"]["mean"] for system in ("network", "ceiling"))
    assert summary["differences"]["ceiling"]["wer"]["mean"] == pytest.approx(network - ceiling)
    assert "lips_wer" not in summary["differences"]["ceiling"]


def test_report_shows_all_systems_in_order(tmp_path: Path) -> None:
    rows = [row_of(f"main/s/{number}", system) for number in range(5) for system in SYSTEMS]
    made = evaluation_of(tmp_path, rows)
    summary = summary_of(made)
    page = Page(write_report(made, None, summary))
    shown = [row["data-system"] for row in page.all("tr") if "data-system" in row]
    assert shown == [*SYSTEMS, *SYSTEMS[1:]]
    assert list(summary["differences"]) == list(SYSTEMS[1:])


@pytest.mark.parametrize(
    ("recipe", "split", "clips", "skipped", "expected"),
    [
        ("lrs2", "test", None, 1242, "0.526"),
        ("lrs2", "test", None, 5, None),
        ("lrs2", "val", None, 1242, None),
        ("lrs2", "test", 1, 1242, None),
        ("lrs3", "test", None, 5, "0.497"),
        ("demo", "test", None, 1242, None),
    ],
)
def test_report_shows_published_figures_beside_those_of_the_same_clips_only(
    tmp_path: Path, recipe: str, split: str, clips: int | None, skipped: int, expected: str | None
) -> None:
    about: dict[str, Any] = {
        "dataset": {"url": "data/set", "recipe": recipe, "split": split},
        "settings": {"speaker_reference": "other", "clips": clips},
    }
    made = evaluation_of(tmp_path, all_rows(["main/s/1"]), **about)
    lost = [{"key": f"main/z/{n}", "stage": "sound", "reason": "silent", "detail": ""} for n in range(skipped)]
    page = Page(write_report(made, None, summary_of(made, skipped=lost)))
    assert len([row for row in page.all("tr") if row.get("data-system") == "published"]) == (expected is not None)
    assert (f"Published {'LRS2' if recipe == 'lrs2' else 'LRS3'}" in page.text) == (expected is not None)
    assert expected is None or expected in page.text
    if recipe == "lrs2" and split == "test" and expected is None:
        assert "the figures do not stand beside them" in page.text


@pytest.mark.parametrize(
    ("protocol", "padding", "expected"),
    [
        ("published", "masked", "has that protocol, without the leak."),
        ("published", "published", "has that protocol, the leak included."),
        ("published", None, "has that protocol, and did not record whether padding leaks."),
        (None, "published", "has another protocol."),
    ],
)
def test_published_note_says_whether_padding_leaked(
    tmp_path: Path, protocol: str | None, padding: str | None, expected: str
) -> None:
    about: dict[str, Any] = {
        "checkpoint": {"path": "best.pt"} | ({"padding": padding} if padding else {}),
        "dataset": {"url": "data/set", "recipe": "lrs3", "split": "test"},
        "settings": {"speaker_reference": "self", "clips": None, "protocol": protocol},
    }
    found, note = published_of(evaluation_of(tmp_path, all_rows(["main/s/1"]), **about), 1)
    assert found is not None
    assert note.endswith(f"This evaluation {expected}")


def test_choose_gives_the_best_the_median_and_the_worst_clips(tmp_path: Path) -> None:
    rows = [row_of(f"main/s/{n}", "network", estoi=n / 10, l1=n / 10) for n in (3, 0, 4, 1, 2, 5, 6)]
    made = evaluation_of(tmp_path, rows)
    best = {"best": ["main/s/6", "main/s/5"], "median": ["main/s/4", "main/s/3"], "worst": ["main/s/1", "main/s/0"]}
    assert choose(made, "estoi", 2) == best
    assert choose(made, "l1", 1) == {"best": ["main/s/0"], "median": ["main/s/3"], "worst": ["main/s/6"]}
    # of seven clips, two of each are the most that are all different
    assert sum(map(len, choose(made, "estoi", 9).values())) == 6


def test_report_ranks_clips_by_estoi_or_by_what_was_measured(tmp_path: Path) -> None:
    rows = [row_of(f"main/s/{n}", "network", stoi=None, estoi=None, pesq=1.0 + n, l1=-n) for n in range(3)]
    for row in rows:
        row["failed"] = json.dumps({"stoi": "too short", "estoi": "too short"})
    made = evaluation_of(tmp_path, rows)
    page = Page(write_report(made, None, summary_of(made)))
    assert "best, median and worst by PESQ" in page.text
    assert [clip["data-key"] for clip in page.all("article")] == ["main/s/2", "main/s/1", "main/s/0"]


def test_report_mels_are_measured_on_the_waveforms_on_one_axis_and_scale(tmp_path: Path) -> None:
    made = evaluation_of(tmp_path, all_rows(["main/s/1"], frames=20, seconds=0.8))
    short = tone("network", 20)[:-1600]
    (tmp_path / "wav/network/main/s/1.wav").write_bytes(encode_wav(short))
    true, generated = (
        picture_of(found["src"]) for found in Page(write_report(made, None, summary_of(made))).all("img", "mel")
    )
    for picture, samples in ((true, tone("original", 20)), (generated, short)):
        frames = len(samples) // 160
        mel = log_mel(torch.from_numpy(samples.astype(np.float32)))[:, :frames].numpy().clip(-1, 1)
        expected = color_map()[((mel + 1) * 127.5).round().astype(int)]
        np.testing.assert_array_equal(picture[::-1][:, :frames], expected)
    assert true.shape == generated.shape == (80, 80, 3)
    np.testing.assert_array_equal(generated[:, 70:], np.broadcast_to(color_map()[0], (80, 10, 3)))  # it has ended


def test_report_players_have_the_waveforms_of_the_folder(file: Path, evaluation: Evaluation) -> None:
    sounds = Page(file).all("audio")
    assert [sound["data-system"] for sound in sounds] == ["original", "network", "ceiling"] * 9
    frames = {row["key"]: row["frames"] for row in evaluation.rows("network").to_pylist()}
    clips = Page(file).all("article")
    for number, sound in enumerate(sounds):
        with wave.open(content_of(sound["src"])) as wav:
            played = np.frombuffer(wav.readframes(wav.getnframes()), "<i2")
        expected = tone(sound["data-system"], frames[clips[number // 3]["data-key"]])
        np.testing.assert_array_equal(played, expected)


def test_report_names_a_waveform_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(encode_wav(tone("network", 12)))
    rows = [row_of("main/s/1", system) for system in ("network", "untrained", "ceiling")]
    made = evaluation_of(tmp_path / "report", rows)
    (tmp_path / "report/wav/ceiling/main/s/1.wav").write_bytes(b"RIFF")
    (tmp_path / "report/wav/network/main/s/1.wav").unlink()
    (tmp_path / "report/wav/network/main/s/1.wav").symlink_to(tmp_path / "secret.wav")
    page = Page(write_report(made, None, summary_of(made)))
    assert not page.all("audio")
    assert "wav/network/main/s/1.wav lies outside of the report's folder" in page.text
    assert "wav/ceiling/main/s/1.wav cannot be read" in page.text
    assert "wav/original/main/s/1.wav is missing" in page.text


def test_report_plays_the_original_without_a_row_of_its_own(tmp_path: Path) -> None:
    made = evaluation_of(tmp_path, [row_of("main/s/1", "network", frames=12)])
    there = tmp_path / "wav/original/main/s/1.wav"
    there.parent.mkdir(parents=True)
    there.write_bytes(encode_wav(tone("original", 12)))
    sounds = Page(write_report(made, None, summary_of(made))).all("audio")
    assert [sound["data-system"] for sound in sounds] == ["original", "network"]


def test_report_lips_are_those_of_the_dataset_and_without_one_it_says_so(
    tmp_path: Path, file: Path, dataset: Dataset
) -> None:
    page = Page(file)
    strip = picture_of(page.all("img", "strip")[0]["src"])[:, :, 0]
    roi = dataset.sample(page.all("article")[0]["data-key"]).roi
    middle = np.asarray(Image.fromarray(roi[len(roi) // 24]).resize((96, 96))).astype(int)
    assert np.abs(strip[:, :96] - middle).mean() < 12  # JPEG of noise
    made = evaluation_of(tmp_path, all_rows(["main/s/1"]))
    page = Page(write_report(made, None, summary_of(made)))
    assert not page.all("img", "strip")
    assert "The lips are not shown: the report was made without the dataset." in page.text
    made = evaluation_of(tmp_path, all_rows(["main/unknown/1"]))
    assert "main/unknown/1: no such clip" in Page(write_report(made, dataset, summary_of(made))).text


def test_report_marks_recognition_errors_word_by_word(tmp_path: Path) -> None:
    marked = align_words("place blue at f two now", "place green at two now please")
    kinds = [(part.kind, part.reference, part.hypothesis) for part in marked.edits if part.kind != "equal"]
    assert kinds == [("substitute", "blue", "green"), ("delete", "f", ""), ("insert", "", "please")]
    assert marked.counts == "1 substituted, 1 deleted, 1 inserted"
    assert align_words("a b", "a b").counts == "no error"
    assert [part.kind for part in align_words("a b", "").edits] == ["delete"]
    assert align_words("", "a b").counts == "2 inserted"
    rows = all_rows(["main/s/1"], text="Place, BLUE!", hypothesis="place green", lips_hypothesis="place")
    made = evaluation_of(tmp_path, rows)
    page = Page(write_report(made, None, summary_of(made)))
    assert "place blue \N{RIGHTWARDS ARROW} green 1 substituted" in page.text
    assert "Recognized in the lips place \N{MINUS SIGN}blue 1 deleted" in page.text


def test_report_lists_clips_that_were_not_evaluated_with_their_reasons(file: Path) -> None:
    page = Page(file)
    rows = list(zip(*islands(page.source)["missing"]["values"], strict=True))
    assert (HOSTILE_KEY, "building the shards: sound", "sound_silent", HOSTILE) in rows
    assert ("main/z/2", "reading the shards", "its checksum is wrong", None) in rows
    assert len(rows) == 3
    assert "sound_silent 1" in page.text


def test_report_table_of_clips_equals_the_parquet_file(file: Path, evaluation: Evaluation) -> None:
    data = islands(Page(file).source)["clips"]
    columns = {column["name"]: values for column, values in zip(data["columns"], data["values"], strict=True)}
    rows = evaluation.rows("network").to_pylist()
    for name in ("key", "speaker", "seconds", *METRICS):
        assert columns[name] == [row[name] for row in rows]
    assert columns["wer"] == [row["word_errors"] / row["words"] for row in rows]
    assert [value is None for value in columns["pesq"]].count(True) == 4


def test_report_says_what_was_evaluated_and_with_what(file: Path) -> None:
    text = Page(file).text
    for part in (
        "Speech synthesized by the checkpoint best.pt (step 12,000, 27.3 million parameters) on the split test of set",
        f"{CLIPS} clips",
        "the loudest stretch of another clip of the same speaker",
        "ab12" * 16,
        "cd34" * 16,
        "torch 2.13.0",
        "python -m eval --checkpoint runs/x/best.pt",
    ):
        assert part in text


def test_report_says_so_where_command_and_start_are_not_recorded(tmp_path: Path) -> None:
    made = evaluation_of(tmp_path, all_rows(["main/s/1"]))
    for name in ("command", "started"):
        made.about.pop(name, None)
    text = Page(write_report(made, None, summary_of(made))).text
    assert text.count("not recorded") == 2


def test_report_of_the_same_evaluation_has_the_same_bytes(
    file: Path, evaluation: Evaluation, dataset: Dataset, summary: dict[str, Any]
) -> None:
    before = file.read_bytes()
    write_report(Evaluation.open(evaluation.folder), dataset, summary)
    assert file.read_bytes() == before


def test_report_is_left_as_it_was_by_a_failed_attempt(tmp_path: Path) -> None:
    made = evaluation_of(tmp_path, all_rows(["main/s/1"]))
    before = write_report(made, None, summary_of(made)).read_bytes()
    broken = summary_of(made, skipped=[{"key": 1, "stage": "x", "reason": object(), "detail": ""}])
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_report(made, None, broken)
    assert (tmp_path / "report.html").read_bytes() == before
    assert not list(tmp_path.glob("*.part*"))
    with pytest.raises(ValueError, match="0 clips cannot be shown"):
        write_report(made, None, summary_of(made), shown=0)


def test_report_of_one_clip_without_a_single_figure_can_be_made(tmp_path: Path) -> None:
    nothing = dict.fromkeys(METRICS) | {"failed": json.dumps(dict.fromkeys(METRICS, "silent"))}
    nothing |= {"hypothesis": None, "word_errors": None, "words": None, "character_errors": None, "characters": None}
    made = evaluation_of(tmp_path, [row_of("main/s/1", "network", **nothing)])
    text = Page(write_report(made, None, summary_of(made))).text
    assert "No clip has a figure to be ranked by" in text
    assert text.count("1 failed") == len(METRICS)


def test_chart_says_what_it_shows_and_draws_every_figure() -> None:
    values = np.array([0.1, 0.2, 0.2, 0.4])
    drawn = str(distribution(display_of("estoi"), {"network": ("Network", values, 0.225)}))
    assert "Network: mean 0.225 of 4" in drawn
    (bars,) = re.findall(r'class="bars network" d="M84 46(.*?)V46Z"', drawn)
    heights = [46 - float(top) for top in re.findall(r"V([\d.]+)h", bars)]
    # half of the clips stand at full height, 36, a quarter at half of it
    assert sorted(height for height in heights if height) == [18, 18, 36]
    seconds = np.array([1.0, 2.0, 3.0, 3.0])
    points = re.findall(r"M([\d.]+) ([\d.]+)h0", str(against_length(display_of("estoi"), seconds, values, np.ones(4))))
    assert points == [("84", "200"), ("217", "136"), ("350", "136"), ("350", "8")]


def test_chart_running_mean_of_a_rate_is_weighted_and_outliers_stay_at_the_edge() -> None:
    seconds = np.arange(100.0)
    values, weights = np.where(np.arange(100) % 2, 1.0, 0.0), np.where(np.arange(100) % 2, 3.0, 1.0)
    drawn = str(against_length(display_of("wer"), seconds, values, weights))
    assert "Running mean: 75.0 among the shortest, 75.0 among the longest" in drawn
    assert beyond(display_of("wer"), values) == 0
    assert beyond(display_of("wer"), np.append(np.linspace(0, 1, 1000), 50.0)) == 1
