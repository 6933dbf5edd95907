"""LipCrops are cut out as they were for training, whatever the size of the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.synthesize import find_lips, lip_crop
from eval.synthesize.lip_crop import LipSquares, read_box, read_coordinates, read_lips
from eval.synthesize.lip_track import track_lips
from eval.synthesize.video_info import probe_video
from model.transforms import TransformSettings
from pipeline.clip import Corpus, build_sample
from pipeline.config import BuildSettings
from pipeline.corpora import CorpusClip
from pipeline.tracking.lip_tracks import TrackSettings
from tests.corpora import click_track, coordinate_line, pictures, write_video
from tests.faces import talking_face

SIZE = (96, 136)


def lips_at(video: Path, square: LipSquares, crop_radius: int = 12) -> np.ndarray[Any, Any]:
    return read_lips(video, probe_video(video), square, TransformSettings(crop_radius=crop_radius)).roi


def test_crop_of_the_trained_side_is_what_shards_hold(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", pictures(36, size=SIZE), click_track(1.2, 0.4), rate=30)
    clip = CorpusClip("main/a/b", "train", "main", "a", video.name, None, None, None, 36, (video.stat().st_size, 0, 0))
    settings = BuildSettings("folder", str(tmp_path), crop_radius=12, lip_box="60,20", transcripts="optional")
    stored = build_sample(clip, settings, Corpus.of(settings)).roi
    assert np.array_equal(lips_at(video, read_box("60,20,24")), stored)


def test_crop_of_a_larger_picture_is_shrunk_to_what_the_network_knows(tmp_path: Path) -> None:
    frames = pictures(30, size=SIZE)
    small = write_video(tmp_path / "small.mp4", frames, None, encoder={"crf": "1"})
    large = write_video(tmp_path / "large.mp4", frames.repeat(3, axis=1).repeat(3, axis=2), None, encoder={"crf": "1"})
    centers = np.array([[50 + n, 40] for n in range(30)])
    expected = lips_at(small, LipSquares(centers, 24, fixed=False)).astype(int)
    found = lips_at(large, LipSquares(3 * centers, 72, fixed=False)).astype(int)
    assert found.shape == expected.shape == (30, 34, 34)
    # a level off for the softened edges of the drawn squares of 8 pixels; 3 levels and more if it is a tenth off
    assert np.abs(found - expected).mean() < 1.5
    for side in (66, 78):
        assert np.abs(lips_at(large, LipSquares(3 * centers, side, fixed=False)) - expected).mean() > 3


def test_coordinates_are_a_corpus_line_or_bare_numbers(tmp_path: Path) -> None:
    file, video = tmp_path / "c.txt", tmp_path / "main" / "speaker2" / "00001.mp4"

    def track() -> list[list[int]]:
        return [[x, y] for x, y in read_coordinates(file, video, 24)[0].centers.tolist()]

    file.write_text("60/40/61/41/62/42\n")
    assert track() == [[60, 40], [61, 41], [62, 42]]
    file.write_text("any/other.mp4:60/40/61/41\n")
    assert track() == [[60, 40], [61, 41]]
    lines = [coordinate_line(f"speaker{n}/00001", 2, (n, 7)) for n in range(4)]
    file.write_text("\n".join(lines))
    assert track() == [[2, 7], [2, 7]]
    file.write_bytes("\r\n".join(lines).replace("/", "\\").encode("utf-16"))
    assert track() == [[2, 7], [2, 7]]
    file.write_text("\n".join([coordinate_line("elsewhere/00002", 2), coordinate_line("elsewhere/00001", 2, (5, 7))]))
    assert track() == [[5, 7], [5, 7]]
    file.write_text("\n".join([lines[0], lines[1]]))
    with pytest.raises(ValueError, match=r"c\.txt: 2 lines may be of .*speaker2/00001\.mp4"):
        track()
    file.write_text("\n".join([coordinate_line("a/00002", 2), coordinate_line("a/00003", 2)]))
    with pytest.raises(ValueError, match=r"c\.txt: none of its 2 lines is of 00001\.mp4"):
        track()
    file.write_text("60/40/61/forty")
    with pytest.raises(ValueError, match=r"c\.txt: 'forty' for y of frame 1"):
        track()


def test_video_that_would_not_fit_into_memory_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talking = write_video(tmp_path / "talking.mp4", pictures(42, size=SIZE), None, rate=30)
    monkeypatch.setattr(lip_crop, "decode_plain", lambda *_, **__: pytest.fail("decoded"))
    monkeypatch.setattr(lip_crop, "MAX_SECONDS", 1)
    with pytest.raises(ValueError, match=r"talking\.mp4: .* cut it into parts"):
        lips_at(talking, read_box("68,50,30"))
    monkeypatch.setattr(lip_crop, "MAX_SECONDS", 60)
    monkeypatch.setattr(lip_crop, "_MOST_BYTES", 42 * 34 * 34 - 1)
    with pytest.raises(ValueError, match=r"talking\.mp4: its 42 lip squares of 34 pixels would take"):
        lips_at(talking, read_box("68,50,24"))


def test_find_lips_in_pictures_gives_what_a_video_of_them_gives(tmp_path: Path) -> None:
    frames, centers = talking_face(0, 20)
    lips = find_lips(frames, 25, TransformSettings())
    assert (lips.roi.shape, lips.squares.shape, lips.sound) == ((20, 90, 90), (20, 3), None)
    assert np.abs(lips.squares[:, :2] - centers).max() < 4
    video = write_video(tmp_path / "talking.mp4", frames, click_track(0.8, 0.2))
    of_video = track_lips(
        video, probe_video(video), TrackSettings(scene_cuts="split"), TransformSettings(), with_sound=True
    )
    assert np.abs(of_video.roi.astype(int) - lips.roi).mean() < 3
    assert of_video.sound is not None
    assert of_video.sound.shape == (640 * 20,)
    assert len(find_lips(frames, 50, TransformSettings()).roi) == 10


def test_find_lips_says_that_there_is_no_face() -> None:
    for frames, message in (((), "frames: none"), (pictures(20), "frames: no face was found")):
        with pytest.raises(ValueError, match=message):
            find_lips(frames, 25, TransformSettings())
