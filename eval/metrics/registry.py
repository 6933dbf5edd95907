"""The metrics by name, and how their figures are displayed.

    metric_of("estoi")                      one of ours
    metric_of("mypackage.noise:snr")        a function (original, generated) -> float, or a `Metric`, of anybody's

Only names out of a command's own settings go there, for it imports what they name. Names out of stored results go to
`display_of`, which imports nothing: it knows our metrics, and those that this process has imported already.

`original` and `generated` are float32 (L,) at 16 kHz. A function raises `MetricError` where there is no figure, and
must not depend on earlier calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module

from eval.metrics.learned import EXTRA, PACKAGES, mos, similarity
from eval.metrics.optional import import_extra
from eval.metrics.pitch import f0_error, voicing_error
from eval.metrics.spectral import lsd, mcd
from eval.metrics.speech import estoi, pesq_narrow, pesq_wide, stoi
from eval.metrics.waveforms import Wave


@dataclass(frozen=True)
class Display:
    """How the figures of a metric are displayed."""

    title: str
    digits: int  # after the point
    higher_is_better: bool  # else lower is
    unit: str = ""  # empty where there is none
    scale: float = 1.0  # of stored figures: error rates are stored as shares and displayed in percent

    @property
    def label(self) -> str:
        return f"{self.title}, {self.unit}" if self.unit else self.title

    @property
    def better(self) -> str:
        return "higher is better" if self.higher_is_better else "lower is better"

    @property
    def note(self) -> str:
        """Unit and direction, below a column's title."""
        return f"{self.unit}, {self.better}" if self.unit else self.better

    def format(self, value: float | None) -> str:
        """A stored figure as text."""
        if value is None or not math.isfinite(value):
            return "\N{EN DASH}"
        return f"{value * self.scale:.{self.digits}f}"

    def format_difference(self, value: float | None) -> str:
        """A difference of two figures as text: with its sign, and one digit more, since it is smaller than they are."""
        if value is None or not math.isfinite(value):
            return "\N{EN DASH}"
        return f"{value * self.scale:+.{self.digits + 1}f}"


@dataclass(frozen=True)
class Metric:
    """A score of a pair of waveforms."""

    display: Display
    function: Callable[[Wave, Wave], float]  # of the original and the generated waveform
    packages: tuple[str, ...] = ()  # that it imports on first use
    extra: str = ""  # of ours, that installs them; empty: they come with ours
    alone: bool = False  # scores the generated waveform by itself: the original, too, can be given its score


SPEECH_METRICS: dict[str, Metric] = {
    "stoi": Metric(Display("STOI", 3, True), stoi, ("pystoi",)),
    "estoi": Metric(Display("ESTOI", 3, True), estoi, ("pystoi",)),
    "pesq": Metric(Display("PESQ", 2, True), pesq_narrow, ("pesq",)),
    "pesq_wide": Metric(Display("PESQ, wide band", 2, True), pesq_wide, ("pesq",)),
    "lsd": Metric(Display("Log-spectral distance", 2, False, "dB"), lsd),
    "mcd": Metric(Display("Mel-cepstral distortion", 2, False, "dB"), mcd, ("librosa",)),
    "f0_error": Metric(Display("F0 error", 0, False, "cents"), f0_error, ("librosa",)),
    "voicing_error": Metric(Display("Voicing error", 1, False, "%"), voicing_error, ("librosa",)),
    "similarity": Metric(Display("Speaker similarity", 3, True), similarity, PACKAGES["similarity"], EXTRA),
    "mos": Metric(Display("MOS by DNSMOS", 2, True), mos, PACKAGES["mos"], EXTRA, alone=True),
}
"""Metrics of a pair of waveforms, by the names that they have in settings and reports."""

_OTHERS = {
    "l1": Display("Mel L1", 3, False, "natural log"),
    "wer": Display("WER", 1, False, "%", 100.0),
    "cer": Display("CER", 1, False, "%", 100.0),
    "lips_wer": Display("WER, lips", 1, False, "%", 100.0),
    "lips_cer": Display("CER, lips", 1, False, "%", 100.0),
}
"""Figures of mels and of texts, not of a pair of waveforms."""


_imported: dict[str, Metric] = {}
"""Metrics of others that this process has imported, by import path."""


def metric_of(name: str) -> Metric:
    """A metric that settings name: by its name in `SPEECH_METRICS`, or by its import path `package.module:name`.

    A function found there is displayed under its own name with three digits, and higher is taken to be better; whoever
    wants it otherwise puts a `Metric` there. `ValueError` where there is no such name, module or function.
    """
    if name in SPEECH_METRICS:
        return SPEECH_METRICS[name]
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"metric {name!r}: expected one of {', '.join(SPEECH_METRICS)}, or package.module:function")
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError as error:
        raise ValueError(f"metric {name}: {module} cannot be imported: {error}") from error
    if not callable(found) and not isinstance(found, Metric):
        what = "no" if found is None else f"a {type(found).__name__} for"
        raise ValueError(f"metric {name}: {module} has {what} {attribute}; expected a function or a Metric")
    _imported[name] = found if isinstance(found, Metric) else Metric(Display(attribute, 3, True), found)
    return _imported[name]


def display_of(name: str) -> Display:
    """How figures are displayed, of a name that may come out of stored results: nothing is imported.

    `ValueError` where it is none of our metrics, of l1, wer, cer, lips_wer and lips_cer, or of the import paths that
    `metric_of` has been given in this process.
    """
    if name in _OTHERS:
        return _OTHERS[name]
    known = SPEECH_METRICS.get(name) or _imported.get(name)
    if known is None:
        raise ValueError(f"no metric that this command knows: {name[:200]!r}; --metrics imports one of your own")
    return known.display


def load_packages(names: Iterable[str]) -> None:
    """Import what these metrics need, so that a missing package (`PackageMissingError`) and a name that is no metric
    (`ValueError`) fail now, and not at the first clip."""
    for metric in [metric_of(name) for name in names]:
        for needed in metric.packages:
            if metric.extra:
                import_extra(needed, metric.extra)
            else:
                import_module(needed)


def check_packages(names: Iterable[str]) -> None:
    """As `load_packages`, for whoever does not score: what comes with lip-to-speech is not imported."""
    load_packages([name for name in names if metric_of(name).extra or not metric_of(name).packages])
