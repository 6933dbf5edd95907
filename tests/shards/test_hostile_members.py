"""Members that are larger than they look, or damaged in any way, are a `DatasetError` that names the clip."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards import DatasetError, decode_sample, encode_sample
from shards.format.npy import decode_npy, npy_header
from shards.format.roi import ROI_CODECS, RoiCodec, decode_roi
from shards.format.wav import decode_wav, encode_wav
from tests.shards.test_format import make_sample

KEY = "main/a/1"
GOOD = {codec: encode_sample(make_sample(frames=8), codec) for codec in ROI_CODECS}
ENCODERS = {"ffv1": ("ffv1", {"level": "1", "coder": "0"}), "h264": ("libx264", {"crf": "14"})}


def gray(side: int, level: int, pts: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.full((side, side), level, np.uint8), format="gray")
    frame.pts = pts
    return frame


def packets(codec: str, side: int, count: int, options: dict[str, str]) -> list[Any]:
    context: Any = av.CodecContext.create(codec, "w")
    context.width = context.height = side
    context.pix_fmt, context.time_base, context.framerate = "gray", Fraction(1, 25), Fraction(25, 1)
    context.options, context.thread_count = options, 1
    encoded = [packet for number in range(count) for packet in context.encode(gray(side, number, number))]
    return encoded + list(context.encode(None))


def video(
    codec: RoiCodec,
    side: int = 32,
    frames: int = 8,
    later: int | None = None,
    streams: int = 1,
    options: dict[str, str] | None = None,
) -> bytes:
    """A lip-region video of `frames` frames; from the third on, `later` pixels wide."""
    name, known = ENCODERS[codec]
    used = known | (options or {})
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        opened: list[Any] = []
        for _ in range(streams):
            stream: Any = container.add_stream(name, rate=25, options=used)
            stream.width = stream.height = side
            stream.pix_fmt, stream.codec_context.thread_count = "gray", 1
            opened.append(stream)
        for stream in opened:
            own = frames if later is None else 2
            found = [packet for number in range(own) for packet in stream.encode(gray(side, number, number))]
            for packet in [*found, *stream.encode(None)]:
                container.mux(packet)
            if later is not None:
                for number, packet in enumerate(packets(name, later, frames - own, used), own):
                    copy = av.Packet(bytes(packet))
                    copy.pts = copy.dts = number
                    copy.time_base, copy.stream = Fraction(1, 25), stream
                    container.mux(copy)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (video("h264", later=512), "not a readable|512x512"),
        (video("h264", side=48), "48x48 pixels"),
        (video("h264", frames=40), "more than the 8 frames"),
        (video("h264", streams=2), "2 streams"),
        (video("ffv1", frames=9), "more than the 8 frames"),
        (video("ffv1", frames=7), "7"),
        (video("ffv1", options={"level": "3", "coder": "1"}), "version 3"),
        (b"", "0 bytes"),
        (video("ffv1")[:300], "not a readable|found"),
        (video("ffv1") + bytes(3 << 20), "bytes cannot be 8 frames"),
    ],
)
def test_lip_region_video_that_is_not_as_declared_is_refused(content: bytes, what: str) -> None:
    with pytest.raises(DatasetError, match=rf"main/a/1\.roi\.mkv: .*({what})"):
        decode_roi(content, "roi.mkv", 8, 32, f"{KEY}.roi.mkv")


def test_lip_region_video_of_many_declared_frames_gets_no_room_for_them() -> None:
    with pytest.raises(DatasetError, match="cannot be 2000000 frames"):
        decode_roi(video("h264"), "roi.mkv", 2_000_000, 2058, "x")


def test_lip_region_video_whose_later_frames_are_huge_takes_no_memory(tmp_path: Path) -> None:
    """In a process of its own, whose peak is its own: frames of 4096x4096 take 25 MB each."""
    (tmp_path / "h264.mkv").write_bytes(video("h264", later=4096, frames=7, options={"preset": "ultrafast"}))
    (tmp_path / "slices.mkv").write_bytes(video("ffv1", options={"level": "3", "slices": "1024", "context": "1"}))
    program = (
        "import sys; from pathlib import Path\n"
        "from shards import DatasetError; from shards.format.roi import decode_roi\n"
        "from tests.peak_memory import peak_kilobytes, reset_peak\n"
        "reset_peak(); before = peak_kilobytes()\n"
        "for path in sys.argv[1:]:\n"
        "    try: decode_roi(Path(path).read_bytes(), 'roi.mkv', 7, 32, path)\n"
        "    except DatasetError: print('refused')\n"
        "print(peak_kilobytes() - before)\n"
    )
    paths = [str(tmp_path / name) for name in ("h264.mkv", "slices.mkv")]
    done = subprocess.run(
        [sys.executable, "-c", program, *paths],
        capture_output=True,
        check=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    first, second, kilobytes = done.stdout.split()
    assert (first, second) == ("refused", "refused")
    assert int(kilobytes) < 64 << 10


def npy(header: bytes, version: bytes = b"\x01\x00", payload: bytes = b"x" * 64) -> bytes:
    return b"\x93NUMPY" + version + len(header).to_bytes(2 if version[0] == 1 else 4, "little") + header + payload


@pytest.mark.parametrize(
    "content",
    [
        npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"9" * 4000 + b", " + b"9" * 4000 + b"), }\n"),
        npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (999999999999, 999999999999, 9), }\n"),
        npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (True, 64), }\n"),
        npy(b"(" * 60_000 + b"\n"),
        npy(b"-" * 60_000 + b"1\n"),
        npy(b"[" * 9_000_000 + b"\n", b"\x02\x00"),
        npy(b"{'descr': '<q9', 'fortran_order': False, 'shape': (8,), }\n"),
        npy(b"{'descr': '|V0', 'fortran_order': False, 'shape': (8,), }\n"),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
    ],
)
def test_npy_header_that_says_nonsense_is_refused_by_its_member(content: bytes) -> None:
    with pytest.raises(DatasetError, match=r"main/a/1\.mel\.npy"):
        decode_npy(content, f"{KEY}.mel.npy")
    assert npy_header(content[:-64]) in (None, ((999999999999, 999999999999, 9), False, "|u1"), ((8,), False, "|V0"))


@pytest.mark.parametrize("cut", range(1, 48))
def test_wav_that_is_cut_short_is_refused_by_its_member(cut: int) -> None:
    content = encode_wav(np.arange(2, dtype=np.int16))
    with suppress(DatasetError):
        assert len(decode_wav(content[:-cut], f"{KEY}.wav")) < 2


def stored(**changes: Any) -> bytes:
    values = json.loads(GOOD["npy"]["json"]) | changes
    return json.dumps({name: value for name, value in values.items() if value != "absent"}).encode()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"frames": -8}, "frames"),
        ({"frames": 10**15}, "frames"),
        ({"frames": None}, "frames"),
        ({"frames": 8.5}, "frames"),
        ({"half": 10**9}, "half"),
        ({"half": "absent"}, "half"),
        ({"fps": 50}, "fps"),
        ({"lips": [[1, 2]] * 7}, "lip centres"),
        ({"lips": [[10**30, 2]] * 8}, "lips"),
        ({"lips": {"a": 1}}, "lips"),
        ({"words": [["a", 0.5, 0.1]]}, "words"),
        ({"words": [["a", -1, 0.1]]}, "words"),
        ({"words": [["a", 0, 1e300]]}, "words"),
        ({"sound": [0, 640 * 9]}, "sound"),
        ({"sound": [5, 5]}, "sound"),
        ({"source": "/etc/passwd"}, "source"),
        ({"source": "a/../../etc/passwd"}, "source"),
        ({"source": ".."}, "source"),
        ({"set": ""}, "set"),
        ({"set": "../main"}, "set"),
        ({"split": "../x"}, "split"),
        ({"source_sha256": "0" * 64 + "\n"}, "source_sha256"),
        ({"notes": [3]}, "notes"),
        ({"more": 1}, "more"),
        ({"lip_square": [1]}, "lip_square"),
    ],
)
def test_sample_json_with_a_wrong_field_is_refused_by_member_and_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(DatasetError, match=rf"main/a/1.*{field}"):
        decode_sample(KEY, GOOD["npy"] | {"json": stored(**change)})


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"frames":' + b"9" * 10_000 + b"}",
        b"NaN",
        b"null",
        b"\xff\xfe",
        stored().replace(b"0.25", b"NaN"),
        stored() + b" " * (34 << 20),
    ],
)
def test_sample_json_that_is_none_is_refused_by_its_member(content: bytes) -> None:
    with pytest.raises(DatasetError, match=r"main/a/1\.json"):
        decode_sample(KEY, GOOD["npy"] | {"json": content})


def test_transcript_of_many_megabytes_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"main/a/1\.txt: 3145728 bytes"):
        decode_sample(KEY, GOOD["npy"] | {"txt": b"x" * (3 << 20)})


DAMAGE: list[Callable[[bytes, int, bytes], bytes]] = [
    lambda content, at, junk: content[:at],
    lambda content, at, junk: content[at:],
    lambda content, at, junk: content[:at] + junk + content[at:],
    lambda content, at, junk: content[:at] + junk + content[at + len(junk) :],
    lambda content, at, junk: content[:at] + content[at : at + 64] * 3 + content[at + 64 :],
]


@settings(max_examples=300)
@given(
    codec=st.sampled_from(ROI_CODECS),
    member=st.integers(0, 4),
    damage=st.sampled_from(DAMAGE),
    where=st.floats(0, 1),
    early=st.booleans(),
    junk=st.binary(min_size=1, max_size=40),
)
def test_damaged_member_is_a_sample_or_a_dataset_error_that_names_the_clip(
    codec: RoiCodec, member: int, damage: Callable[[bytes, int, bytes], bytes], where: float, early: bool, junk: bytes
) -> None:
    name = sorted(GOOD[codec])[member]
    content = GOOD[codec][name]
    at = round(where * (min(200, len(content)) if early else len(content)))  # headers are short
    try:
        sample = decode_sample(KEY, GOOD[codec] | {name: damage(content, at, junk)})
    except DatasetError as error:
        found = str(error)
    else:
        assert sample.roi.shape == (8, 32, 32)
        found = sample.key
    assert found.startswith(KEY)
