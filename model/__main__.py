"""`python -m model import PUBLISHED --out OURS`: a published checkpoint as one of ours.

Published files are read as they are wherever a checkpoint is named; importing one adds its tokenizer and says once and
for all whether every tensor fits. `info CHECKPOINT` says what a checkpoint holds; `export CHECKPOINT --out FILE` writes
a lip-to-speech network as a program that torch runs without this package.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from model.checkpoint import Checkpoint, build_network, load_checkpoint, save_checkpoint
from model.lip_to_speech import LipToSpeech
from model.padding import Padding
from model.tokenizer import Tokenizer
from model.transforms import TransformSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did what it says, 2 when a file or what is in it was not as expected, which it prints.

    Args:
        arguments: default: those of the command line. Flags that are not known exit with 2, `--help` with 0.
    """
    parser = argparse.ArgumentParser(
        prog="python -m model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    importer = commands.add_parser("import", help="write a published checkpoint as one of ours")
    importer.add_argument("published", help="lip-to-speech, ASR or visual-encoder file")
    importer.add_argument("--out", required=True, help="file to write")
    importer.add_argument("--tokenizer", help="SentencePiece model that its CTC head was trained with")
    importer.add_argument(
        "--padding", choices=["published", "masked"], help="default: the file's own, published for published files"
    )
    info = commands.add_parser("info", help="say what a checkpoint holds")
    info.add_argument("checkpoint", help="one of ours, or a published file")
    exporter = commands.add_parser("export", help="write a lip-to-speech network for torch.export.load")
    exporter.add_argument("checkpoint", help="one of ours, or a published file")
    exporter.add_argument("--out", required=True, help="file to write, usually .pt2")
    exporter.add_argument("--side", type=int, help="pixels of a side of the lip region; default: the checkpoint's")
    values = parser.parse_args(arguments)
    try:
        if values.command == "import":
            return _import(values.published, values.out, values.tokenizer, values.padding)
        if values.command == "export":
            return _export(values.checkpoint, values.out, values.side)
        return _info(values.checkpoint)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _import(published: str, out: str, tokenizer: str | None, padding: Padding | None) -> int:
    checkpoint = load_checkpoint(published)
    pieces = Tokenizer.load(tokenizer) if tokenizer else checkpoint.tokenizer
    settings = dataclasses.replace(checkpoint.settings, padding=padding or checkpoint.settings.padding)
    checkpoint = dataclasses.replace(checkpoint, settings=settings, tokenizer=pieces)
    build_network(checkpoint, f"{published} with {tokenizer}" if tokenizer else published)
    save_checkpoint(out, checkpoint)
    print(f"{out}: {_summary(checkpoint)}")
    return 0


def _info(path: str) -> int:
    checkpoint = load_checkpoint(path)
    network = build_network(checkpoint, path)
    print(f"{path}: {_summary(checkpoint)}")
    for name, part in network.named_children():
        print(f"  {name:10} {sum(x.numel() for x in part.parameters()):>12,} parameters")
    for name, value in dataclasses.asdict(checkpoint.settings).items():
        print(f"  {name:10} {value}")
    for name, number in checkpoint.metrics.items():
        print(f"  {name:10} {number:.4g}")
    return 0


def _export(path: str, out: str, side: int | None) -> int:
    from model.export import export_lip_to_speech  # brings the exporter, a second of imports

    checkpoint = load_checkpoint(path)
    network = build_network(checkpoint, path)
    if not isinstance(network, LipToSpeech):
        raise ValueError(f"{path}: a {type(network).__name__}; only lip-to-speech networks are exported")
    export_lip_to_speech(network, out, side or (checkpoint.transforms or TransformSettings()).size)
    print(f"{out}: torch.export.load({out!r}).module()(video, lengths, reference)")
    return 0


def _summary(checkpoint: Checkpoint) -> str:
    numbers = sum(x.numel() for x in checkpoint.weights.values())
    text = "no tokenizer" if checkpoint.tokenizer is None else f"{checkpoint.tokenizer.vocabulary_size} pieces"
    return f"{checkpoint.kind}, {numbers:,} numbers, step {checkpoint.step}, {text}"


if __name__ == "__main__":
    sys.exit(main())
