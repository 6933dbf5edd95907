"""Losses and gradients of all tasks on the CPU and on a GPU: equal in float32, near in bf16.

    python -m tests.benchmarks.gpu.agreement [--device cpu]

Small networks without dropout, clips of three lengths. The exit status is 1 where something disagrees.
"""

from __future__ import annotations

import argparse
import math
import sys

import torch
from torch import Tensor

from tests.benchmarks.gpu.synthetic_run import SMALL, build_run, noise_batch
from train.distributed import process_group

FLOAT32, BF16 = 2e-3, 0.1
"""Largest relative differences: of losses and gradients in float32, of losses in bf16."""

LENGTHS = [28, 20, 16]  # 64 in all: on a GPU frames are rounded up to a multiple of it

CASES = (("lip2speech", False, True), ("lip2speech", True, False), ("asr", True, False), ("vsr", False, False))
"""Task, whether some mels are computed from samples, whether the output content loss is on."""


def losses_and_gradients(
    device: torch.device, precision: str, task: str, cut: bool, content: bool
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Of one batch, in training mode."""
    run = build_run(device, [*SMALL, f"--precision={precision}"], task, vocabulary=100)
    run.state.content_on = content
    network = run.model.network.train()
    found = run.task.loss(network, noise_batch(run, LENGTHS, cut=cut), 7, run.state)
    found.total.backward()
    losses = {"total": float(found.total.detach()), **{name: float(value) for name, value in found.parts.items()}}
    return losses, {name: x.grad.float().cpu() for name, x in network.named_parameters() if x.grad is not None}


def largest_difference(gradients: dict[str, Tensor], expected: dict[str, Tensor]) -> tuple[float, str]:
    """Of a parameter's gradient, relative to its largest value, or to a thousandth of the largest of all."""
    least = 1e-3 * max(float(x.abs().max()) for x in expected.values())
    differences = {
        name: float((gradients[name] - x).abs().max()) / max(float(x.abs().max()), least)
        for name, x in expected.items()
    }
    name = max(differences, key=lambda key: differences[key])
    return differences[name], name


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu.agreement", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", help="not used")
    disagreeing = 0
    with process_group(parser.parse_args().device) as context:
        for case in CASES:
            expected_losses, expected = losses_and_gradients(torch.device("cpu"), "float32", *case)
            for precision, most, of_gradients in (("float32", FLOAT32, FLOAT32), ("bf16", BF16, math.inf)):
                losses, gradients = losses_and_gradients(context.device, precision, *case)
                of_loss = max(abs(losses[key] - x) / max(abs(x), 1e-6) for key, x in expected_losses.items())
                of_gradient, name = largest_difference(gradients, expected)
                agrees = of_loss < most and of_gradient < of_gradients  # False for NaN, too
                disagreeing += not agrees
                text = f"{case[0]}{', some mels computed' * case[1]}{', content' * case[2]} | {precision}"
                verdict = "agrees" if agrees else "DISAGREES"
                print(f"{text} | losses {of_loss:.1e} | gradients {of_gradient:.1e} ({name}) | {verdict}", flush=True)
    sys.exit(1 if disagreeing else 0)


if __name__ == "__main__":
    main()
