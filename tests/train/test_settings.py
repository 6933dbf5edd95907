"""Numbers of settings that make no sense are refused by name before anything starts: every field, by its type."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.settings_numbers import check_numbers
from train.__main__ import main, parse
from train.settings import Stage, TrainSettings

MAY_BE_0 = frozenset(
    [
        *("seed", "workers", "max_skipped_share", "network.visual.dropout", "network.visual.conformer.dropout"),
        *("network.visual.conformer.layers", "asr.conformer.layers", "asr.conformer.dropout", "network.vocabulary"),
        *(f"spec_augment.{name}" for name in ("time_masks", "time_frames", "time_share", "band_masks", "bands")),
        *(f"transforms.{name}" for name in ("mean", "max_shift", "erase_size", "erase_overhang")),
        *("transforms.flip_probability", "transforms.mask_probability"),
        *(
            f"losses.{name}"
            for name in ("mel", "ctc", "content", "delta", "estoi", "content_after_epoch", "content_below")
        ),
        *("optimizer.learning_rate", "optimizer.weight_decay", "schedule.warmup_steps", "schedule.last"),
        *("validation.examples", "validation.processes", "cache.pause"),
        *("vocoder.mel.fmin", "vocoder.mel.preemphasis"),
        *("network.units", "asr.units", "losses.units", "losses.intermediate_ctc", "losses.distillation"),
    ]
)
"""Every other number has to be more."""


def _numbers(settings: Any, where: str = "") -> Iterator[tuple[str, type]]:
    """Names of settings that are numbers, and their types; of those that may be None, too."""
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), f"{where}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _numbers(value, f"{name}.")
        elif "Literal" not in (kind := str(field.type)) and ("int" in kind or "float" in kind):
            yield name, float if "float" in kind else int


NUMBERS = dict(_numbers(TrainSettings()))
WHOLE = TrainSettings()


def _changed(settings: Any, name: str, value: Any) -> Any:
    """The settings with one replaced, as the command line does after it has looked at types."""
    first, _, rest = name.partition(".")
    return dataclasses.replace(settings, **{first: _changed(getattr(settings, first), rest, value) if rest else value})


def _in_type(name: str, value: Any) -> Any:
    """In a tuple where the setting is one."""
    found: Any = WHOLE
    for part in name.split("."):
        found = getattr(found, part)
    return (value, *found[1:]) if isinstance(found, tuple) else value


@pytest.mark.parametrize("name", NUMBERS)
def test_number_that_makes_no_sense_is_refused_by_its_name(name: str) -> None:
    absurd: list[Any] = [-1, -(10**18), 10**19]
    if NUMBERS[name] is float:
        absurd += [float("nan"), float("inf"), -float("inf"), -0.5, 1e300]
    if name not in MAY_BE_0:
        absurd.append(0)
    for value in absurd:
        with pytest.raises(ValueError, match=name.rpartition(".")[2]):
            _changed(WHOLE, name, _in_type(name, value))
    if name in MAY_BE_0:
        _changed(WHOLE, name, _in_type(name, 0))


def test_every_number_of_the_settings_is_looked_at() -> None:
    assert len(NUMBERS) > 70
    assert NUMBERS.keys() >= MAY_BE_0


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(("optimizer.learning_rate", value) for value in ("nan", "inf", "-1", "1e300", "x")),
        *(("seed", value) for value in ("-1", "1e12", "99999999999999999999", "nan")),
        *(("segments.max_frames", value) for value in ("0", "1e12", "1000000000000")),
        *(("batch.max_padded_frames", value) for value in ("0", "-5", "1000000000000")),
        *(("schedule.steps", value) for value in ("0", "-1", "nan")),
        ("curriculum", "[{epochs: 1, max_words: 1, max_frames: 1000000000000}]"),
        ("network.speaker.channels", "[8, -1]"),
    ],
)
def test_command_line_with_such_a_number_ends_with_status_2(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main([f"--{flag}={value}"])
    except SystemExit as error:  # of the parser, for another type
        status = int(str(error.code))
    assert status == 2
    message = capsys.readouterr().err
    assert flag.rpartition(".")[2] in message
    assert "Traceback" not in message


def test_numbers_inside_of_tuples_are_looked_at() -> None:
    check_numbers(TrainSettings(curriculum=(Stage(1, 1, 100),)))
    with pytest.raises(ValueError, match=r"curriculum\.max_frames: 1,000,000,000,000"):
        TrainSettings(curriculum=(Stage(1, 1, 10**12),))


def test_warmup_beyond_the_last_step_is_allowed_for_trials() -> None:
    assert parse(["--schedule.steps=7", "--schedule.warmup-steps=50"])[0].schedule.steps == 7
