"""Every command line that reads stored files, on the files of `tests.fuzz.scene`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

_BUILD = "--dataset lrs2 --root corpus/LRS2-BBC --split-lists corpus --crop-radius 11 --shard-mb 0.5 --workers 0"
_MINE = "--dataset folder --root mine --crop-radius 11 --out built --workers 0"
_TRAIN = shlex.join(
    [
        "--network.visual={channels: 2, dropout: 0.1, conformer: {layers: 1, width: 16, heads: 2, kernel: 5}}",
        "--network.speaker={channels: [8, 8], width: 8}",
        "--network.decoder={width: 16, channels: [8]}",
        "--asr={channels: [4, 8], conformer: {layers: 1, width: 16, heads: 2, kernel: 5}}",
        "--vocoder={width: 8, layers: 1}",
        "--transforms.size=32",
        "--batch.max_padded_frames=80",
        "--splits=[train]",
        "--workers=0",
        "--device=cpu",
        "--schedule.steps=2",
        "--checkpoint={every: 1, last: 3, log_every: 1, best: l1}",
        "--validation={every: 2, clips: 1, speech: [], examples: 0}",
    ]
)
_ON_DATA = f"--shards=data {_TRAIN}"
_AS_ASR = "--task=asr --checkpoint.best=ctc"
_BEST, _STEP = "runs/main/best.pt", "runs/main/checkpoints/step-00000002.pt"
_EVALUATE = f"--split=test --metrics=[] --workers=0 --device=cpu --checkpoint={_BEST} --shards=data"
_SYSTEMS = "'--systems=[network, original]'"
_SYNTHESIZE = f"synthesize --checkpoint {_BEST} --video mine/s/1.mp4 --out made/out.mp4 --device cpu"


@dataclass(frozen=True)
class Command:
    """A command line on some files, each given as names with blanks between them.

    Attributes:
        line: program (`pipeline`, `train`, `eval` or `model`) and arguments.
        reads: files and folders of the scene that it needs.
        writes: files and folders that it may write.
        result: files, as patterns, that are the same whenever all that it reads is.
        then: the command that finds nothing wrong with what this one wrote, if its status is 0.
    """

    line: str
    reads: str
    writes: str = ""
    result: str = ""
    then: str | None = None

    @property
    def program(self) -> str:
        return shlex.split(self.line)[0]

    @property
    def arguments(self) -> list[str]:
        return shlex.split(self.line)[1:]


_RELEASE = (
    f"release --checkpoint={_BEST} --asr=runs/asr/best.pt --vocoder=runs/vocoder/best.pt --data=faces --license=none"
)

SCENE = [
    f"pipeline build {_BUILD} --out data",
    f"pipeline build {_BUILD} --out data-mkv --roi-codec ffv1",
    "pipeline tokenizer data --vocabulary-size 30",
    f"train {_ON_DATA} {_AS_ASR} --out=runs/asr",
    f"train {_ON_DATA} --task=vocoder --out=runs/vocoder",
    f"train {_ON_DATA} --out=runs/main",
    f"eval {_EVALUATE} {_SYSTEMS} --out=reports/a",
    f"eval {_RELEASE} --out=release.pt",
]
"""What makes the scene's datasets, runs and a report of its corpus."""

_BUILT = "built/*.tar built/*.parquet built/errors.jsonl"

COMMANDS = {
    "verify": Command("pipeline verify data --workers 0", "data"),
    "verify mkv": Command("pipeline verify data-mkv --workers 0", "data-mkv"),
    "verify built": Command("pipeline verify built --workers 0", "built"),
    "info": Command("pipeline info data --lag-clips 2", "data"),
    "preview": Command("pipeline preview data --html page.html", "data", "page.html", "page.html"),
    "preview mkv": Command("pipeline preview data-mkv --html page.html", "data-mkv", "page.html"),
    "preview with videos": Command(
        "pipeline preview data --html page.html --n 2 --root corpus/LRS2-BBC", "data corpus", "page.html"
    ),
    "tokenizer": Command(
        "pipeline tokenizer data --out new.model --vocabulary-size 30", "data", "new.model", "new.model"
    ),
    "build": Command(f"pipeline build {_BUILD} --out built", "corpus", "built", _BUILT, "verify built"),
    "build again": Command(
        f"pipeline build {_BUILD} --out data", "corpus data", "data", "data/*.tar data/*.json* data/*.parquet", "verify"
    ),
    "build folder": Command(f"pipeline build {_MINE}", "mine", "built", _BUILT, "verify built"),
    "build with sounds": Command(
        f"pipeline build {_MINE} --audio sounds --split train=all.txt", "mine sounds", "built", _BUILT, "verify built"
    ),
    "build grid": Command(
        "pipeline build --dataset grid --root grid --lip-box 80,100 --crop-radius 11 --out built --workers 0",
        "grid",
        "built",
        _BUILT,
        "verify built",
    ),
    "build by settings": Command(
        "pipeline build --config settings.yaml --split-lists corpus --out built --workers 0",
        "corpus settings.yaml",
        "built",
        "",
        "verify built",
    ),
    "track": Command("pipeline track --root faces --out tracked/coordinates.txt --workers 0", "faces", "tracked"),
    "build tracked": Command(
        "pipeline build --dataset folder --root faces --crop-radius 11 --transcripts optional --out built --workers 0",
        "faces",
        "built",
        _BUILT,
        "verify built",
    ),
    "calibrate": Command("pipeline track --calibrate data --root corpus/LRS2-BBC --clips 2 --workers 0", "data corpus"),
    "train": Command(f"train {_ON_DATA} --out=new", "data", "new", "new/checkpoints/*"),
    "train asr": Command(f"train {_ON_DATA} {_AS_ASR} --out=new", "data", "new"),
    "train mkv": Command(
        f"train --shards=data-mkv {_TRAIN} --tokenizer=data/tokenizer.model --out=new", "data data-mkv", "new"
    ),
    "train by settings": Command(
        "train --config=settings.yaml --out=new --workers=0 --device=cpu --schedule.steps=1 --validation.split=null",
        "data settings.yaml",
        "new",
    ),
    "resume": Command(
        f"train {_ON_DATA} --out=runs/main --schedule.steps=3 --resume=auto",
        "data runs",
        "runs/main",
        "runs/main/checkpoints/step-00000003.pt",
    ),
    "resume a file": Command(
        f"train {_ON_DATA} --out=new --schedule.steps=3 --resume={_STEP}", "data runs", "new", "new/checkpoints/*"
    ),
    "init": Command(f"train {_ON_DATA} --out=new --init={_BEST}", "data runs", "new", "new/checkpoints/*"),
    "init vsr": Command(f"train {_ON_DATA} --out=new --init-vsr={_BEST}", "data runs", "new", "new/checkpoints/*"),
    "init asr": Command(f"train {_ON_DATA} --out=new --init-asr=runs/asr/best.pt", "data runs", "new"),
    "init lip2speech": Command(
        f"train {_ON_DATA} --task=vocoder --out=new --init-lip2speech={_BEST}", "data runs", "new"
    ),
    "model info": Command(f"model info {_BEST}", "runs"),
    "model info vocoder": Command("model info runs/vocoder/best.pt", "runs"),
    "model info published": Command("model info published.pt", "published.pt"),
    "import": Command(f"model import {_BEST} --out ours.pt", "runs", "ours.pt", "ours.pt"),
    "import published": Command("model import published.pt --out ours.pt", "published.pt", "ours.pt", "ours.pt"),
    "import tokenizer": Command(
        "model import runs/asr/best.pt --out ours.pt --tokenizer data/tokenizer.model", "runs data", "ours.pt"
    ),
    "export": Command(f"model export {_BEST} --out made.pt2", "runs", "made.pt2"),
    "eval": Command(
        f"eval {_EVALUATE} {_SYSTEMS} --out=new", "data runs", "new", "new/clips.csv new/clips.parquet new/wav/**/*.wav"
    ),
    "eval again": Command(
        f"eval {_EVALUATE} {_SYSTEMS} --out=reports/a",
        "data runs reports",
        "reports/a",
        "reports/a/clips.* reports/a/SHA256SUMS reports/a/summary.json reports/a/wav/**/*.wav reports/a/batches/*",
    ),
    "eval with asr": Command(f"eval {_EVALUATE} --out=new --asr=runs/asr/best.pt --clips=1", "data runs", "new"),
    "eval with vocoder": Command(
        f"eval {_EVALUATE} --out=new --vocoder=runs/vocoder/best.pt --clips=1", "data runs", "new"
    ),
    "eval of a release": Command(
        f"eval {_EVALUATE} --checkpoint=release.pt --asr=release.pt --out=new --clips=1", "data release.pt", "new"
    ),
    "release": Command(f"eval {_RELEASE} --out=new.pt", "runs", "new.pt new.pt.md", "new.pt"),
    "model info release": Command("model info release.pt", "release.pt"),
    "eval with a reference": Command(
        f"eval {_EVALUATE} --out=new --speaker-reference=sounds/s/1.wav --clips=1", "data runs sounds", "new"
    ),
    "eval by settings": Command(
        f"eval --config=settings.yaml --checkpoint={_BEST} --out=new --workers=0 --device=cpu",
        "data runs settings.yaml",
        "new",
    ),
    "compare": Command(
        "eval compare reports/a reports/b --out compared", "reports", "compared", "compared/comparison.*"
    ),
    "synthesize": Command(f"eval {_SYNTHESIZE} --lip-box 80,100,22", "mine runs", "made", "made/out.wav"),
    "synthesize a face": Command(
        f"eval synthesize --checkpoint {_BEST} --video faces/1.mp4 --out made/out.mp4 --device cpu",
        "faces runs",
        "made",
    ),
    "synthesize by coordinates": Command(
        f"eval {_SYNTHESIZE} --coordinates mine/coordinates.txt --speaker-reference sounds/s/1.wav",
        "mine runs sounds",
        "made",
    ),
}
