"""The drawn faces: what can be seen of a sound, that lips go with speech, that speakers differ."""

from __future__ import annotations

# IPA letters are meant, however like others they look.
# ruff: noqa: RUF001
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from pipeline.demo import articulation, grammar, speech, visemes
from pipeline.demo.camera import film
from pipeline.demo.clip import perform
from pipeline.demo.corpus import plan_corpus
from pipeline.demo.motion import Motion
from pipeline.demo.mouth import lips
from pipeline.demo.portrait import paint
from pipeline.demo.shading import Light
from pipeline.demo.speakers import Look, cast
from pipeline.demo.speech import Phone, Voice

LIGHT = Light(0.3, -0.5, 0.9, 0.74, 0.38)
HABITS = articulation.Habits()


def still(frames: int) -> Motion:
    zero = np.zeros(frames)
    return Motion(zero + 80, zero + 77, zero + 1.09, zero, zero, zero, zero, zero, zero, zero)


def phones(*names: str, seconds: float = 0.09) -> tuple[Phone, ...]:
    return tuple(Phone(n, 0.2 + k * seconds, 0.2 + (k + 1) * seconds, False) for k, n in enumerate(names))


def mouth_track(*names: str, seconds: float = 0.09) -> np.ndarray:
    return articulation.articulate(phones(*names, seconds=seconds), 1.0, HABITS, np.random.default_rng(0))


LOOKALIKES = [
    ("p", "b", "m"),
    ("f", "v"),
    ("θ", "ð"),
    ("t", "d", "n", "s", "z"),
    ("k", "ɡ", "ŋ"),
    ("ʃ", "ʒ", "tʃ", "dʒ"),
]


@pytest.mark.parametrize("group", LOOKALIKES, ids="".join)
def test_demo_face_draws_sounds_of_one_viseme_alike_to_the_pixel(group: tuple[str, ...]) -> None:
    look = cast(1, 0)[0].look
    portrait = paint(look, LIGHT, 0)
    tracks = [mouth_track("ɑː", name, "iː")[40:80:10] for name in group]
    pictures = [[f.picture for f in film(look, portrait, track, still(len(track)), 0)] for track in tracks]
    for other in pictures[1:]:
        assert np.array_equal(np.stack(pictures[0]), np.stack(other))


def test_demo_face_draws_visemes_differently() -> None:
    # h takes the mouth of its neighbors, and w is "oo" in passing.
    own = {name: v for name, v in visemes.VISEMES.items() if name not in ("glottal", "labiovelar")}
    targets = {name: viseme.target.vector() for name, viseme in own.items()}
    names = list(targets)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            assert np.abs(targets[name] - targets[other]).max() > 0.09, (name, other)


def test_visemes_have_no_phoneme_in_common() -> None:
    members = [member for viseme in visemes.VISEMES.values() for member in viseme.members]
    assert len(set(members)) == len(members)
    assert all(part in visemes.CLASS_OF for parts in visemes.GLIDES.values() for part in parts)


def test_visemes_cover_every_phoneme_of_every_word_in_every_voice() -> None:
    accents = {speaker.voice.name.split("+")[0] for speaker in cast(20, 0)}
    options = [word for rule, words in grammar.RULES.items() if rule != "SENTENCE" for word in words]
    carrier = [" ".join(grammar.words_of(text)) for text in grammar.RULES["SENTENCE"]]
    text = ". ".join(" ".join(grammar.words_of(o)) for o in options + carrier)
    for accent in sorted(accents):
        synthesized = speech.synthesize(text, Voice(accent, 300, 50, 50))
        assert {phone.name for phone in synthesized.phones} <= visemes.CLASS_OF.keys() | visemes.GLIDES.keys(), accent
        assert [word.text for word in synthesized.words] == grammar.words_of(text)


def test_demo_vocabulary_is_a_few_hundred_words() -> None:
    options = [option for options in grammar.RULES.values() for option in options]
    vocabulary = {word for option in options for word in grammar.words_of(re.sub("[A-Z]+", " ", option))}
    assert 250 <= len(vocabulary) <= 600
    rng = np.random.default_rng(0)
    for _ in range(200):
        words = grammar.words_of(grammar.sentence(rng))
        assert 4 <= len(words) <= 18
        assert set(words) <= vocabulary


def test_demo_speech_depends_not_on_what_was_synthesized_before() -> None:
    voice = Voice("en-us+f2", 160, 60, 50)
    first = speech.synthesize("please add the butter.", voice, seed=3)
    speech.synthesize("something else, by somebody else.", Voice("en+m3", 120, 30, 20), seed=9)
    again = speech.synthesize("please add the butter.", voice, seed=3)
    assert np.array_equal(first.samples, again.samples)
    assert first.phones == again.phones
    assert first.words == again.words


def test_demo_speech_names_a_voice_that_does_not_exist() -> None:
    with pytest.raises(speech.SpeechError, match="'xx-nowhere'"):
        speech.synthesize("hello.", Voice("xx-nowhere", 160, 50, 50))


def test_demo_speech_names_a_missing_espeak_and_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(speech.SpeechError, match="espeakng-loader"):
        speech.synthesize("hello.", Voice("en", 160, 50, 50))


@pytest.mark.parametrize("seconds", [0.03, 0.06, 0.12])
def test_demo_lips_close_for_p_in_at_least_one_frame_however_fast(seconds: float) -> None:
    look = cast(1, 0)[0].look
    for shift in np.linspace(0, 0.04, 8):
        track = mouth_track("ɑː", "p", "ɑː", seconds=seconds)
        shapes = articulation.at_frames(track, np.arange(24) / 25 + shift)
        shown = shapes[int(0.2 * 25) : int((0.2 + 3 * seconds) * 25) + 2]
        gaps = [lips(look, shape).rise + lips(look, shape).fall for shape in shown]
        assert min(gaps) < 0.05


def test_demo_lips_round_before_a_rounded_vowel_begins() -> None:
    soon, seen = mouth_track("s", "uː", "n"), mouth_track("s", "iː", "n")
    during_s = round(0.25 * articulation.TRACK_RATE)
    assert soon[during_s, visemes.ROUNDING] > seen[during_s, visemes.ROUNDING] + 0.15


def test_demo_mouth_opens_in_the_picture_for_an_open_vowel() -> None:
    look = cast(1, 0)[0].look
    portrait = paint(look, LIGHT, 0)
    names = ("bilabial", "close spread", "open back")
    shapes = np.stack([visemes.VISEMES[name].target.vector() for name in names])
    areas = [float(frame.lips.sum()) for frame in film(look, portrait, shapes, still(3), 0)]
    assert areas[0] < areas[1] < areas[2]
    assert areas[2] > 2 * areas[0]


def test_demo_mouth_opens_with_the_energy_of_speech() -> None:
    opening, energy = [], []
    for plan in plan_corpus(30, 3, 0)[:8]:
        take = perform(plan)
        power = (take.sound.reshape(len(take.shapes), -1) ** 2).mean(1)
        energy.append(np.log(power + 1e-6))
        opening.append(take.shapes[:, visemes.GAP])
    correlation = np.corrcoef(np.concatenate(opening), np.concatenate(energy))[0, 1]
    # Lips and loudness go together, but s is closed and loud and k is open and still: far from one.
    assert 0.4 < correlation < 0.95


def test_demo_speakers_do_not_look_alike() -> None:
    rest = visemes.VISEMES["rest"].target.vector()[None]

    def face(look: Look, across: float, seed: int) -> np.ndarray:
        portrait = paint(look, replace(LIGHT, x=across), seed)
        return next(film(look, portrait, rest, still(1), seed)).picture[25:150, 30:130].astype(float)

    looks = [speaker.look for speaker in cast(8, 0)]
    faces = [face(look, 0.3, 0) for look in looks]
    within = max(np.abs(face(look, -0.1, 1) - mine).mean() for look, mine in zip(looks[:3], faces, strict=False))
    between = min(np.abs(faces[i] - faces[j]).mean() for i in range(len(looks)) for j in range(i))
    # Measured 28 against 16 gray levels, the worst of pairs against the worst change of light.
    assert between > 1.5 * within


def test_demo_blinks_close_the_eyes() -> None:
    look = cast(1, 0)[0].look
    portrait = paint(look, LIGHT, 0)
    rest = np.repeat(visemes.VISEMES["rest"].target.vector()[None], 2, 0)
    motion = replace(still(2), closed=np.array([0.0, 1.0]))
    opened, shut = (f.picture.astype(float) for f in film(look, portrait, rest, motion, 0))
    changed = np.abs(opened - shut).mean(2) > 25
    rows = np.flatnonzero(changed.any(1))
    assert changed.sum() > 60
    assert rows.min() > 45
    assert rows.max() < 80


def test_demo_clips_of_a_few_seconds_have_blinks() -> None:
    takes = [perform(plan) for plan in plan_corpus(30, 3, 1)[:5]]
    assert any(take.motion.closed.max() > 0.8 for take in takes)
