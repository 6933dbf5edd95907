"""Weights compared with the network that they are for, and their numbers looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What may become a network's float32."""


def misfits(expected: Mapping[str, Tensor], weights: Mapping[str, Any], other: Mapping[str, str]) -> list[str]:
    """What of the weights does not fit a state dict: a sentence for every tensor that is missing, not known, misshapen
    or wrongly typed. Only shapes and types are looked at. `other` has further names of tensors, as published."""
    named = {name: f"{name} (published as {other[name]})" if name in other else name for name in (*expected, *weights)}
    wrong = [f"{name} is missing" for name in expected if name not in weights]
    wrong += [f"{named[name]} is not known" for name in weights if name not in expected]
    for name, tensor in expected.items():
        if name not in weights:
            continue
        found = weights[name]
        if not isinstance(found, Tensor):
            wrong.append(f"{named[name]} is a {type(found).__name__}, and a tensor was expected")
        elif found.shape != tensor.shape:
            wrong.append(f"{named[name]} is {tuple(found.shape)} and should be {tuple(tensor.shape)}")
        elif found.dtype not in (_FLOATING if tensor.is_floating_point() else (tensor.dtype,)):
            wrong.append(f"{named[name]} is {_plain(found.dtype)} and should be {_plain(tensor.dtype)}")
    return wrong


def refuse_numbers(weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are no finite real numbers, as float32, and variances below 0.

    Raises:
        ValueError: naming the tensor, how many of its numbers are wrong, and what they are.
    """
    for name, tensor in weights.items():
        if tensor.is_complex():
            raise ValueError(f"{name} is {_plain(tensor.dtype)}: real numbers were expected")
        if not tensor.is_floating_point():
            continue
        numbers = tensor.float()
        wrong = ~numbers.isfinite()
        if wrong.any():
            first = float(numbers[wrong][0])
            raise ValueError(f"{name}: {int(wrong.sum()):,} of {numbers.numel():,} numbers are not finite ({first})")
        if name.endswith("running_var") and (numbers < 0).any():
            raise ValueError(f"{name}: a variance of {float(numbers.min())}, and 0 or more was expected")


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
