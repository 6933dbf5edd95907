"""The commands on shards of noise: training of all tasks, one signalled to stop and resumed, then an evaluation.

python -m tests.benchmarks.gpu.end_to_end [--device cpu] [--steps 40] [--clips 96] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from shards import Sample
from shards.format.manifest import ERRORS_NAME
from tests.benchmarks.gpu.synthetic_run import CONFIG, SMALL_NETWORKS
from tests.benchmarks.gpu.table import table_row
from tests.shards import datasets
from tests.train.runs import write_tokenizer
from train.__main__ import EXIT_STOPPED

LENGTHS = range(40, 151)


def write_shards(folder: Path, clips: int) -> float:
    """Shards of noise, clips of 40 to 150 frames, half of them with word times; seconds of their split val."""
    datasets.HALF = 40
    stride = max(1, len(LENGTHS) * 6 // clips)
    named: dict[str, list[Sample]] = {}
    for number in range(clips):
        key = f"{'pretrain' if number % 2 else 'main'}/s{number % 3}/{number:05d}"
        length = LENGTHS[stride * number % len(LENGTHS)]
        named.setdefault(f"train-{number // 16:06d}.tar", []).append(datasets.noise(key, "train", length))
    named["val-000000.tar"] = [datasets.noise(f"main/v/{n:02d}", "val", 50 + 5 * n) for n in range(max(2, clips // 10))]
    write_tokenizer(folder, datasets.write_dataset(str(folder), named))
    (folder / ERRORS_NAME).touch()  # evaluation reads which clips were skipped: none
    return sum(sample.meta.frames for sample in named["val-000000.tar"]) / 25


class Command:
    """A command of ours in a process, its output in a log file."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self._log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=file, stderr=subprocess.STDOUT)

    def finish(self, status: int = 0) -> None:
        """Wait for its end, whose status must be this one."""
        if self.process.wait() != status:
            tail = self._log.read_text()[-1500:]
            raise SystemExit(f"{self._log}: status {self.process.returncode}, {status} was expected:\n{tail}")


def logged(run: Path) -> list[dict[str, float]]:
    """A run's lines about training."""
    path = run / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in map(json.loads, lines) if line["kind"] == "train"]


def last_row(run: Path, how: str) -> str:
    """The row of what a run logged last."""
    lines = logged(run)
    if not lines:
        return f"{run.name}: it ended before a line was logged"
    line = lines[-1]
    losses = ", ".join(f"{name} {line[name]:.4g}" for name in ("ctc", "l1", "content") if line.get(name) is not None)
    note = f"step {line['step']}: {losses}; waiting for the loader {line['waiting']:.0%}"
    return table_row(f"{run.name} from shards, {how}", line["frames_a_second"], note=note)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu.end_to_end", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-benchmark/end_to_end"))
    values = parser.parse_args()
    out, steps = values.out, values.steps
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    seconds = write_shards(out / "shards", values.clips)
    flags = ["train", "--config", CONFIG, f"--shards={out / 'shards'}", "--splits=[train]", f"--device={values.device}"]
    flags += [f"--schedule.steps={steps}", "--schedule.warmup_steps=5", f"--checkpoint.every={steps}"]
    flags += [f"--checkpoint.log_every={max(1, steps // 10)}", "--checkpoint.milestones=null", "--ema=0.999"]
    flags += ["--clip_norm=5", "--curriculum=[]"]
    flags += [f"--validation={{every: {steps}, clips: 6, speech: [stoi, estoi], examples: 1}}"]
    if values.device == "cpu":
        flags += [*SMALL_NETWORKS, "--precision=float32", "--batch.max_padded_frames=300", "--workers=1"]
    asr, vsr, lip2speech = (out / task for task in ("asr", "vsr", "lip2speech"))
    began = time.perf_counter()
    both = [Command([*flags, f"--task={run.name}", f"--out={run}"], out / f"{run.name}.log") for run in (asr, vsr)]
    for command, run in zip(both, (asr, vsr), strict=True):
        command.finish()
        print(last_row(run, "beside another"), flush=True)
    print(f"asr and vsr, at once: {time.perf_counter() - began:.1f} s with their starts", flush=True)

    log, half = out / "lip2speech.log", steps // 2
    flags += [f"--out={lip2speech}", "--resume=auto", "--losses.content_after_epoch=0", "--losses.content_below=99"]
    flags += [f"--init_vsr={vsr}/best.pt", f"--init_asr={asr}/best.pt"]
    command = Command(flags, log)
    while command.process.poll() is None and not any(line["step"] >= half for line in logged(lip2speech)):
        time.sleep(0.1)
    command.process.send_signal(signal.SIGTERM)
    command.finish(EXIT_STOPPED)
    saved = max(int(path.stem.split("-")[1]) for path in (lip2speech / "checkpoints").glob("step-*.pt"))
    print(f"lip2speech: signalled to stop, saved at step {saved}", flush=True)
    Command(flags, log).finish()
    logged_steps = [line["step"] for line in logged(lip2speech)]
    if logged_steps != sorted(set(logged_steps)) or logged_steps[-1] != steps or not half <= saved < steps:
        raise SystemExit(f"lip2speech did not resume from step {saved}: logged {logged_steps}")
    print(last_row(lip2speech, "stopped and resumed"), flush=True)

    began = time.perf_counter()
    flags = ["eval", f"--checkpoint={lip2speech}/best.pt", f"--shards={out / 'shards'}", "--split=val"]
    flags += [f"--out={out / 'report'}", "--workers=0", "--metrics=[stoi,estoi,lsd]", f"--device={values.device}"]
    Command([*flags, "--systems=[network,untrained,ceiling]", f"--asr={asr}/best.pt"], out / "eval.log").finish()
    took = time.perf_counter() - began
    note = f"{seconds:.0f} s of clips, three systems, an ASR model, in {took:.0f} s with its start"
    print(table_row("evaluation from shards", 25 * seconds / took, note=note), flush=True)


if __name__ == "__main__":
    main()
