"""Check the numbers of settings: finite, not below 0, and at most what `runtime.limits` allows, each by its name."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from runtime.limits import MAX_FRACTION, MAX_SETTING, MAX_SETTINGS


def check_numbers(settings: Any, where: str = "") -> None:
    """Check every number of a settings dataclass, and of those in it, in tuples too.

    Args:
        settings: an instance.
        where: what its settings' names begin with, such as `optimizer.`.

    Raises:
        ValueError: naming the setting as it is on the command line, what was found and what is allowed.
    """
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), f"{where}{field.name}"
        for part in value if isinstance(value, tuple) else (value,):
            if dataclasses.is_dataclass(part):
                check_numbers(part, f"{name}.")
            elif isinstance(part, int | float) and not isinstance(part, bool):
                most = MAX_SETTINGS.get(field.name, MAX_SETTING if isinstance(part, int) else MAX_FRACTION)
                if not 0 <= part <= most:
                    found = f"{part:,}" if math.isfinite(part) else str(part)
                    raise ValueError(f"{name}: {found}, and a number from 0 to {most:,.15g} was expected")
