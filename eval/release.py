"""`python -m eval release`: a network, its ASR model and its vocoder in one small file to give away, with a model card.

    python -m eval release --checkpoint runs/x/best.pt --asr runs/x-asr/best.pt --vocoder runs/x-vocoder/best.pt \\
           --reports '[reports/x-val,reports/x-test]' --data "GRID (Cooke et al., 2006), speaker s1" \\
           --license "CC BY 4.0" --out release/x.pt

Weights are halves (fp16). The file stands wherever a checkpoint may stand: `synthesize` and `serve` speak through the
vocoder in it, and `--asr` takes the ASR model in it. The card is also written beside it, x.pt.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from jsonargparse import Namespace
from torch import Tensor

from eval.fingerprint import DIGEST, digest_of
from eval.report.about import vocoder_in_words
from eval.report.tables import display_or_name
from eval.results import Evaluation
from eval.summary import summarize
from model.asr import ASRSettings
from model.checkpoint import PARTS, Checkpoint, build_network, check_task, load_checkpoint, save_checkpoint
from runtime.atomic import atomic_write
from runtime.command_line import CommandParser
from runtime.terminal import say

_EXACT = ("running_mean", "running_var")
"""Ends of the names of weights that stay as they are: in halves small variances would be 0."""

_METRICS = ("stoi", "estoi", "pesq", "wer", "lips_wer", "mos")


def run(arguments: Sequence[str]) -> int:
    """Pack a network with what goes with it. `OSError` where a file cannot be read or written, `ValueError` where a
    checkpoint is none, of another task, or of another analysis of the mel, a report is none, or `--out` is a file that
    it reads."""
    values = _parse(arguments)
    out = Path(values.out)
    card = out.with_name(f"{out.name}.md")
    given = [Path(path) for path in (values.checkpoint, *(getattr(values, task) for task in PARTS)) if path is not None]
    for made in (out, card):
        if any(made.exists() and path.exists() and made.samefile(path) for path in given):
            raise ValueError(f"--out {out}: {made} is read, and would be overwritten: name another file")
    checkpoint = released(values)
    save_checkpoint(out, checkpoint)
    atomic_write(card, checkpoint.card.encode())
    say(f"{out}: {out.stat().st_size / 1e6:.1f} MB, sha256 {digest_of(values.out)}")
    say(f"{card}: its model card, to be read before both are given away")
    return 0


def released(values: Namespace) -> Checkpoint:
    """The checkpoint that is given away; errors as of `run`."""
    whole = load_checkpoint(values.checkpoint)
    check_task(whole, values.checkpoint, "lip2speech")
    parts = {task: _small(part, f"{values.checkpoint}: its {task}") for task, part in whole.parts.items()}
    for task in PARTS:
        path = getattr(values, task)
        if path is not None:
            part = load_checkpoint(path, task)
            check_task(part, path, task)
            if part.mel != whole.mel:
                raise ValueError(f"{path}: its mel is {part.mel}, and that of {values.checkpoint} {whole.mel}")
            parts[task] = _small(part, path)
    small = dataclasses.replace(_small(whole, values.checkpoint), parts=parts)
    return dataclasses.replace(small, card=_card(small, values))


def _small(checkpoint: Checkpoint, path: str) -> Checkpoint:
    """A checkpoint without what only training needs, its weights as halves."""
    settings, weights = checkpoint.settings, dict(checkpoint.weights)
    if isinstance(settings, ASRSettings) and settings.units:  # targets in training
        settings = dataclasses.replace(settings, units=0)
        weights = {name: x for name, x in weights.items() if not name.startswith("unit_")}
    weights = {name: _halved(name, x, path) for name, x in weights.items()}
    small = dataclasses.replace(checkpoint, settings=settings, weights=weights, training=None, parts={}, card="")
    build_network(small, path)
    return small


def _halved(name: str, x: Tensor, path: str) -> Tensor:
    if not x.is_floating_point() or name.endswith(_EXACT):
        return x
    if float(x.abs().max() if x.numel() else 0) > torch.finfo(torch.float16).max:
        raise ValueError(f"{path}: {name} has numbers beyond what halves can hold")
    return x.half()


def _card(checkpoint: Checkpoint, values: Namespace) -> str:
    environment = Environment(
        loader=PackageLoader("eval", "templates"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    reports = [_scores(Path(folder), values) for folder in values.reports]
    return environment.get_template("model_card.md").render(
        name=Path(values.out).name,
        data=values.data,
        license=values.license,
        reports=reports,
        step=checkpoint.step,
        sizes={
            task: sum(x.numel() for x in each.weights.values())
            for task, each in {"lip2speech": checkpoint, **checkpoint.parts}.items()
        },
    )


def _scores(folder: Path, values: Namespace) -> dict[str, Any]:
    """What a card says of an evaluation: a row a system, a column a metric that was measured. `ValueError` where it is
    of another network or vocoder than is given away."""
    evaluation = Evaluation.open(folder)
    summary, about = summarize(evaluation), evaluation.about
    vocoder = str(about.get("identity", {}).get("vocoder"))
    for what, path, digest in (
        ("checkpoint", values.checkpoint, about.get("checkpoint", {}).get("sha256")),
        ("vocoder", values.vocoder, vocoder if DIGEST.fullmatch(vocoder) else None),
    ):
        if digest is not None and digest != digest_of(path):
            raise ValueError(f"{folder}: an evaluation of another {what} than {path}: evaluate what is given away")
    systems = summary["systems"]
    metrics = [name for name in _METRICS if any(name in figures for figures in systems.values())]
    displays = {name: display_or_name(name) for name in metrics}
    return {
        "split": about.get("dataset", {}).get("split", ""),
        "clips": summary["clips"],
        "vocoder": vocoder_in_words(str(about.get("settings", {}).get("vocoder", ""))),
        "asr": "/".join(Path(str(about.get("settings", {}).get("asr") or "")).parts[-2:]),
        "titles": [displays[name].label for name in metrics],
        "rows": {
            system: [displays[name].format(figures.get(name, {}).get("mean")) for name in metrics]
            for system, figures in systems.items()
        },
    }


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = CommandParser("python -m eval release", __doc__)
    add = parser.add_argument
    add("--checkpoint", type=str, required=True, help="of a lip2speech network")
    add("--vocoder", type=str | None, default=None, help="checkpoint of the task vocoder, to speak through")
    add("--asr", type=str | None, default=None, help="checkpoint of the task asr, to judge by")
    add("--reports", type=list[str], default=[], help="folders of evaluations whose scores the card shows")
    add("--data", type=str, required=True, help="what it was trained on, for the card")
    add("--license", type=str, required=True, help="what the data's license lets others do with it, for the card")
    add("--out", type=str, required=True, help="file to write; its card beside it gets .md at the end")
    return parser.parse(arguments)
