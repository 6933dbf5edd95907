"""The recipe of `configs/grid.yaml` on a dataset of one's own, in so many minutes: three tasks and a report.

python -m tests.benchmarks.gpu.train_shards --shards FOLDER --seconds 300 [--device cpu] [--config FILE] [--out FOLDER]

The folder holds shards with a split to test on, and a tokenizer. What it ends with is the table of a report, scores of
the network beside its controls: whether it learned, which a benchmark of noise cannot show.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

from eval.results import SUMMARY_NAME
from tests.benchmarks.gpu.end_to_end import Command, last_row

GRID = Path(__file__).resolve().parents[3] / "configs" / "grid.yaml"

SHARES = {"asr": 0.15, "vsr": 0.25, "lip2speech": 0.4}
"""Of the seconds. What is left is for starts and the evaluation."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu.train_shards", description=__doc__)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--config", type=Path, default=GRID)
    parser.add_argument("--split", default="test", help="of the report")
    parser.add_argument("--clips", type=int, default=50, help="of the report (default: 50)")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-benchmark/train"))
    values, more = parser.parse_known_args(arguments)  # further flags are those of training
    out = values.out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    flags = ["train", "--config", str(values.config), f"--shards={values.shards}", f"--device={values.device}"]
    flags += ["--schedule.steps=1000000", "--checkpoint.every=1000000", "--validation.every=1000000", *more]
    runs = {task: out / task for task in SHARES}

    def start(task: str, *own: str) -> Command:
        minutes = SHARES[task] * values.seconds / 60
        command = [*flags, f"--task={task}", f"--out={runs[task]}", f"--schedule.minutes={minutes}", *own]
        return Command(command, out / f"{task}.log")

    start("asr").finish()
    units = out / "units.pt"
    command = ["train", "units", f"--asr={runs['asr']}/best.pt", f"--shards={values.shards}", f"--out={units}"]
    Command([*command, f"--device={values.device}"], out / "units.log").finish()
    start("vsr", f"--init_asr={units}").finish()
    start("lip2speech", f"--init_vsr={runs['vsr']}/best.pt", f"--init_asr={units}").finish()
    for run in runs.values():
        print(last_row(run, "the recipe"), flush=True)
    began = time.perf_counter()
    report = out / "report"
    flags = ["eval", f"--checkpoint={runs['lip2speech']}/best.pt", f"--shards={values.shards}", "--workers=0"]
    flags += [f"--split={values.split}", f"--clips={values.clips}", f"--out={report}", f"--device={values.device}"]
    flags += ["--systems=[network,shuffled_lips,untrained,ceiling]", "--metrics=[stoi,estoi]"]
    Command([*flags, f"--asr={runs['asr']}/best.pt"], out / "eval.log").finish()
    for system, scores in json.loads((report / SUMMARY_NAME).read_text())["systems"].items():
        print(f"{system}: " + ", ".join(f"{name} {found['mean']:.4g}" for name, found in scores.items()), flush=True)
    print(f"report of {values.split}: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
