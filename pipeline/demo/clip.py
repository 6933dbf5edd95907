"""One clip, from its plan to its files: say it, move the mouth and the head to it, film, encode, transcribe.

A clip is a pure function of its plan: no state passes from clip to clip, so that any process may make any
clip, in any order, with the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.demo import articulation, camera, encode, motion, portrait, speech
from pipeline.demo.grammar import words_of
from pipeline.demo.shading import Light
from pipeline.demo.speakers import Speaker
from runtime.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from shards import Store

# How much of its sound the clip with late sound lacks: no whole number of frames, but of milliseconds, in
# which an mp4's edit list counts.
LATE_SAMPLES = 3040


@dataclass(frozen=True)
class ClipPlan:
    """What a clip is to be. `clip_set` is main or pretrain; `timing` is plain, late_sound or variable_rate;
    `sentences` are the grammar's; `seed` draws all that the speaker leaves open."""

    clip_set: str
    split: str
    speaker: Speaker
    name: str
    sentences: tuple[str, ...]
    timing: str
    seed: int

    @property
    def key(self) -> str:
        """`<speaker>/<clip>`, as in the split files."""
        return f"{self.speaker.name}/{self.name}"


@dataclass(frozen=True)
class Take:
    """A clip before it is encoded: sound (640 N,) float32 from frame 0; words and phones timed from frame 0;
    the mouth `shapes` (N, 9), the motion and the still face of which `camera.film` makes N frames."""

    sound: np.ndarray
    words: tuple[speech.Word, ...]
    phones: tuple[speech.Phone, ...]
    shapes: np.ndarray
    motion: motion.Motion
    portrait: portrait.Portrait


@dataclass(frozen=True)
class ClipRecord:
    """What was made: length in seconds, and one whole-pixel lip center (x, y) per frame in the file."""

    seconds: float
    centers: tuple[tuple[int, int], ...]


def perform(plan: ClipPlan) -> Take:
    """Says and acts a clip."""
    rng = np.random.default_rng([plan.seed, 11])
    said = _say(plan)
    lead, tail = rng.uniform(0.12, 0.4, 2)
    if plan.timing == "late_sound":
        lead = LATE_SAMPLES / SAMPLE_RATE + 0.1
    count = int(np.ceil((lead + said.seconds + tail) * FPS))
    first = round(lead * SAMPLE_RATE)
    lead = first / SAMPLE_RATE

    # A room is never silent: a low rumble under the voice keeps pauses from being zeros.
    sound = np.cumsum(rng.standard_normal(count * SAMPLES_PER_FRAME)) * 0.02
    sound -= np.convolve(sound, np.full(65, 1 / 65), mode="same")
    sound = 0.0008 * (sound / sound.std() + 0.5 * rng.standard_normal(len(sound)))
    peak = float(np.abs(said.samples).max())
    sound[first : first + len(said.samples)] += said.samples * (rng.uniform(0.35, 0.75) / max(peak, 1e-6))

    phones = tuple(speech.Phone(p.name, p.start + lead, p.end + lead, p.stressed) for p in said.phones)
    words = tuple(speech.Word(w.text, w.start + lead, w.end + lead) for w in said.words)
    # A frame stands for the 40 ms it is shown: it sees the mouth at their middle.
    times = (np.arange(count) + 0.5) / FPS
    track = articulation.articulate(phones, count / FPS, plan.speaker.habits, rng)
    light = Light(
        x=float(rng.uniform(-0.6, 0.6)),
        y=float(rng.uniform(-0.7, -0.35)),
        z=0.9,
        strength=float(rng.uniform(0.66, 0.82)),
        ambient=float(rng.uniform(0.34, 0.44)),
    )
    return Take(
        sound.astype(np.float32),
        words,
        phones,
        articulation.at_frames(track, times),
        motion.move(times, phones, rng),
        portrait.paint(plan.speaker.look, light, plan.seed),
    )


def make(plan: ClipPlan, root: Path) -> ClipRecord:
    """Writes `<root>/<set>/<speaker>/<clip>.mp4` and `.txt`."""
    take = perform(plan)
    ticks = list(range(len(take.shapes)))
    if plan.timing == "variable_rate":
        ticks = _kept(len(ticks), np.random.default_rng([plan.seed, 12]))
    kept = set(ticks)
    centers: list[tuple[int, int]] = []

    def pictures() -> Iterator[np.ndarray]:
        frames = camera.film(plan.speaker.look, take.portrait, take.shapes, take.motion, plan.seed)
        for index, frame in enumerate(frames):
            if index in kept:
                centers.append((round(frame.center[0]), round(frame.center[1])))
                yield frame.picture

    late = LATE_SAMPLES if plan.timing == "late_sound" else 0
    folder = root / plan.clip_set / plan.speaker.name
    folder.mkdir(parents=True, exist_ok=True)
    encode.write_mp4(folder / f"{plan.name}.mp4", pictures(), ticks, take.sound[late:], late)
    Store(str(folder)).write(f"{plan.name}.txt", transcript(plan, take.words).encode())
    return ClipRecord(len(take.shapes) / FPS, tuple(centers))


def transcript(plan: ClipPlan, words: tuple[speech.Word, ...]) -> str:
    """The text of a clip in LRS form; that of a pretrain clip goes on with a line a word, in seconds."""
    lines = ["Text:  " + " ".join(word.text.upper() for word in words), "Conf:  1"]
    if plan.clip_set == "pretrain":
        rng = np.random.default_rng([plan.seed, 13])
        lines += ["", "WORD START END ASDSCORE"]
        lines += [f"{w.text.upper()} {w.start:.2f} {w.end:.2f} {rng.uniform(5, 11):.1f}" for w in words]
    return "\n".join(lines) + "\n"


def _say(plan: ClipPlan) -> speech.Speech:
    """The plan's sentences at the speaker's rate, or as much faster or slower as the length asks for."""
    text = " ".join(sentence + "." for sentence in plan.sentences)
    low, high = (5.6, 9.2) if plan.clip_set == "pretrain" else (1.25, 3.2)
    voice = plan.speaker.voice
    rng = np.random.default_rng([plan.seed, 14])
    rate = voice.rate * rng.uniform(0.94, 1.06)
    for _ in range(4):
        paced = speech.Voice(voice.name, round(rate), voice.pitch, voice.pitch_range)
        said = speech.synthesize(text, paced, seed=plan.seed)
        if low <= said.seconds <= high:
            break
        # espeak-ng's pauses do not shrink with the rate, hence the little more.
        rate *= said.seconds / float(np.clip(said.seconds, low * 1.03, high * 0.97))
        rate = float(np.clip(rate, 90, 320))
    if [word.text for word in said.words] != words_of(text):
        raise speech.SpeechError(f"espeak-ng did not time the words of {text!r}: it gave {said.words}")
    return said


def _kept(count: int, rng: np.random.Generator) -> list[int]:
    """Which of `count` frames a camera of uneven rate delivers: five in six, the first and last always."""
    drawn = rng.random(count) > 0.17
    drawn[[0, -1]] = True
    # At least one gap, wherever the dice fell.
    drawn[count // 2] = False
    return [int(index) for index in np.flatnonzero(drawn)]
