"""Inference on one video: `python -m eval synthesize --checkpoint runs/x/best.pt --video talking.mp4 ... --out out.mp4`

Its picture with synthetic speech in the place of its own sound, the speech alone as a .wav, and the mel that the
network made as a .png, all three beside each other. Files appear whole or not at all.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import Namespace
from PIL import Image

from eval.reference_audio import reference_of
from eval.results import make_folder
from eval.synthesize.lip_crop import LipSquares, read_box, read_coordinates, read_lips
from eval.synthesize.lip_track import track_lips
from eval.synthesize.mux import check_container, encode_speech, mux_sound
from eval.synthesize.part_times import DECODING, NETWORK, VOCODER, PartTimes
from eval.synthesize.plain_copy import on_plain_copy
from eval.synthesize.video_info import probe_video
from eval.systems import device_of, vocoder_of
from model.checkpoint import Checkpoint, load_checkpoint
from model.synthesis import Synthesizer
from model.transforms import TransformSettings
from pipeline.media.sync import to_pcm16
from pipeline.tracking.lip_tracks import SQUARE_EYE_DISTANCES, TrackSettings
from runtime.command_line import CommandParser
from runtime.constants import FPS
from runtime.images import color_map, mel_levels
from runtime.regular_file import check_regular
from runtime.signals import sigterm_raised
from runtime.terminal import say
from runtime.threads import sleep_when_busy

Array = np.ndarray[Any, Any]

_ROW = 1000  # mel frames of a row of the picture: ten seconds
_TALL = 3  # pixels of a band
_GAP = 12  # white pixels between rows


def run(arguments: Sequence[str]) -> int:
    """Inference on one video: its picture with speech synthesized from the lips. `OSError` where a file cannot be read
    or written, `ValueError` for whatever else is wrong with what was given; the message names the file."""
    values = _parse(arguments)
    with sigterm_raised():  # temporary files go, too
        return _run(values)


def _run(values: Namespace) -> int:
    return on_plain_copy(values.video, lambda plain, notes: _synthesize(values, plain, notes))


def _synthesize(values: Namespace, plain: Path, found: list[str]) -> int:
    """Synthesize the speech of a video by its plain copy, which may be the video itself; `found` says why it is not."""
    for note in found:
        say(f"note: {values.video}: {note}")
    device = device_of(values.device)
    if device.type == "cpu":
        sleep_when_busy()
    video: Path = values.video
    out: Path = values.out
    info = probe_video(plain)
    check_container(plain, out)
    _check_not_over(out, [video, values.speaker_reference, values.coordinates, values.checkpoint])
    checkpoint = load_checkpoint(values.checkpoint)
    # a published file does not say what crops it was trained on: LRS2's, unless --size says otherwise
    vocoder = vocoder_of(values.vocoder, checkpoint.mel, device)
    synthesizer = Synthesizer.from_checkpoint(checkpoint, device, vocoder, name=values.checkpoint)
    square, notes = _square(values, synthesizer.transforms)
    reference = _reference(video, values.speaker_reference, checkpoint)
    make_folder(out.parent)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        began, times = time.perf_counter(), PartTimes()
        if square is None:
            lips = track_lips(video, info, _tracking(values), synthesizer.transforms, times)
        else:
            with times.timed(DECODING):
                lips = read_lips(video, info, square, synthesizer.transforms)
        if values.speaker_reference is None:
            say(f"speaker reference: the loudest half second of {video} itself; --speaker-reference names another file")
        for note in notes + lips.notes:
            say(f"note: {note}")
        with times.timed(NETWORK):
            mel, text = synthesizer.read(lips.roi, reference)
        with times.timed(VOCODER):
            sound = to_pcm16(synthesizer.waveform(mel))
        places = _places(out)
        made = [Path(folder) / place.name for place in places]
        mux_sound(plain, sound, lips.start, made[0], out)
        made[1].write_bytes(encode_speech(sound))
        mel_image(mel.cpu().numpy()).save(made[2])
        for source, place in zip(reversed(made), reversed(places), strict=True):
            os.replace(source, place)
    took, seconds = time.perf_counter() - began, len(lips.roi) / FPS
    whose = values.speaker_reference or f"{video} itself"
    if text is not None:
        say(f"read from the lips: {text}")
    say(
        f"{', '.join(map(str, places))}: {seconds:.1f} s of speech, speaker reference {whose}, synthesized in "
        f"{took:.1f} s on {device.type} (real-time factor {took / seconds:.2f}; {times})"
    )
    return 0


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = CommandParser("python -m eval synthesize", __doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="of a lip2speech network, ours or published")
    add("--video", type=Path, required=True, help="of one face; any frame rate and size")
    add("--out", type=Path, required=True, help="video to write: .mp4, .m4v, .mov, .mkv or .webm")
    add("--face", type=int | None, help="lips are tracked; of several faces this one, from 1, left to right")
    add(
        "--square_eye_distances",
        type=float,
        default=SQUARE_EYE_DISTANCES,
        help="side of the square around tracked lips in eye distances; the default fits networks trained on LRS2",
    )
    add("--coordinates", type=Path | None, help="instead: file of lip centers, a line a clip or this video's alone")
    add("--size", type=int | None, help="side of the lip square around --coordinates, pixels; default: as in training")
    add("--lip_box", type=str | None, metavar="X,Y,SIZE", help="instead: lip center and side, the same in every frame")
    add("--speaker_reference", type=Path | None, help="file with speech of the speaker; default: the video's own sound")
    add(
        "--vocoder",
        type=str,
        default="default",
        help="checkpoint of the task vocoder, griffin_lim or published; default: a released file's own, or Griffin-Lim",
    )
    add("--device", choices=["cpu", "cuda"], help="default: cuda if there is one")
    return parser.parse(arguments)


def _places(out: Path) -> list[Path]:
    return [out, out.with_suffix(".wav"), out.with_suffix(".png")]


def _check_not_over(out: Path, inputs: list[Path | None]) -> None:
    for place in _places(out):
        if place.exists():
            check_regular(place)  # a FIFO or a device is nothing to put a file in the place of
        for given in inputs:
            if given is not None and place.exists() and given.exists() and place.samefile(given):
                raise ValueError(f"--out {out}: {place} would be written over what is read: choose another name")


def _square(values: Namespace, transforms: TransformSettings) -> tuple[LipSquares | None, list[str]]:
    """Where the lips are, and notices; None: they are to be tracked."""
    if values.coordinates is not None and values.lip_box is not None:
        raise ValueError(f"{values.video}: --coordinates and --lip-box both say where the lips are: give one of them")
    if values.size is not None and values.coordinates is None:
        raise ValueError(f"--size {values.size}: belongs to --coordinates; --lip-box has its own, X,Y,SIZE")
    if values.face is not None and (values.coordinates is not None or values.lip_box is not None):
        raise ValueError(f"--face {values.face}: is for lips that are tracked, without --coordinates and --lip-box")
    if values.lip_box is not None:
        return read_box(values.lip_box), []
    if values.coordinates is None:
        return None, []
    side = 2 * transforms.crop_radius if values.size is None else values.size
    return read_coordinates(values.coordinates, values.video, side)


def _tracking(values: Namespace) -> TrackSettings:
    return TrackSettings(values.face, "split", values.square_eye_distances)


def _reference(video: Path, file: Path | None, checkpoint: Checkpoint) -> torch.Tensor:
    reference = reference_of(file or video, checkpoint.mel)
    if reference is None and file is None:
        raise ValueError(f"{video}: it has no sound for a speaker reference: name a file with --speaker-reference")
    if reference is None:
        raise ValueError(f"{file}: it has no sound, and that of a speaker was expected")
    return reference


def mel_image(mel: Array) -> Image.Image:
    """A mel, (n_mels, S) in the network's units, as a picture: ten seconds a row, low bands at the bottom, a pixel a
    mel frame and three a band; -1 to 1 over the colour map, whatever the clip."""
    rows = -(-mel.shape[1] // _ROW)
    width = min(mel.shape[1], _ROW)
    coloured = color_map()[mel_levels(mel)].repeat(_TALL, axis=0)
    height = len(coloured) + _GAP
    image = np.full((rows * height - _GAP, width, 3), 255, np.uint8)
    for row in range(rows):
        part = coloured[:, row * _ROW : (row + 1) * _ROW]
        image[row * height :][: len(part), : part.shape[1]] = part
    return Image.fromarray(image)
