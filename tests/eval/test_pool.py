"""Scores do not depend on the number of processes; neither a process nor a program that dies leaves any behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from eval.metrics import Display, registry
from eval.metrics.optional import PackageMissingError
from eval.metrics.pair_scores import PairScores, score
from eval.metrics.pool import ScoringPool
from eval.metrics.registry import SPEECH_METRICS, display_of, metric_of
from eval.metrics.scoring_process import ScoringProcess, ScoringStoppedError
from tests.eval.sounds import Wave, noisy, sentence
from tests.processes import alive, wait_for

NAMES = ["stoi", "estoi", "pesq", "pesq_wide"]


@pytest.fixture
def pair() -> tuple[Wave, Wave]:
    return sentence(), noisy(sentence())


def _pairs() -> Iterator[tuple[str, Wave, Wave]]:
    for number, level in enumerate([0.003, 0.03, 0.1]):
        yield f"clip{number}", sentence(), noisy(sentence(), level)
    # too short for STOI, long enough for PESQ
    yield "short", sentence()[4000:9500], noisy(sentence())[4000:9500]
    yield "silent", sentence(), np.zeros(20_000, np.float32)
    yield "empty", sentence(), sentence()[:0]


def _scored(processes: int) -> dict[str, PairScores]:
    with ScoringPool(NAMES, processes) as pool:
        for key, original, generated in _pairs():
            pool.submit(key, original, generated)
        return pool.results()


def test_pool_gives_the_scores_of_one_process_in_the_order_submitted() -> None:
    here, there = _scored(0), _scored(2)
    assert list(there) == ["clip0", "clip1", "clip2", "short", "silent", "empty"]
    assert list(here) == list(there)
    for key in here:
        assert here[key].failed == there[key].failed
        # one thread or several may add in another order
        assert here[key].values == pytest.approx(there[key].values, abs=1e-9)


def test_score_of_a_metric_without_a_figure_costs_its_own_only() -> None:
    scored = _scored(0)
    assert list(scored["clip0"].values) == NAMES
    assert scored["clip0"].failed == {}
    assert list(scored["short"].values) == ["pesq", "pesq_wide"]
    assert "less than 0.4 s of sound" in scored["short"].failed["stoi"]
    assert list(scored["short"].failed) == ["stoi", "estoi"]
    assert scored["silent"].values == {}
    assert set(scored["silent"].failed.values()) == {"the generated is silent throughout"}
    assert set(scored["empty"].failed.values()) == {"the generated is empty"}


@pytest.fixture
def plugs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `plugs` of somebody's own metrics."""
    (tmp_path / "plugs.py").write_text(
        "from eval.metrics import Display, Metric\n"
        "def length(original, generated):\n"
        "    return len(original) - len(generated)\n"
        "def broken(original, generated):\n"
        "    raise KeyError('speaker')\n"
        "def endless(original, generated):\n"
        "    return float('inf')\n"
        "def nothing_returned(original, generated):\n"
        "    return None\n"
        "def missing(original, generated):\n"
        "    import surely_not_installed\n"
        "def exits(original, generated):\n"
        "    import os\n"
        "    os._exit(3)\n"
        "def leaves(original, generated):\n"
        "    raise SystemExit(4)\n"
        "def crashes(original, generated):\n"
        "    import ctypes\n"
        "    ctypes.string_at(0)\n"
        "def hangs(original, generated):\n"
        "    print('before')\n"
        "    while True:\n"
        "        pass\n"
        "def stops(original, generated):\n"
        "    import os, signal\n"
        "    os.kill(os.getpid(), signal.SIGSTOP)\n"
        "def loud(original, generated):\n"
        "    raise ValueError('x' * 10_000_000)\n"
        "def huge(original, generated):\n"
        "    return 1e300\n"
        "HUM = Metric(Display('Hum', 1, False, 'dB'), length, alone=True)\n"
        "NUMBER = 3\n"
    )
    (tmp_path / "lacking.py").write_text("import surely_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.usefixtures("plugs")
def test_score_survives_an_error_inside_a_metric_and_names_it(processes: int, pair: tuple[Wave, Wave]) -> None:
    names = ["plugs:broken", "plugs:endless", "plugs:nothing_returned", "plugs:length", "stoi"]
    with ScoringPool(names, processes) as pool:
        pool.submit("one", *pair)
        scored = pool.results()["one"]
    assert scored == score(names, *pair)
    assert scored.values == {
        "plugs:length": 0.0,
        "stoi": pytest.approx(SPEECH_METRICS["stoi"].function(*pair), abs=1e-9),
    }
    assert scored.failed.pop("plugs:nothing_returned").startswith("TypeError: ")
    assert scored.failed == {"plugs:broken": "KeyError: 'speaker'", "plugs:endless": "comes out as inf"}


@pytest.mark.usefixtures("plugs")
def test_scoring_process_that_dies_or_hangs_costs_the_figure_of_the_metric_at_fault(pair: tuple[Wave, Wave]) -> None:
    names = [f"plugs:{name}" for name in ("length", "exits", "crashes", "hangs", "leaves", "stops", "loud", "huge")]
    with ScoringProcess(names, seconds=2.0) as process:
        first = process.pid
        scored = process.score([*names, "plugs:HUM"], *pair)
        assert process.pid != first
    assert scored.values == {"plugs:length": 0.0, "plugs:HUM": 0.0}
    assert len(scored.failed.pop("plugs:loud")) == 1000
    died = "the process that measured it died: "
    assert scored.failed == {
        "plugs:exits": f"{died}exit status 3",
        "plugs:crashes": f"{died}SIGSEGV",
        "plugs:hangs": "timed out after 2 s",
        "plugs:leaves": f"{died}exit status 4",
        "plugs:stops": "timed out after 2 s",
        "plugs:huge": "comes out as 1e+300",
    }


@pytest.mark.usefixtures("plugs")
def test_scoring_process_names_packages_that_are_not_installed(pair: tuple[Wave, Wave]) -> None:
    with (
        ScoringProcess(["plugs:missing"]) as process,
        pytest.raises(PackageMissingError, match="surely_not_installed"),
    ):
        process.score(["plugs:missing"], *pair)


def test_scoring_process_that_cannot_start_is_an_error(
    pair: tuple[Wave, Wave], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.metrics.scoring_process._PROGRAM", "raise SystemExit(9)")
    with (
        ScoringProcess(["stoi"]) as process,
        pytest.raises(ScoringStoppedError, match=r"does not start: .*exit status 9"),
    ):
        process.score(["stoi"], *pair)


@pytest.mark.usefixtures("plugs")
def test_score_raises_for_packages_that_are_not_installed(
    pair: tuple[Wave, Wave], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ImportError, match="surely_not_installed"):
        score(["plugs:missing"], *pair)
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(ImportError, match="pesq"):
        score(["stoi", "pesq"], *pair)
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    with pytest.raises(PackageMissingError, match=r"pip install -e '\.\[judges\]'"):
        ScoringPool(["similarity"], 0)


@pytest.mark.usefixtures("plugs")
def test_metric_of_an_import_path_is_displayed_as_it_says() -> None:
    assert metric_of("plugs:length").display == Display("length", 3, True)
    assert metric_of("plugs:HUM").display == display_of("plugs:HUM") == Display("Hum", 1, False, "dB")
    assert metric_of("plugs:HUM").alone
    for name, why in {
        "l1": "expected one of stoi, .*mos, or package.module:function",
        "plugs": "expected one of stoi",
        "plugs:": "expected one of stoi",
        "plugs:nothing": "plugs has no nothing; expected a function",
        "plugs:NUMBER": "plugs has a int for NUMBER",
        "surely_not:there": "surely_not cannot be imported",
        "lacking:metric": "lacking cannot be imported: No module named 'surely_not_installed'",
    }.items():
        with pytest.raises(ValueError, match=f"metric '?{name}'?: .*{why}"):
            metric_of(name)


@pytest.mark.usefixtures("plugs")
def test_display_of_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_imported", {})
    for name in ("lacking:metric", "json.tool:main", "plugs:broken", "plugs:HUM.display"):
        before = set(sys.modules)
        with pytest.raises(ValueError, match=f"no metric that this command knows: '{name}'"):
            display_of(name)
        assert set(sys.modules) == before
    metric_of("plugs:broken")
    assert display_of("plugs:broken").title == "broken"


def test_displays_have_unique_titles_and_a_direction() -> None:
    names = [*SPEECH_METRICS, "l1", "wer", "cer", "lips_wer", "lips_cer"]
    assert len({display_of(name).title for name in names}) == len(names)
    better_high = [name for name in names if display_of(name).higher_is_better]
    assert better_high == ["stoi", "estoi", "pesq", "pesq_wide", "similarity", "mos"]
    assert [name for name in names if name in SPEECH_METRICS and SPEECH_METRICS[name].alone] == ["mos"]
    with pytest.raises(ValueError, match="no metric that this command knows: 'loudness'"):
        display_of("loudness")


@pytest.mark.parametrize("processes", [0, 1])
def test_pool_copies_arrays_on_submit(processes: int, pair: tuple[Wave, Wave]) -> None:
    with ScoringPool(["stoi"], processes) as pool:
        original, generated = (wave.copy() for wave in pair)
        for number in range(4):
            pool.submit(str(number), original, generated)
        original[:] = generated[:] = 0
        assert len({scored.values["stoi"] for scored in pool.results().values()}) == 1


def test_pool_keeps_its_processes_after_results(pair: tuple[Wave, Wave]) -> None:
    with ScoringPool(["stoi"], 1) as pool:
        (child,) = pool.pids
        for _ in range(2):
            pool.submit("one", *pair)
            assert list(pool.results()) == ["one"]
            assert pool.results() == {}
        assert pool.pids == [child]
        assert alive(child)


def test_pool_with_a_killed_process_scores_the_pair_in_a_new_one(pair: tuple[Wave, Wave]) -> None:
    with ScoringPool(["stoi"], 1) as pool:
        (child,) = pool.pids
        os.kill(child, signal.SIGSTOP)  # so that the next pair is surely not scored
        pool.submit("main/one", *pair)
        os.kill(child, signal.SIGKILL)
        assert pool.results()["main/one"].values.keys() == {"stoi"}
        assert pool.pids != [child]


def test_pool_close_ends_processes_in_the_middle_of_their_work(pair: tuple[Wave, Wave]) -> None:
    with ScoringPool(["stoi"], 2) as pool:
        children = pool.pids
        for pid in children:
            os.kill(pid, signal.SIGSTOP)
        for number in range(5):
            pool.submit(str(number), *pair)
    assert len(children) == 2
    assert not any(map(alive, children))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_pool_processes_ignore_sigterm_and_sigint(
    number: signal.Signals, pair: tuple[Wave, Wave], request: pytest.FixtureRequest
) -> None:
    # whatever started the tests may have it ignored
    request.addfinalizer(partial(signal.signal, number, signal.signal(number, signal.SIG_DFL)))
    with ScoringPool(["stoi"], 1) as pool:
        (child,) = pool.pids
        pool.submit("first", *pair)
        pool.results()  # from here on it has begun
        os.kill(child, number)
        pool.submit("next", *pair)
        assert pool.results()["next"].values.keys() == {"stoi"}
        assert alive(child)


def test_pool_processes_use_one_thread_each_and_the_caller_as_many_as_before(pair: tuple[Wave, Wave]) -> None:
    long = [np.tile(wave, 4) for wave in pair]  # products of small matrices take one thread anyway
    with threadpool_limits(2, "blas"), ScoringPool(NAMES, 1) as pool:
        (child,) = pool.pids
        pool.submit("first", *long)
        pool.results()
        # besides the one that scores there is the one that watches the parent
        assert len(os.listdir(f"/proc/{child}/task")) == 2
        assert {found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"} == {2}


def test_pool_processes_end_when_their_program_is_killed() -> None:
    program = (
        "import os, signal\n"
        "from eval.metrics.pool import ScoringPool\n"
        "pool = ScoringPool(['stoi'], 2)\n"
        "print(*pool.pids, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    started = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    children = [int(pid) for pid in started.stdout.readline().split()]
    started.wait()
    assert len(children) == 2
    wait_for(lambda: not any(map(alive, children)), "scoring processes to end with their program")
    started.stdout.close()


def test_pool_refuses_wrong_names_counts_keys_and_arrays(pair: tuple[Wave, Wave]) -> None:
    with pytest.raises(
        ValueError, match=r"metric 'stio': expected one of stoi, estoi, pesq, pesq_wide, .*, or package.module"
    ):
        ScoringPool(["stoi", "stio"], 0)
    with pytest.raises(ValueError, match="-1 scoring processes"):
        ScoringPool(["stoi"], -1)
    pool = ScoringPool(["stoi"], 0)
    pool.submit("a", *pair)
    with pytest.raises(ValueError, match="a was given before"):
        pool.submit("a", *pair)
    with pytest.raises(ValueError, match=r"b: the generated is float32 \(1, \d+\): expected float32 \(samples,\)"):
        pool.submit("b", pair[0], pair[1][None])
