"""Speech with its timing: espeak-ng, out of the wheel `espeakng-loader`, driven through ctypes.

espeak-ng tells, sample by sample, where each word and each phoneme of what it says begins; that is what
the drawn lips follow and what the word times of pretrain transcripts come from. Its library keeps state
between calls (flutter, noise, wave phase), so the same sentence said twice in one process differs. Every
utterance here therefore gets a private image of the library, loaded from a copy and unloaded afterwards:
what is said depends on the arguments alone, in whatever process and order.
"""

from __future__ import annotations

import _ctypes
import ctypes
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from runtime.constants import SAMPLE_RATE

# Of espeak-ng's speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_OPTION_PHONEME_EVENTS, _OPTION_IPA, _OPTION_DO_NOT_EXIT = 0x0001, 0x0002, 0x8000
_PARAMETER_RATE, _PARAMETER_PITCH, _PARAMETER_RANGE = 1, 3, 4
_EVENT_END_OF_LIST, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_POSITION_CHARACTER, _TEXT_UTF8 = 1, 1


class SpeechError(ValueError):
    """espeak-ng is missing or refused to speak."""


@dataclass(frozen=True)
class Voice:
    """How a speaker sounds: an espeak-ng voice such as `en-us+f3`, words a minute, pitch and range (0..99)."""

    name: str
    rate: int
    pitch: int
    pitch_range: int


@dataclass(frozen=True)
class Phone:
    """One phoneme in IPA without marks of stress (empty: a pause), its start and end in seconds."""

    name: str
    start: float
    end: float
    stressed: bool


@dataclass(frozen=True)
class Word:
    """One word as written, lower case, its start and end in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Speech:
    """What was said: samples (L,) float32 at 16 kHz in [-1, 1], phones and words timed on them."""

    samples: np.ndarray
    phones: tuple[Phone, ...]
    words: tuple[Word, ...]

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@contextmanager
def _fresh_library() -> Iterator[tuple[ctypes.CDLL, str]]:
    """A private image of espeak-ng and the folder of its data; unloaded on leaving."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise SpeechError(
            "the demo corpus speaks through espeak-ng, which is not installed: pip install espeakng-loader"
        ) from error
    installed, data = Path(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())
    with tempfile.TemporaryDirectory(prefix="espeak-") as folder:
        private = Path(folder) / installed.name
        try:
            shutil.copyfile(installed, private)
            library = ctypes.CDLL(str(private))
        except OSError as error:
            raise SpeechError(f"espeak-ng's library {installed} cannot be loaded: {error}") from error
        try:
            yield library, data
        finally:
            library.espeak_Terminate()
            _ctypes.dlclose(library._handle)


def synthesize(text: str, voice: Voice, *, seed: int = 0) -> Speech:
    """Says `text` (lower case, words of letters and apostrophes, with commas and full stops) in `voice`.

    The result is a pure function of the arguments; `seed` changes only espeak-ng's own breath noise.
    Raises SpeechError if espeak-ng is missing, lacks the voice or says nothing.
    """
    chunks: list[np.ndarray] = []
    marks: list[tuple[int, int, int, str]] = []

    def on_speech(wave: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]) -> int:
        if wave and count:
            chunks.append(np.ctypeslib.as_array(wave, (count,)).copy())
        index = 0
        while events[index].type != _EVENT_END_OF_LIST:
            event = events[index]
            # A name of eight bytes fills its field without a closing zero.
            name = ctypes.string_at(ctypes.addressof(event) + _Event.id.offset, 8).split(b"\0")[0]
            if event.type in (_EVENT_WORD, _EVENT_PHONEME):
                label = name.decode("utf-8", "replace") if event.type == _EVENT_PHONEME else ""
                marks.append((event.type, event.sample, event.text_position, label))
            index += 1
        return 0

    callback = _Callback(on_speech)
    with _fresh_library() as (library, data):
        library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
        options = _OPTION_PHONEME_EVENTS | _OPTION_IPA | _OPTION_DO_NOT_EXIT
        rate = library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, data.encode(), options)
        if rate <= 0:
            raise SpeechError(f"espeak-ng does not start with the data in {data}")
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        # Some of its noise comes from the C library's own generator, which the whole process shares.
        ctypes.CDLL(None).srand(seed % 2**31)
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise SpeechError(f"espeak-ng has no voice {voice.name!r}")
        for parameter, value in (
            (_PARAMETER_RATE, voice.rate),
            (_PARAMETER_PITCH, voice.pitch),
            (_PARAMETER_RANGE, voice.pitch_range),
        ):
            library.espeak_SetParameter(parameter, value, 0)
        said = text.encode()
        library.espeak_Synth(said, ctypes.c_size_t(len(said) + 1), 0, _POSITION_CHARACTER, 0, _TEXT_UTF8, None, None)
        library.espeak_Synchronize()

    if not chunks or not marks:
        raise SpeechError(f"espeak-ng said nothing for {text!r}")
    wave = np.concatenate(chunks).astype(np.float32) / 32768
    phones = _phones(marks, rate, len(wave))
    samples = soxr.resample(wave, rate, SAMPLE_RATE, quality="VHQ").astype(np.float32)
    return Speech(samples, phones, _words(text, marks, phones, rate))


def _phones(marks: list[tuple[int, int, int, str]], rate: int, length: int) -> tuple[Phone, ...]:
    sounds = [(sample, label) for kind, sample, _, label in marks if kind == _EVENT_PHONEME]
    ends = [sample for sample, _ in sounds[1:]] + [length]
    phones = []
    for (start, label), end in zip(sounds, ends, strict=True):
        if end > start:
            name = label.strip("\u02c8\u02cc")
            phones.append(Phone(name, start / rate, end / rate, label.startswith("\u02c8")))
    return tuple(phones)


def _words(text: str, marks: list[tuple[int, int, int, str]], phones: tuple[Phone, ...], rate: int) -> tuple[Word, ...]:
    """Word times: from a word's event to the next one's, less the pause between, if there is one.

    espeak-ng says some pairs in one breath with a single event: they share its span by their letters.
    """
    tokens = [(match.start() + 1, match.group()) for match in re.finditer(r"[a-z']+", text)]
    starts = {position: sample / rate for kind, sample, position, _ in marks if kind == _EVENT_WORD}
    pauses = [phone for phone in phones if not phone.name]
    groups: list[tuple[float, list[str]]] = []
    for position, token in tokens:
        if position in starts or not groups:
            groups.append((starts.get(position, 0.0), [token]))
        else:
            groups[-1][1].append(token)
    words: list[Word] = []
    for index, (start, members) in enumerate(groups):
        # A word event may be timed at the pause before the word's first sound.
        start = max([start] + [pause.end for pause in pauses if pause.start <= start < pause.end])
        end = groups[index + 1][0] if index + 1 < len(groups) else phones[-1].end
        end = min([end] + [pause.start for pause in pauses if pause.start > start])
        letters = sum(len(member) for member in members)
        for member in members:
            stop = start + (end - start) * len(member) / letters
            words.append(Word(member, start, stop))
            start, letters = stop, letters - len(member)
    return tuple(words)
