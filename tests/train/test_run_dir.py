"""Files of a run that are not as training writes them, full disks, folders that vanish: one sentence names the file."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.summary.writer import record_writer  # type: ignore[import-untyped]

from tests.train.runs import logged, task_flags
from train.__main__ import main
from train.run_dir import RunDir, append_lines
from train.step import OptimizerStep


def _run(shards: str, out: Path, *more: str, **settings: Any) -> int:
    return main(
        [*task_flags("asr", shards, out, **{"steps": 3, "every": 1, "validation.split": "null", **settings}), *more]
    )


def test_damaged_lines_of_a_log_are_dropped_and_kept_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_dir = RunDir(tmp_path)
    records = [{"kind": "train", "step": step, "l1": float("nan")} for step in (1, 2, 3)]
    append_lines(run_dir.log, records)
    good = run_dir.log.read_bytes().splitlines(keepends=True)
    garbage = [b"\xff\xfe\n", b"{}\n", b"null\n", b"[" * 100_000 + b"\n", b'{"step": "1"}\n', b"\0" * 50 + b"\n"]
    whole = b"".join([good[0], *garbage, *good[1:], b'{"step": 1'])
    run_dir.log.write_bytes(whole)
    run_dir.truncate_logs(2, 0)
    assert run_dir.log.read_bytes() == b"".join(good[:2])
    assert (tmp_path / "log.jsonl.damaged").read_bytes() == whole
    assert f"{run_dir.log}: {len(garbage)} lines" in caplog.text


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize("make", [_fifo, _link, Path.mkdir])
@pytest.mark.parametrize("name", ["lock", "log.jsonl", "skipped.jsonl"])
def test_file_of_a_run_that_is_no_regular_file_is_refused_by_name(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, make: Callable[[Path], None]
) -> None:
    out = tmp_path / "run"
    assert _run(shards, out, steps=1) == 0
    (out / name).unlink(missing_ok=True)
    make(out / name)
    with_errors = name == "skipped.jsonl" and make is _link  # it is opened when there is something to write down
    assert _run(shards, out, "--resume=auto") == (0 if with_errors else 2)
    assert with_errors or str(out / name) in capsys.readouterr().err
    assert not (out / "elsewhere").exists()
    if with_errors:
        with pytest.raises(ValueError, match=r"skipped\.jsonl: a link"):
            append_lines(out / name, [{"step": 1}])


def _before_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], Any]) -> None:
    take = OptimizerStep.take

    def noted(optimizer: OptimizerStep, state: Any, *arguments: Any) -> Any:
        if state.step == step:
            action()
        return take(optimizer, state, *arguments)

    monkeypatch.setattr(OptimizerStep, "take", noted)


def test_run_whose_folder_is_deleted_ends_with_the_name_of_its_log(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _before_step(monkeypatch, 1, lambda: shutil.rmtree(tmp_path / "run"))
    assert _run(shards, tmp_path / "run", every=9) == 2
    assert str(tmp_path / "run/log.jsonl") in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_tensorboard_files_that_cannot_be_written_end_the_run_by_name(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are written by a thread, whose error came out later or not at all."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    _before_step(monkeypatch, 1, lambda: monkeypatch.setattr(record_writer.RecordWriter, "write", full))
    assert _run(shards, tmp_path / "run") == 2
    message = capsys.readouterr().err
    assert str(tmp_path / "run/tensorboard") in message
    assert os.strerror(errno.ENOSPC) in message
    assert "Traceback" not in message
    assert sorted(logged(tmp_path / "run")) == [1, 2], "it ends with the first line of the log that does not fit"


def test_log_that_is_a_device_is_refused() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with pytest.raises(ValueError, match=r"/dev/full: a device"):
        append_lines(Path("/dev/full"), [{"step": 1}])


def test_log_that_is_too_large_for_its_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(json, "dumps", full)  # as good as any place inside
    with pytest.raises(OSError, match=r"log\.jsonl") as caught:
        append_lines(tmp_path / "log.jsonl", [{"step": 1}])
    assert caught.value.errno == errno.ENOSPC
