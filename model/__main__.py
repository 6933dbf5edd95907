"""`python -m model import PUBLISHED --out OURS`: a published checkpoint as one of ours.

Published files are read as they are wherever a checkpoint is named; importing one adds its tokenizer and says once and
for all whether every tensor fits. `info CHECKPOINT` says what a checkpoint holds; `export CHECKPOINT --out FILE` writes
a lip-to-speech network or a vocoder as a program that torch runs without this package.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from model.checkpoint import Checkpoint, build_network, load_checkpoint, save_checkpoint
from model.lip_to_speech import LipToSpeech
from model.padding import Padding
from model.tokenizer import Tokenizer
from model.transforms import TransformSettings
from model.vocoders.neural_vocoder import Vocoder, VocoderSettings
from runtime.command_line import CommandParser, run_commands
from runtime.terminal import say


def import_published(arguments: Sequence[str]) -> int:
    """Write a published checkpoint as one of ours."""
    parser = CommandParser("python -m model import", import_published.__doc__)
    parser.add_argument("published", type=str, help="lip-to-speech, ASR or visual-encoder file")
    parser.add_argument("--out", type=str, required=True, help="file to write")
    parser.add_argument(
        "--tokenizer", type=str | None, default=None, help="SentencePiece model that its CTC head was trained with"
    )
    parser.add_argument(
        "--padding", type=Padding | None, default=None, help="default: the file's own, published for published files"
    )
    values = parser.parse(arguments)
    checkpoint = load_checkpoint(values.published)
    tokenizer = Tokenizer.load(values.tokenizer) if values.tokenizer else checkpoint.tokenizer
    if isinstance(checkpoint.settings, VocoderSettings):
        raise ValueError(f"{values.published}: a vocoder of ours, and a published file was expected")
    settings = dataclasses.replace(checkpoint.settings, padding=values.padding or checkpoint.settings.padding)
    checkpoint = dataclasses.replace(checkpoint, settings=settings, tokenizer=tokenizer)
    build_network(checkpoint, f"{values.published} with {values.tokenizer}" if values.tokenizer else values.published)
    save_checkpoint(values.out, checkpoint)
    say(f"{values.out}: {_summary(checkpoint)}")
    return 0


def info(arguments: Sequence[str]) -> int:
    """Say what a checkpoint holds."""
    parser = CommandParser("python -m model info", info.__doc__)
    parser.add_argument("checkpoint", type=str, help="one of ours, or a published file")
    path = parser.parse(arguments).checkpoint
    checkpoint = load_checkpoint(path)
    network = build_network(checkpoint, path)
    say(f"{path}: {_summary(checkpoint)}")
    for name, part in network.named_children():
        say(f"  {name:10} {sum(x.numel() for x in part.parameters()):>12,} parameters")
    for name, value in dataclasses.asdict(checkpoint.settings).items():
        say(f"  {name:10} {value}")
    for name, number in checkpoint.metrics.items():
        say(f"  {name:10} {number:.4g}")
    for task, other in checkpoint.parts.items():
        build_network(other, f"{path}: its {task}")
        say(f"  with {_summary(other)}")
    if checkpoint.card:
        say(f"\n{checkpoint.card}")
    return 0


def export(arguments: Sequence[str]) -> int:
    """Write a lip-to-speech network or a vocoder for torch.export.load."""
    from model.export import export_lip_to_speech, export_vocoder  # they bring the exporter, a second of imports

    parser = CommandParser("python -m model export", export.__doc__)
    parser.add_argument("checkpoint", type=str, help="one of ours, or a published file")
    parser.add_argument("--out", type=str, required=True, help="file to write, usually .pt2")
    parser.add_argument(
        "--side", type=int | None, default=None, help="pixels of a side of the lip region; default: the checkpoint's"
    )
    values = parser.parse(arguments)
    checkpoint = load_checkpoint(values.checkpoint)
    network = build_network(checkpoint, values.checkpoint)
    if isinstance(network, Vocoder):
        export_vocoder(network, values.out)
        say(f"{values.out}: torch.export.load({values.out!r}).module()(mel, lengths)")
        return 0
    if not isinstance(network, LipToSpeech):
        found = type(network).__name__
        raise ValueError(f"{values.checkpoint}: a {found}; only lip-to-speech networks and vocoders are exported")
    export_lip_to_speech(network, values.out, values.side or (checkpoint.transforms or TransformSettings()).size)
    say(f"{values.out}: torch.export.load({values.out!r}).module()(video, lengths, reference)")
    return 0


def _summary(checkpoint: Checkpoint) -> str:
    numbers = sum(x.numel() for x in checkpoint.weights.values())
    text = "no tokenizer" if checkpoint.tokenizer is None else f"{checkpoint.tokenizer.vocabulary_size} pieces"
    if not checkpoint.settings.vocabulary:
        text = "no CTC head"
    return f"{checkpoint.kind}, {numbers:,} numbers, step {checkpoint.step}, {text}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status: 0 done, 2 when a file or what is in it was not as expected."""
    return run_commands("python -m model", {"import": import_published, "info": info, "export": export}, arguments)


if __name__ == "__main__":
    sys.exit(main())
