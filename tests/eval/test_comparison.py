"""Evaluations compared clip by clip: known differences give known figures, and what does not fit is said."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.compare.command import names_of, run
from eval.compare.comparison import ExcludedClips, compare
from eval.compare.table import markdown, rows_of
from eval.result_schema import FORMAT, ResultsError, schema_of
from eval.results import ABOUT_NAME, Evaluation, table_of, write_clips, write_json
from eval.statistics import FLIPS, holm, sign_flip_p
from shards import Store
from shards.format.wav import encode_wav
from tests.eval.browser import chromium, opened

HOSTILE = '</script><img src=x onerror="alert(1)">|*`'


def row(key: str, system: str = "network", **columns: Any) -> dict[str, Any]:
    about = {
        "key": key,
        "split": "test",
        "speaker": key.partition("/")[0],
        "frames": 25,
        "seconds": 1.0,
        "speaker_reference": "s/0",
    }
    return about | {"system": system, "text": "bin blue", "wav": f"wav/{system}/{key}.wav"} | columns


def evaluation(rows: list[dict[str, Any]], metrics: list[str], identity: dict[str, Any] | None = None) -> Evaluation:
    return Evaluation(Path("a"), {"identity": identity or {}}, pa.Table.from_pylist(rows, schema=schema_of(metrics)))


def of_figures(figures: Mapping[str, float | None], metric: str = "estoi", **identity: Any) -> Evaluation:
    return evaluation([row(key) | {metric: figure} for key, figure in figures.items()], [metric], identity)


def of_errors(counts: Mapping[str, tuple[int, int]]) -> Evaluation:
    return evaluation([row(key, word_errors=errors, words=words) for key, (errors, words) in counts.items()], [])


def drawn(clips: int, seed: int, mean: float = 0.0) -> dict[str, float | None]:
    values = np.random.default_rng(seed).normal(mean, 0.1, clips)
    return {f"s/{number:04}": float(value) for number, value in enumerate(values)}


def plus(figures: Mapping[str, float | None], change: float) -> dict[str, float | None]:
    return {key: figure + change for key, figure in figures.items() if figure is not None}


def test_compare_of_known_differences_gives_known_figures() -> None:
    first = {"s/1": 0.25, "s/2": 0.5, "s/3": 0.5, "s/4": 0.25}
    other = {"s/1": 0.5, "s/2": 0.75, "s/3": 0.5, "s/4": 0.125}
    of = compare({"a": of_figures(first), "b": of_figures(other)}).metrics["estoi"]
    found = of.differences["b"]
    assert of.means == {"a": 0.375, "b": 0.46875}
    assert found.mean == 0.09375
    assert -0.125 <= found.low < found.mean < found.high <= 0.25
    assert (found.win_rate, found.ties) == (0.625, 1)
    # 0.375 in all: of the 16 flips, those of the clip that is equal doubling the rest, 4 reach it
    assert found.p == pytest.approx(0.5, abs=0.02)
    assert of.paired.keys == ["s/1", "s/2", "s/3", "s/4"]
    assert not of.excluded


@pytest.mark.parametrize(("metric", "wins"), [("estoi", 1.0), ("l1", 0.0), ("mcd", 0.0), ("mos", 1.0)])
def test_compare_takes_the_better_direction_from_the_metric(metric: str, wins: float) -> None:
    first = drawn(30, seed=0)
    found = compare({"a": of_figures(first, metric), "b": of_figures(plus(first, 0.1), metric)})
    assert found.metrics[metric].differences["b"].win_rate == wins
    assert found.metrics[metric].differences["b"].mean == pytest.approx(0.1)
    assert (found.metrics[metric].gains("b") > 0).all() == bool(wins)
    assert rows_of(found, metric)[0]["verdict"] == ("better" if wins else "worse")


def test_compare_of_word_error_rates_is_that_of_the_pooled_rates() -> None:
    numbers = np.random.default_rng(3)
    words = numbers.integers(1, 30, 50)
    first, other = numbers.integers(0, words + 1), numbers.integers(0, words + 1)
    keys = [f"s/{number}" for number in range(50)]
    found = compare(
        {
            name: of_errors({key: (int(e), int(w)) for key, e, w in zip(keys, errors, words, strict=True)})
            for name, errors in (("a", first), ("b", other))
        }
    ).metrics["wer"]
    pooled = other.sum() / words.sum() - first.sum() / words.sum()
    assert found.differences["b"].mean == pytest.approx(pooled, abs=1e-12)
    assert pooled != pytest.approx((other / words - first / words).mean(), abs=1e-3)  # which is another question
    # the interval of the difference of rates, with clips drawn for both alike
    draws = np.random.default_rng(9).integers(50, size=(20_000, 50))
    rates = [errors[draws].sum(axis=1) / words[draws].sum(axis=1) for errors in (first, other)]
    low, high = np.quantile(rates[1] - rates[0], [0.025, 0.975])
    assert found.differences["b"].low == pytest.approx(low, abs=0.005)
    assert found.differences["b"].high == pytest.approx(high, abs=0.005)


def test_compare_does_not_depend_on_the_order_of_clips() -> None:
    first, other = drawn(40, seed=1), drawn(40, seed=2, mean=0.02)
    one = compare({"a": of_figures(first), "b": of_figures(other)})
    keys = list(other)
    random.Random(0).shuffle(keys)
    assert keys != list(other)
    shuffled = compare({"a": of_figures(first), "b": of_figures({key: other[key] for key in keys})})
    assert one.as_json() == shuffled.as_json()


def test_sign_flip_p_is_uniform_where_nothing_differs_and_tiny_where_something_does() -> None:
    chance = np.random.default_rng(0)
    p = np.array([sign_flip_p(chance.standard_t(4, 25), flips=999, seed=seed) for seed in range(600)])
    for level in (0.05, 0.25, 0.5, 0.75):
        # three standard errors of a share of 600
        assert np.mean(p <= level) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 600))
    assert sign_flip_p(chance.normal(0.5, 1.0, 200)) == 1 / (1 + FLIPS)


@pytest.mark.parametrize("clips", [3, 8, 9])
def test_sign_flip_p_is_that_of_all_flips(clips: int) -> None:
    differences = np.random.default_rng(clips).normal(0.4, 1.0, clips)
    sums = np.array(list(product((-1, 1), repeat=clips))) @ differences
    exact = np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-9)
    # three standard errors of a share of 10,000
    assert sign_flip_p(differences) == pytest.approx(exact, abs=3 * np.sqrt(exact * (1 - exact) / FLIPS) + 1e-4)
    assert sign_flip_p(-differences) == pytest.approx(exact, abs=3 * np.sqrt(exact * (1 - exact) / FLIPS) + 1e-4)


def test_compare_of_equal_evaluations_has_a_p_of_one_and_wins_half() -> None:
    first = drawn(20, seed=0)
    found = compare({"a": of_figures(first), "b": of_figures(first)}).metrics["estoi"].differences["b"]
    assert (found.mean, found.low, found.high, found.p, found.win_rate) == (0, 0, 0, 1, 0.5)


def test_sign_flip_p_of_equal_differences_does_not_depend_on_rounding() -> None:
    # 2 of 2 ** 10 flips are as far from 0, though 0.1 ten times is not 1
    assert sign_flip_p(np.full(10, 0.1)) == pytest.approx(2 / 2**10, abs=0.0015)


def test_holm_correction() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_compare_corrects_p_over_metrics_and_evaluations() -> None:
    figures = drawn(40, seed=0)
    rows = [row(key, estoi=figure, pesq=figure) for key, figure in figures.items()]
    others = {name: [one | {"estoi": one["estoi"] + 0.1} for one in rows] for name in ("b", "c")}
    of = {name: evaluation(them, ["estoi", "pesq"]) for name, them in {"a": rows, **others}.items()}
    found = compare(of).metrics
    assert [found["estoi"].differences[name].p for name in "bc"] == [1 / (1 + FLIPS)] * 2
    assert [found["estoi"].differences[name].p_holm for name in "bc"] == pytest.approx([4 / (1 + FLIPS)] * 2)
    assert [found["pesq"].differences[name].p_holm for name in "bc"] == [1, 1]


def test_compare_counts_excluded_clips_by_reason() -> None:
    failed = json.dumps({"estoi": "the generated is silent throughout"})
    first = evaluation([row(f"s/{n}", estoi=0.5) for n in range(9)], ["estoi"])
    rows = [row(f"s/{n}", estoi=0.25) for n in range(2, 7)]
    rows += [row("s/7", failed=failed), row("s/8", failed=failed), row("s/9", estoi=0.1)]
    found = compare({"a": first, "b": evaluation(rows, ["estoi"])})
    of = found.metrics["estoi"]
    assert found.clips == 7
    assert len(of.paired.keys) == 5
    assert of.differences["b"].mean == -0.25
    assert found.excluded == [ExcludedClips("not evaluated", ("b",), 2), ExcludedClips("not evaluated", ("a",), 1)]
    assert of.excluded == [ExcludedClips("the generated is silent throughout", ("b",), 2)]
    assert "2 clips: the generated is silent throughout (b)" in "\n".join(markdown(found))


def test_compare_excludes_clips_whose_words_are_not_counted_alike() -> None:
    found = compare(
        {
            "a": of_errors({"s/1": (1, 4), "s/2": (2, 4), "s/3": (1, 0)}),
            "b": of_errors({"s/1": (2, 4), "s/2": (2, 5), "s/3": (0, 0)}),
        }
    ).metrics["wer"]
    assert found.paired.keys == ["s/1"]
    assert sorted(one.reason.partition(":")[0] for one in found.excluded) == [
        "errors are not counted over the same length",
        "no reference text to count errors over",
    ]


def test_compare_names_metrics_that_not_all_have() -> None:
    rows = [row(f"s/{n}", estoi=0.5, pesq=1.0, mcd=1.0) for n in range(5)]
    first = evaluation(rows, ["mcd", "estoi", "pesq"])
    other = evaluation([one | {"mcd": None} for one in rows], ["mcd", "estoi"])
    found = compare({"a": first, "b": other})
    assert list(found.metrics) == ["estoi"]
    assert found.ranked_by == "estoi"
    assert found.not_compared["pesq"] == "not measured in b"
    assert "no clip has a figure in every evaluation" in found.not_compared["mcd"]


def test_compare_does_not_compare_metrics_that_it_does_not_know() -> None:
    """Nothing that a column names is imported."""
    name = "json.tool:main"
    columns = {name: 1.0, "estoi": 0.5}
    before = set(sys.modules)
    found = compare({each: evaluation([row("s/1") | columns], [name, "estoi"]) for each in ("a", "b")})
    assert list(found.metrics) == ["estoi"]
    assert "json.tool:main" in found.not_compared[name]
    assert set(sys.modules) == before


def test_command_compares_the_metrics_of_others_that_it_is_given(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "noise_of_mine:snr"
    (tmp_path / "noise_of_mine.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\ndef snr(original, generated): return 1.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for folder in folders:
        rows = [each | {name: 1.0} for each in Evaluation.open(folder).clips.to_pylist()]
        write_clips(Store(str(folder)), table_of(rows, ["estoi", name]))
    assert run_command(*folders[:2], "--out", tmp_path / "x") == 0
    assert not (tmp_path / "ran").exists(), "only the command line says what is imported"
    assert name in json.loads((tmp_path / "x/comparison.json").read_text())["not_compared"]
    assert run_command(*folders[:2], "--out", tmp_path / "x", "--metrics", name) == 0
    assert (tmp_path / "ran").exists()
    assert name in json.loads((tmp_path / "x/comparison.json").read_text())["metrics"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"key": "../../s"}, "row 0: '../../s' cannot be a clip's key"),
        ({"system": "x"}, "row 0: system 'x', and one of network"),
        ({"failed": "[" * 100_000}, "row 0: failed"),
        ({"failed": "3"}, "row 0: failed '3', and reasons by metric"),
    ],
)
def test_evaluation_open_refuses_rows_that_no_evaluation_writes(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = write_evaluation(tmp_path / "a", {"s/1": 0.5})
    rows = pa.Table.from_pylist([row("s/1") | {"estoi": 0.5} | columns], schema=schema_of(["estoi"]))
    write_clips(Store(str(folder)), rows)
    with pytest.raises(ResultsError, match=rf"clips\.parquet: {re.escape(message)}"):
        Evaluation.open(folder)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"format": 2, "identity": [1]}',
        '{"format": 2, "versions": ' + 50 * '{"a":' + "1" + 51 * "}",
        "[" * 99_999,
        '{"format": 2}' + " " * (17 << 20),
    ],
    ids=["list", "identity", "deep", "deeper", "large"],
)
def test_evaluation_open_refuses_a_description_that_no_evaluation_writes(content: str, tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "a", {"s/1": 0.5})
    (folder / ABOUT_NAME).write_text(content)
    with pytest.raises(ResultsError, match=r"evaluation\.json: "):
        Evaluation.open(folder)


def test_evaluation_open_refuses_columns_of_another_type_and_millions_of_rows(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "a", {"s/1": 0.5})
    table = Evaluation.open(folder).clips
    write_clips(Store(str(folder)), table.set_column(table.column_names.index("frames"), "frames", [pa.array(["x"])]))
    with pytest.raises(ResultsError, match=r"clips\.parquet: column 'frames' is of string, and int32 was expected"):
        Evaluation.open(folder)
    pq.write_table(pa.table({"key": pa.nulls(6_000_000)}), folder / "clips.parquet")
    with pytest.raises(ResultsError, match=r"clips\.parquet: .*rows: 6,000,000, and at most 2,000,000 is allowed"):
        Evaluation.open(folder)


def test_compare_warns_of_settings_and_clips_that_differ() -> None:
    first = of_figures({"s/1": 0.5, "s/2": 0.5}, speaker_reference="other", vocoder="default", checkpoint="1f", seed=0)
    other = of_figures(
        {"s/1": 0.5, "s/2": 0.5}, speaker_reference="other", vocoder="published", checkpoint="2a", seed=1
    )
    rows = other.clips.to_pylist()
    rows[1]["frames"] = 24
    other = Evaluation(other.folder, other.about, pa.Table.from_pylist(rows, schema=other.clips.schema))
    assert compare({"a": first, "b": other}).warnings == [
        "vocoder is not the same: default in a, published in b",
        "the length of 1 clip is not the same, such as of s/2",
    ]
    assert compare({"a": first, "b": first}).warnings == []


def test_compare_refuses_evaluations_without_a_clip_in_common() -> None:
    first, other = of_figures({"s/1": 0.5}, dataset="lrs2"), of_figures({"t/1": 0.5}, dataset="lrs3")
    with pytest.raises(ValueError, match=r"no clip is in every evaluation.*s/1.*t/1.*dataset is not the same"):
        compare({"a": first, "b": other})


def test_compare_refuses_evaluations_without_a_metric_in_common() -> None:
    with pytest.raises(ValueError, match=r"no metric can be compared: estoi: not measured in b; l1: not measured in a"):
        compare({"a": of_figures({"s/1": 0.5}), "b": of_figures({"s/1": 0.5}, "l1")})


def test_compare_refuses_a_clip_that_occurs_twice() -> None:
    twice = evaluation([row("s/1", estoi=0.5), row("s/1", estoi=0.6)], ["estoi"])
    with pytest.raises(ValueError, match="2 rows of the network for 1 clips"):
        compare({"a": twice, "b": of_figures({"s/1": 0.5})})


def test_compare_refuses_a_single_evaluation() -> None:
    with pytest.raises(ValueError, match="two at least"):
        compare({"a": of_figures({"s/1": 0.5})})


def test_compare_of_one_clip_has_a_p_of_one() -> None:
    found = compare({"a": of_figures({"s/1": 0.25}), "b": of_figures({"s/1": 0.75})}).metrics["estoi"].differences["b"]
    assert (found.mean, found.low, found.high, found.p) == (0.5, 0.5, 0.5, 1)


def test_names_of_folders_of_the_same_name_differ(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("x/one/test", "x/two/test")]
    assert names_of(folders) == ["one/test", "two/test"]
    assert names_of([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    with pytest.raises(ValueError, match="named twice"):
        names_of([tmp_path / "a", tmp_path / "b" / ".." / "a"])


def write_evaluation(folder: Path, figures: Mapping[str, float], text: str = "bin blue", **about: Any) -> Path:
    """A folder as an evaluation leaves it: ESTOI, and a hypothesis with one error in two words."""
    store = Store(str(folder))
    write_json(store, ABOUT_NAME, {"format": FORMAT, "identity": {"vocoder": "default"}} | about)
    recognized = {
        "hypothesis": "bin blew",
        "word_errors": 1,
        "words": 2,
        "character_errors": 2,
        "characters": 8,
        "text": text,
    }
    rows = [row(key, estoi=figure) | recognized for key, figure in figures.items()]
    write_clips(store, table_of(rows, ["estoi"]))
    wave = np.random.default_rng(0).integers(-3000, 3000, 16_000).astype(np.int16)
    for key, system in product(figures, ("network", "original")):
        store.write(f"wav/{system}/{key}.wav", encode_wav(wave))
    return folder


def run_command(*arguments: str | Path) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    first = {f"s/{number}": 0.25 + number / 32 for number in range(9)}
    changes = [0.5, 0.125, 0.125, 0.125, 0.0625, 0.125, 0.125, 0.125, -0.25]
    other = {key: figure + change for (key, figure), change in zip(first.items(), changes, strict=True)}
    return [write_evaluation(tmp_path / "a", first), write_evaluation(tmp_path / "b", other)]


def cells(page: str) -> dict[tuple[str, str], dict[str, float]]:
    """Figures of the page's table: metric and evaluation -> column -> number."""
    rows = re.findall(r'<tr data-metric="(\w+)" data-evaluation="(\w+)">(.*?)</tr>', page, re.DOTALL)
    return {
        (metric, name): {
            column: float(value) for column, value in re.findall(r'data-column="(\w+)" data-value="([^"]+)"', content)
        }
        for metric, name, content in rows
    }


def test_command_writes_figures_a_table_and_a_page_which_agree(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run_command(*folders, "--out", out) == 0
    found = json.loads((out / "comparison.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == ["comparison.json", "comparison.md", "report.html"]
    assert found["evaluations"] == ["a", "b"]
    assert found["metrics"]["estoi"]["differences"]["b"]["mean"] == pytest.approx(1.0625 / 9)
    shown = cells((out / "report.html").read_text())
    for metric in ("estoi", "wer", "cer"):
        of = found["metrics"][metric]
        assert shown[metric, "b"]["first"] == of["means"]["a"]
        assert shown[metric, "b"]["mean"] == of["means"]["b"]
        for column in ("p", "p_holm", "win_rate"):
            assert shown[metric, "b"][column] == of["differences"]["b"][column]
        assert shown[metric, "b"]["difference"] == of["differences"]["b"]["mean"]
    table = (out / "comparison.md").read_text()
    assert table in capsys.readouterr().out
    assert "| ESTOI (higher is better) | b | 0.375 | 0.493 | +0.1181 |" in table
    assert "| WER, % (lower is better) | b | 50.0 | 50.0 | +0.00 | +0.00 to +0.00 | 1.0000 | 1.0000 | 50.0% |" in table


def test_page_shows_the_clips_of_largest_gain_median_and_largest_loss(folders: list[Path], tmp_path: Path) -> None:
    run_command(*folders, "--out", tmp_path / "out", "--examples", "1")
    page = (tmp_path / "out" / "report.html").read_text()
    articles = re.findall(r'<article .*?data-key="([^"]+)">\s*<h3[^>]*><strong>([^<]+)</strong>, ([^;]+);', page)
    assert articles == [
        ("s/0", "Largest gain", "+0.5000"),
        ("s/5", "About the median", "+0.1250"),
        ("s/8", "Largest loss", "-0.2500"),
    ]
    assert page.count("<audio ") == page.count('<img class="mel"') == 9
    assert "<del>blue</del>" in page


def test_page_calls_the_last_clip_a_gain_where_every_clip_gains(tmp_path: Path) -> None:
    first = write_evaluation(tmp_path / "a", {"s/1": 0.25, "s/2": 0.25, "s/3": 0.25})
    other = write_evaluation(tmp_path / "b", {"s/1": 0.5, "s/2": 0.75, "s/3": 0.625})
    run_command(first, other, "--out", tmp_path / "out")
    ranks = re.findall(r"<h3[^>]*><strong>([^<]+)</strong>", (tmp_path / "out" / "report.html").read_text())
    assert ranks == ["Largest gain", "About the median", "Smallest gain"]


def test_command_compares_three_evaluations_with_the_first(folders: list[Path], tmp_path: Path) -> None:
    third = write_evaluation(tmp_path / "c", {f"s/{number}": 0.5 for number in range(1, 10)})
    run_command(*folders, third, "--out", tmp_path / "out", "--names", "plain", "longer", "wider")
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert list(found["metrics"]["estoi"]["differences"]) == ["longer", "wider"]
    assert found["clips"] == 8
    page = (tmp_path / "out" / "report.html").read_text()
    assert "(<bdi>longer</bdi>)" in page
    assert "(<bdi>wider</bdi>)" in page


def test_command_writes_the_same_files_for_the_same_evaluations(folders: list[Path], tmp_path: Path) -> None:
    outs = [tmp_path / "one", tmp_path / "two"]
    for out in outs:
        run_command(*folders, "--out", out)
    for name in ("comparison.json", "comparison.md", "report.html"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()


def test_page_shows_hostile_text_as_text(tmp_path: Path) -> None:
    about = {"command": HOSTILE, "settings": {HOSTILE: HOSTILE}, "identity": {"vocoder": HOSTILE}}
    first = write_evaluation(tmp_path / "a", {"s/1": 0.25, "s/2": 0.5}, HOSTILE, **about)
    other = write_evaluation(tmp_path / "b", {"s/1": 0.5, "s/2": 0.5}, HOSTILE)
    run_command(first, other, "--out", tmp_path / "out", "--names", f"a{HOSTILE}", f"b{HOSTILE}")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<img src=x" not in page
    assert page.count("<script") == page.count("</script>") == 2
    assert "&lt;/script&gt;&lt;img src=x onerror=" in page
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'")
    assert "unsafe" not in policy[1]
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    # a name may part no cell of the table
    lines = (tmp_path / "out" / "comparison.md").read_text().splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("| ")} == {12}
    assert not any("<img" in line.replace("\\<", "") for line in lines)


def test_page_names_a_waveform_that_is_missing(folders: list[Path], tmp_path: Path) -> None:
    for path in (folders[1] / "wav" / "network" / "s").iterdir():
        path.unlink()
    run_command(*folders, "--out", tmp_path / "out", "--examples", "1")
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<audio ") == 6
    assert page.count("No sound: <bdi>wav/network/s/0.wav is missing</bdi>") == 1


def test_command_refuses_what_cannot_be_compared(folders: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"only .*a was given, and it takes two"):
        run_command(folders[0], "--out", out)
    with pytest.raises(ValueError, match=r"nowhere: no evaluation lies here"):
        run_command(folders[0], tmp_path / "nowhere", "--out", out)
    with pytest.raises(ValueError, match="named twice"):
        run_command(folders[0], folders[0], "--out", out)
    with pytest.raises(ValueError, match="2 names were expected"):
        run_command(*folders, "--out", out, "--names", "one")
    with pytest.raises(ValueError, match="--examples 0"):
        run_command(*folders, "--out", out, "--examples", "0")
    with pytest.raises(ValueError, match=r"an evaluation lies there"):
        run_command(*folders, "--out", folders[1])
    other = write_evaluation(tmp_path / "c", {"t/1": 0.5})
    with pytest.raises(ValueError, match="no clip is in every evaluation"):
        run_command(folders[0], other, "--out", out)
    assert not out.exists()


@pytest.mark.slow
def test_page_works_in_a_browser_and_passes_an_accessibility_check(tmp_path: Path) -> None:
    first = write_evaluation(tmp_path / "a", {"s/1": 0.25, "s/2": 0.5, "s/3": 0.5}, HOSTILE, command=HOSTILE)
    other = write_evaluation(tmp_path / "b", {"s/1": 0.5, "s/2": 0.5, "s/3": 0.25}, HOSTILE)
    run_command(first, other, "--out", tmp_path / "out", "--names", "a", f"b{HOSTILE}")
    with chromium() as browser:
        for width in (1280, 390):
            with opened(browser, tmp_path / "out" / "report.html", width=width) as found:
                assert found.violations() == []
                assert found.page.evaluate("document.documentElement.scrollWidth") <= width
                found.page.locator("#table-figures thead button").nth(3).click()
                metrics = found.page.locator("#table-figures tbody tr").evaluate_all(
                    "all => all.map((one) => one.dataset.metric)"
                )
                assert metrics == ["cer", "estoi", "wer"]  # by their means, 0.25, 0.42 and 0.5
                sounds = found.page.locator("audio")
                assert sounds.count() == 9
                assert sounds.first.evaluate("async (sound) => { await sound.play(); return sound.duration; }") == 1
                assert found.wrong == []
