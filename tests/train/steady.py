"""Training whose batch norms stay in evaluation mode, so that it does not depend on which clips a rank has."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def keep_batch_norm_steady() -> None:
    """Keep every batch norm of this process in evaluation mode."""

    def steady(norm: _BatchNorm, mode: bool = True) -> _BatchNorm:
        nn.Module.train(norm, False)
        return norm

    _BatchNorm.train = steady  # type: ignore[assignment,method-assign]
