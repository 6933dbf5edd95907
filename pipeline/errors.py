"""What can go wrong with a whole build."""

from __future__ import annotations


class BuildError(RuntimeError):
    """Some shards could not be built; the others are valid and will not be built again."""
