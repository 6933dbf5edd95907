"""Whole files of every stored form, small: a corpus, datasets built from it, a run, checkpoints, reports, settings.

All names in them are relative to the folder, so that a copy of it is as good as the first.
"""

from __future__ import annotations

import json
import shlex
import shutil
import socket
from pathlib import Path

import numpy as np

from shards.format.wav import encode_wav
from tests.corpora import Lrs2Corpus, click_track, coordinate_line, pictures, write_video
from tests.faces import talking_face
from tests.fuzz.commands import SCENE
from tests.fuzz.server import CommandServer
from tests.model.published_files import published_file

_FRAMES = 25
_TEXTS = ("PLACE BLUE AT F TWO NOW", "SET WHITE BY Q NINE PLEASE", "BIN BLUE AT A TWO PLEASE", "LAY RED IN Z SIX SOON")
_ALIGN = "0 5750 sil\n5750 11500 bin\n11500 17250 blue\n17250 23000 at\n23000 25000 sil\n"

SETTINGS = """\
data:
  dataset: lrs2
  root: corpus/LRS2-BBC
  crop_radius: 11
  shard_mb: 0.5
train:
  task: lip2speech
  shards: data
  splits: [train]
  network:
    visual: {channels: 2, conformer: {layers: 1, width: 16, heads: 2, kernel: 5}}
    speaker: {channels: [8, 8], width: 8}
    decoder: {width: 16, channels: [8]}
  transforms: {size: 32}
  tasks:
    asr: {out: runs/asr}
eval:
  checkpoint: best.pt
  shards: data
  split: test
  metrics: []
  systems: [network, original]
"""


def write_scene(folder: Path, server: CommandServer) -> None:
    """Write all files, most of them by the commands themselves."""
    _write_corpus(folder / "corpus")
    _write_videos(folder / "mine", folder / "sounds")
    _write_grid(folder / "grid")
    write_video(folder / "faces/1.mp4", talking_face(0, 16)[0], click_track(16 / 25, 0.1))
    (folder / "settings.yaml").write_text(SETTINGS)
    published_file(folder / "published.pt")
    for line in SCENE:
        program, *arguments = shlex.split(line)
        outcome = server.run(program, arguments, folder)
        if outcome.status:
            raise RuntimeError(f"{line}: status {outcome.status}: {outcome.err.decode()}")
    (folder / "runs/main/bad-batches.jsonl").write_text(json.dumps({"step": 1, "reason": "loss", "keys": []}) + "\n")
    lock = {"host": socket.gethostname(), "process": 1, "user": "x", "since": "0", "beats": 1, "token": "x"}
    (folder / "data/build.lock").write_bytes(json.dumps(lock).encode().ljust(1024))
    shutil.copytree(folder / "reports/a", folder / "reports/b")  # two to compare


def _write_corpus(folder: Path) -> None:
    """LRS2's form: two clips of each of two speakers, one for validation, and one that cannot be built."""
    corpus = Lrs2Corpus(folder)
    for number, split in enumerate(["train", "train", "test", "test", "val"]):
        text = f"Text:  {_TEXTS[number % 4]}\nConf:  1\n"
        corpus.add(f"speaker{number // 2}/{number:05}", split, frames=_FRAMES + number, transcript=text)
    corpus.add("speaker1/00009", "test", frames=_FRAMES, coordinates=None)
    timed = "Text:  PLACE BLUE\nConf:  1\n\nWORD START END ASDSCORE\nPLACE 0.10 0.40 9.1\nBLUE 0.40 0.90 8.2\n"
    corpus.add("speaker2/00010", "pretrain", frames=_FRAMES, transcript=timed)
    corpus.finish()


def _write_videos(folder: Path, sounds: Path) -> None:
    """A folder of videos in four containers, with coordinates, transcripts and a sound file for one."""
    lines = []
    sound, frames = click_track(_FRAMES / 25, 0.4), pictures(_FRAMES, flash=[10])
    for name in ("1.mp4", "2.avi", "3.mkv", "4.ts"):
        video = folder / "s" / name
        write_video(video, frames, sound, sound_codec="pcm_s16le" if name == "2.avi" else "aac")
        video.with_suffix(".txt").write_text("place blue at f two now\n")
        lines.append(f"s/{name}:" + coordinate_line("", _FRAMES).partition(":")[2])
        (sounds / "s").mkdir(parents=True, exist_ok=True)
        (sounds / "s" / name).with_suffix(".wav").write_bytes(encode_wav((sound * 32_767).astype(np.int16)))
    (folder / "coordinates.txt").write_text("\n".join(lines) + "\n")
    (folder / "all.txt").write_text("s/1\ns/2\ns/3\ns/4\n")


def _write_grid(folder: Path) -> None:
    write_video(folder / "s1/bbaf2n.mp4", pictures(75, flash=[10]), click_track(3.0, 0.4))
    (folder / "alignments/s1").mkdir(parents=True)
    (folder / "alignments/s1/bbaf2n.align").write_text(_ALIGN)
