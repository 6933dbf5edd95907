"""`python steady.py ARGUMENTS...`: training whose batch norms stay in evaluation mode."""

from __future__ import annotations

import sys

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from train.__main__ import main


def steady(norm: _BatchNorm, mode: bool = True) -> _BatchNorm:
    nn.Module.train(norm, False)
    return norm


_BatchNorm.train = steady  # type: ignore[assignment,method-assign]
sys.exit(main(sys.argv[1:]))
