"""Synthesis for one video: the picture stays as it is, the sound fits it, and what cannot be done is said clearly."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from eval.synthesize import command
from eval.synthesize.mux import COMMENT
from eval.synthesize.video_info import probe_video
from model.checkpoint import Checkpoint, save_checkpoint
from model.transforms import TransformSettings
from pipeline.media import decoding_limits
from tests.corpora import click_track, coordinate_line, pictures, write_video
from tests.eval.test_mux import copied, packets
from tests.faces import talking_face
from tests.model.networks import small_asr, small_lip_to_speech, small_vocoder

PICTURES = TransformSettings(crop_radius=12, size=32)
SIZE = (96, 136)
BOX = "68,50,30"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    network = small_lip_to_speech()
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    save_checkpoint(path, Checkpoint(network.settings, network.state_dict(), transforms=PICTURES))
    return path


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """42 frames of 136x96 at 30 a second, 1.4 s, with sound."""
    path = tmp_path_factory.mktemp("videos") / "talking.mp4"
    return write_video(path, pictures(42, size=SIZE), click_track(1.4, 0.5), rate=30, encoder={"preset": "medium"})


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "silent.mp4", pictures(30, size=SIZE), None)


def synthesize(*arguments: str | Path) -> int:
    return command.run([str(argument) for argument in arguments])


def test_synthesize_writes_video_sound_and_mel_and_copies_the_picture(
    checkpoint: Path, talking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out.mp4"
    assert synthesize("--checkpoint", checkpoint, "--video", talking, "--lip-box", BOX, "--out", out) == 0
    assert packets(out) == packets(talking)
    assert sorted(path.name for path in out.parent.iterdir()) == ["out.mp4", "out.png", "out.wav"]
    sound, rate = soundfile.read(out.with_suffix(".wav"), dtype="int16")
    assert (rate, sound.dtype, sound.shape) == (16_000, np.int16, ((4 * 35 - 1) * 160,))
    assert soundfile.info(out.with_suffix(".wav")).subtype == "PCM_16"
    assert np.abs(sound).max() > 100
    assert Image.open(out.with_suffix(".png")).size == (4 * 35, 3 * 80)
    with av.open(str(out)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert container.metadata["comment"] == COMMENT
    printed = capsys.readouterr().out
    assert f"speaker reference: the loudest half second of {talking} itself" in printed
    assert "42 frames were resampled to 35 at 25 a second" in printed
    assert "1.4 s of speech" in printed
    assert re.search(r"real-time factor [\d.]+; decoding [\d.]+ s, network [\d.]+ s, vocoder [\d.]+ s", printed)
    assert COMMENT.encode() in out.with_suffix(".wav").read_bytes()


def test_synthesize_gives_the_same_again_and_something_else_with_another_reference(
    checkpoint: Path, talking: Path, silent: Path, tmp_path: Path
) -> None:
    voice = tmp_path / "voice.wav"
    soundfile.write(voice, 0.5 * np.sin(np.arange(12_000) * 0.3), 8_000)
    voices: dict[str, list[str | Path]] = {
        "a": [],
        "b": [],
        "c": ["--speaker-reference", voice],
        "d": ["--speaker-reference", talking],
    }
    for name, named in voices.items():
        out = tmp_path / f"{name}.mkv"
        synthesize("--checkpoint", checkpoint, "--video", talking, "--lip-box", BOX, "--out", out, *named)
    own, again, other, given = (soundfile.read(tmp_path / f"{name}.wav", dtype="int16")[0] for name in "abcd")
    assert np.array_equal(own, again)
    assert np.array_equal(own, given)
    assert not np.array_equal(own, other)
    out = tmp_path / "silent.mp4"
    synthesize(
        "--checkpoint", checkpoint, "--video", silent, "--lip-box", BOX, "--speaker-reference", voice, "--out", out
    )
    assert packets(out) == packets(silent)


def test_synthesize_takes_a_neural_vocoder_and_refuses_what_is_none(
    checkpoint: Path, talking: Path, tmp_path: Path
) -> None:
    vocoder = small_vocoder()
    save_checkpoint(tmp_path / "v.pt", Checkpoint(vocoder.settings, vocoder.state_dict()))
    sounds: dict[str, np.ndarray] = {}
    arguments: list[str | Path] = ["--checkpoint", checkpoint, "--video", talking, "--lip-box", BOX]
    arguments += ["--out", tmp_path / "out.mp4"]
    for name in ("default", str(tmp_path / "v.pt")):
        assert synthesize(*arguments, "--vocoder", name) == 0
        sounds[name] = soundfile.read(tmp_path / "out.wav", dtype="int16")[0]
    griffin_lim, neural = sounds.values()
    assert griffin_lim.shape == neural.shape
    assert not np.array_equal(griffin_lim, neural)
    for wrong, named in (("nothing.pt", "vocoder: nothing.pt: there is no such file"), (checkpoint, "best.pt: a netw")):
        with pytest.raises(ValueError, match=re.escape(named)):
            synthesize(*arguments, "--vocoder", wrong)


def test_synthesize_tracks_lips_and_takes_another_face_by_its_number(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (one, centers), (other, _) = talking_face(0, 10), talking_face(1, 10)
    video = write_video(tmp_path / "two.mp4", np.concatenate([one, other], axis=2), click_track(1.0, 0.2))
    sounds = {}
    for face in ("1", "2"):
        out = tmp_path / f"{face}.mp4"
        synthesize("--checkpoint", checkpoint, "--video", video, "--out", out, "--face", face)
        sounds[face] = soundfile.read(out.with_suffix(".wav"), dtype="int16")[0]
    assert not np.array_equal(sounds["1"], sounds["2"])
    found = re.findall(r"lips found around (\d+),(\d+), in a square of (\d+) pixels", capsys.readouterr().out)
    assert np.abs(np.array(found[0][:2], int) - centers.mean(axis=0)).max() < 3
    assert (int(found[1][0]) > 160, 70 < int(found[0][2]) < 95) == (True, True)


def test_synthesize_tracks_lips_anew_after_a_cut(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures_of_two = np.concatenate([talking_face(0, 10)[0], talking_face(1, 10)[0]])
    video = write_video(tmp_path / "cut.mp4", pictures_of_two, click_track(1.0, 0.2))
    assert synthesize("--checkpoint", checkpoint, "--video", video, "--out", tmp_path / "out.mp4") == 0
    assert "cuts before frames 10: lips tracked anew" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_synthesize_keeps_a_turned_picture_turned_and_takes_its_box_as_shown(
    checkpoint: Path, talking: Path, tmp_path: Path, suffix: str
) -> None:
    turned = copied(talking, tmp_path / "turned.mp4", before=["-display_rotation", "90"])
    assert (probe_video(turned).width, probe_video(turned).height) == (96, 136)
    out = tmp_path / f"out{suffix}"
    synthesize("--checkpoint", checkpoint, "--video", turned, "--lip-box", "40,120,30", "--out", out)
    assert packets(out) == packets(turned)
    assert (probe_video(out).width, probe_video(out).height) == (96, 136)


def test_synthesize_normalizes_an_odd_video_and_takes_its_box_as_shown(
    checkpoint: Path, talking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = encoded(talking, tmp_path / "wide.mkv", ["-vf", "setsar=2/1", "-c:v", "libx264", "-c:a", "aac"])
    out = tmp_path / "out.mp4"
    assert synthesize("--checkpoint", checkpoint, "--video", wide, "--lip-box", "200,50,30", "--out", out) == 0
    assert (probe_video(out).width, probe_video(out).height) == (272, 96)
    assert "wide.mkv: the pixels are not square (2:1): normalized by FFmpeg" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_synthesize_of_avi_with_b_frames_keeps_the_times_of_its_frames(
    checkpoint: Path, talking: Path, tmp_path: Path, suffix: str
) -> None:
    avi = encoded(talking, tmp_path / "b.avi", ["-r", "25", "-c:v", "libx264", "-bf", "3", "-c:a", "pcm_s16le"])
    out = tmp_path / f"out{suffix}"
    synthesize("--checkpoint", checkpoint, "--video", avi, "--lip-box", BOX, "--out", out)
    with av.open(str(out)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([number / 25 for number in range(len(times))], abs=0.002)


def test_synthesize_of_joined_parts_writes_both_one_after_the_other(
    checkpoint: Path, talking: Path, tmp_path: Path
) -> None:
    joined = encoded(talking, tmp_path / "joined.ts", ["-c:v", "libx264", "-ar", "48000", "-c:a", "mp2"])
    joined.write_bytes(2 * joined.read_bytes())
    out = tmp_path / "out.mp4"
    synthesize("--checkpoint", checkpoint, "--video", joined, "--lip-box", BOX, "--out", out)
    assert soundfile.info(out.with_suffix(".wav")).duration == pytest.approx(2.8, abs=0.1)
    assert probe_video(out).seconds == pytest.approx(2.8, abs=0.1)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_synthesize_writes_a_video_that_begins_at_0_whatever_the_clock_said(
    checkpoint: Path, talking: Path, tmp_path: Path, suffix: str
) -> None:
    late = encoded(talking, tmp_path / "late.ts", ["-c:v", "libx264", "-c:a", "mp2", "-ar", "48000"], 50_000)
    out = tmp_path / f"out{suffix}"
    synthesize("--checkpoint", checkpoint, "--video", late, "--lip-box", BOX, "--out", out)
    with av.open(str(out)) as container:
        assert (container.duration or 0) / av.time_base == pytest.approx(1.4, abs=0.1)
        assert min(frame.time for frame in container.decode(video=0)) == pytest.approx(0, abs=0.001)


def encoded(source: Path, out: Path, arguments: list[str], start: int = 0) -> Path:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-i",
        source,
        *arguments,
        "-output_ts_offset",
        str(start),
    ]
    subprocess.run([*command, out], check=True)
    return out


Broken = Callable[[Path, Path, Path], list[str | Path]]
"""Video, silent video and a folder to work in -> arguments of which something is wrong; later ones take precedence."""


def with_file(name: str, content: bytes, *arguments: str) -> Broken:
    def arguments_of(talking: Path, silent: Path, folder: Path) -> list[str | Path]:
        (folder / name).write_bytes(content)
        return [str(folder / name) if each == "FILE" else each for each in arguments]

    return arguments_of


def short(talking: Path, silent: Path, folder: Path) -> list[str | Path]:
    return ["--video", write_video(folder / "short.mp4", pictures(4), click_track(0.7, 0.1)), "--lip-box", BOX]


def sound_alone(talking: Path, silent: Path, folder: Path) -> list[str | Path]:
    soundfile.write(folder / "sound.wav", np.zeros(1000), 16_000)
    return ["--video", folder / "sound.wav", "--lip-box", BOX]


def another_recipe(talking: Path, silent: Path, folder: Path) -> list[str | Path]:
    asr = small_asr()
    save_checkpoint(folder / "asr.pt", Checkpoint(asr.settings, asr.state_dict()))
    return ["--checkpoint", folder / "asr.pt", "--lip-box", BOX]


def over_the_voice(talking: Path, silent: Path, folder: Path) -> list[str | Path]:
    soundfile.write(folder / "out.wav", np.ones(16_000), 16_000)
    return ["--speaker-reference", folder / "out.wav", "--lip-box", BOX]


def short_voice(talking: Path, silent: Path, folder: Path) -> list[str | Path]:
    soundfile.write(folder / "voice.wav", np.ones(4_000), 16_000)
    return ["--speaker-reference", folder / "voice.wav", "--lip-box", BOX]


def no_folder(talking: Path, silent: Path, folder: Path) -> list[str | Path]:
    (folder / "file").write_bytes(b"")
    return ["--out", folder / "file" / "out.mp4", "--lip-box", BOX]


ELSEWHERE = coordinate_line("talking", 42, (200, 40)).encode()
BROKEN: dict[str, tuple[Broken, str]] = {
    "no video": (lambda *_: ["--video", "nosuch.mp4", "--lip-box", BOX], r"No such file.*nosuch\.mp4"),
    "no media": (with_file("page.mp4", b"<html>" * 99, "--video", "FILE", "--lip-box", BOX), r"page\.mp4: not a video"),
    "empty": (with_file("none.mp4", b"", "--video", "FILE", "--lip-box", BOX), r"none\.mp4: not a video"),
    "sound alone": (sound_alone, r"sound\.wav: not a video"),
    "no face": (lambda *_: [], r"talking\.mp4: no face was found: --lip-box X,Y,SIZE or --coordinates"),
    "two places": (lambda *_: ["--lip-box", BOX, "--coordinates", "c.txt"], "give one of them"),
    "face and box": (lambda *_: ["--lip-box", BOX, "--face", "2"], "--face 2"),
    "no box": (lambda *_: ["--lip-box", "20,30"], "--lip-box '20,30': expected X,Y,SIZE"),
    "box outside": (lambda *_: ["--lip-box", "136,50,30"], r"talking\.mp4: the lip center 136,50 .* 136x96 pixels"),
    "box too large": (lambda *_: ["--lip-box", "68,50,300"], r"talking\.mp4: a lip square of 300 pixels .* 136x96"),
    "box of nothing": (lambda *_: ["--lip-box", "68,50,0"], "a lip square of 0 pixels"),
    "two sizes": (lambda *_: ["--lip-box", BOX, "--size", "30"], "--size 30: belongs to --coordinates"),
    "no coordinates": (lambda *_: ["--coordinates", "nosuch.txt"], r"No such file.*nosuch\.txt"),
    "outside": (with_file("c.txt", ELSEWHERE, "--coordinates", "FILE"), r"talking\.mp4: .* 136x96 pixels, in 42 of 42"),
    "too few": (with_file("c.txt", b"60/40/60/41", "--coordinates", "FILE"), r"talking\.mp4: 2 coordinates for 42 fra"),
    "one": (with_file("c.txt", b"60/40", "--coordinates", "FILE"), r"talking\.mp4: 1 coordinates for 42 frames"),
    "short": (short, r"short\.mp4: 4 frames at 25 a second, and 5 at least are needed"),
    "silent": (
        lambda _, silent, __: ["--video", silent, "--lip-box", BOX],
        r"silent\.mp4: it has no sound .* --speaker-reference",
    ),
    "silent voice": (
        lambda _, silent, __: ["--speaker-reference", silent, "--lip-box", BOX],
        r"silent\.mp4: it has no sound, and",
    ),
    "no voice": (
        with_file("v.txt", b"hello", "--speaker-reference", "FILE", "--lip-box", BOX),
        r"v\.txt: no sound that can be read",
    ),
    "short voice": (short_voice, r"voice\.wav: 0\.25 s of sound .* 0\.5 s at least"),
    "no checkpoint": (
        with_file("x.pt", b"hello", "--checkpoint", "FILE", "--lip-box", BOX),
        r"x\.pt: not a checkpoint",
    ),
    "another recipe": (another_recipe, r"asr\.pt: a network of the task asr, and lip2speech was expected"),
    "suffix": (
        lambda *_: ["--out", "out.avi", "--lip-box", BOX],
        r"out\.avi: its name ends in \.avi, and \.mp4, \.m4v",
    ),
    "no suffix": (lambda *_: ["--out", "out", "--lip-box", BOX], "out: its name has no suffix"),
    "codec": (
        lambda *_: ["--out", "out.webm", "--lip-box", BOX],
        r"out\.webm: a \.webm file cannot hold the h264 .*\.mkv",
    ),
    "no folder": (no_folder, r"cannot be written to \(.*file"),
    "over the voice": (over_the_voice, r"out\.wav would be written over what is read"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_synthesize_names_what_is_wrong_and_writes_nothing(
    checkpoint: Path, talking: Path, silent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    broken, message = BROKEN[what]
    arguments = broken(talking, silent, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises((ValueError, OSError), match=message):
        synthesize("--checkpoint", checkpoint, "--video", talking, "--out", "out.mp4", *arguments)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_synthesize_does_not_write_a_video_over_itself(checkpoint: Path, talking: Path, tmp_path: Path) -> None:
    video = tmp_path / "talking.mp4"
    video.write_bytes(talking.read_bytes())
    (tmp_path / "alias.mp4").symlink_to(video)
    for out in (video, tmp_path / "alias.mp4"):
        with pytest.raises(ValueError, match="would be written over what is read"):
            synthesize("--checkpoint", checkpoint, "--video", video, "--lip-box", BOX, "--out", out)
    assert video.read_bytes() == talking.read_bytes()


def test_synthesize_keeps_earlier_files_whole_when_it_fails(
    checkpoint: Path, talking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out.mp4").write_bytes(b"earlier")

    def fails(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(command, "mux_sound", fails)
    with pytest.raises(OSError, match="disk full"):
        synthesize("--checkpoint", checkpoint, "--video", talking, "--lip-box", BOX, "--out", tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"earlier"


def test_mel_image_continues_in_further_rows() -> None:
    mel = np.full((80, 2300), -1.0, np.float32)
    mel[0, 2299] = 1.0
    image = np.asarray(command.mel_image(mel))
    assert image.shape == (3 * 240 + 2 * 12, 1000, 3)
    bright = np.argwhere(image[2 * 252 :, :300].astype(int).sum(axis=2) > 600)
    assert bright.tolist() == [[237, 299], [238, 299], [239, 299]], "the lowest band is at the bottom"
    assert (image[240:252] == 255).all()


@pytest.mark.parametrize("flag", ["--video", "--speaker-reference", "--coordinates", "--out"])
def test_synthesize_waits_for_no_fifo(checkpoint: Path, talking: Path, tmp_path: Path, flag: str) -> None:
    fifo = tmp_path / "fifo.mp4"
    os.mkfifo(fifo)
    given: dict[str, str | Path] = {"--video": talking, "--out": tmp_path / "out.mp4", "--lip-box": BOX}
    if flag == "--coordinates":
        del given["--lip-box"]
    arguments = [part for pair in (given | {flag: fifo}).items() for part in pair]
    with pytest.raises(ValueError, match=r"fifo\.mp4: a FIFO"):
        synthesize("--checkpoint", checkpoint, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["fifo.mp4"]


def test_synthesize_refuses_a_video_that_is_larger_than_it_looks(
    checkpoint: Path, talking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding_limits, "MAX_FRAME_PIXELS", 1000)
    out = tmp_path / "out.mp4"
    with pytest.raises(ValueError, match=r"talking\.mp4: a picture of 136x96 pixels, and at most 1,000 are allowed"):
        synthesize("--checkpoint", checkpoint, "--video", talking, "--lip-box", BOX, "--out", out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("at", "value", "found"), [(22, 255, "255 channels"), (24, 2_000_000_000, "2000000000 Hz")])
def test_synthesize_refuses_a_reference_of_absurd_sound(
    checkpoint: Path, talking: Path, tmp_path: Path, at: int, value: int, found: str
) -> None:
    voice = tmp_path / "voice.wav"
    soundfile.write(voice, 0.5 * np.sin(np.arange(80_000) * 0.3), 16_000)
    content = bytearray(voice.read_bytes())
    size = 2 if at == 22 else 4
    content[at : at + size] = value.to_bytes(size, "little")
    voice.write_bytes(content)
    arguments: list[str | Path] = ["--lip-box", BOX, "--out", tmp_path / "out.mp4", "--speaker-reference", voice]
    with pytest.raises(ValueError, match=rf"voice\.wav: .*{found}|voice\.wav: no sound"):
        synthesize("--checkpoint", checkpoint, "--video", talking, *arguments)


def test_synthesize_leaves_nothing_behind_when_it_is_told_to_end(
    checkpoint: Path, talking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told_to_end(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(command, "mux_sound", told_to_end)
    out = tmp_path / "new" / "out.mp4"
    before = signal.getsignal(signal.SIGTERM)  # a Ray of an earlier test may have set one
    with pytest.raises(SystemExit) as ended:
        synthesize("--checkpoint", checkpoint, "--video", talking, "--lip-box", BOX, "--out", out)
    assert ended.value.code == 143
    assert list(out.parent.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before
