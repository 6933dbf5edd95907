"""Files of strangers: FIFOs, devices, circles of links and sparse giants are refused, and nothing is waited for."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from runtime.regular_file import IrregularFileError, check_regular, is_inside, open_regular, read_regular
from tests.irregular_files import a_sparse_giant


def test_read_regular_reads_a_file_and_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to("a")
    assert read_regular(tmp_path / "b", 3) == b"abc"


def test_read_regular_refuses_more_bytes_than_allowed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abcd")
    with pytest.raises(IrregularFileError, match=r"a: 4 bytes, and at most 3"):
        read_regular(tmp_path / "a", 3)


def test_read_regular_takes_memory_for_what_is_there_not_for_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    tracemalloc.start()
    try:
        assert read_regular(tmp_path / "x", 1 << 40) == b"abc"
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert len(read_regular("/proc/self/status", 1 << 40)) > 100


def test_read_regular_refuses_an_endless_file_without_a_size() -> None:
    if not Path("/proc/self/maps").is_file():
        pytest.skip("needs /proc")
    with pytest.raises(IrregularFileError, match=r"/proc/self/maps: more than the 10 bytes"):
        read_regular("/proc/self/maps", 10)


def test_open_regular_refuses_a_fifo_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for refuse in (open_regular, check_regular):
        with pytest.raises(IrregularFileError, match="fifo: a FIFO"):
            refuse(tmp_path / "fifo")


def test_open_regular_refuses_a_device() -> None:
    with pytest.raises(IrregularFileError, match="/dev/zero: a device"):
        open_regular("/dev/zero")


def test_open_regular_refuses_a_folder_and_links_in_a_circle(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links") as caught:
        open_regular(tmp_path / "a")
    assert Path(caught.value.filename) == tmp_path / "a"


def test_open_regular_refuses_a_sparse_giant(tmp_path: Path) -> None:
    a_sparse_giant(tmp_path / "giant")
    with pytest.raises(IrregularFileError, match=r"giant: claims 1,099,511,627,776 bytes"):
        open_regular(tmp_path / "giant")


def test_is_inside_follows_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "in").write_bytes(b"")
    (tmp_path / "out").write_bytes(b"")
    (root / "link").symlink_to("../out")
    assert is_inside(root / "in", root)
    assert not is_inside(root / "link", root)
    assert not is_inside(root / ".." / "out", root)
