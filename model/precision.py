"""Exact float32 on a GPU: without TF32, PyTorch's default in convolutions, which keeps 11 of the 24 bits."""

from __future__ import annotations

import torch


def exact_float32() -> None:
    """Convolutions without TF32 in this process from here on; matrix products have none by default."""
    torch.backends.cudnn.allow_tf32 = False
