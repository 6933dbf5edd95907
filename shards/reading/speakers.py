"""Which other clip of the same speaker lends its voice: never the one that is scored."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pyarrow as pa


def other_clips(index: pa.Table, rows: Sequence[int], splits: Sequence[str] | None = None) -> list[int | None]:
    """For each row of the index another row of the same speaker, the same one every time.

    Args:
        index: of the dataset (`Dataset.index`).
        rows: of the clips that want a voice.
        splits: where to look for it; None: in the clip's own split.

    Returns:
        A row for each; None where the speaker has no other clip there.
    """
    keys, speakers, in_split = (index[name].to_pylist() for name in ("key", "speaker", "split"))
    wanted = {speakers[row] for row in rows}
    known: dict[tuple[str, str], list[int]] = {}
    for row in np.argsort(np.array(keys, dtype=object), kind="stable").tolist():
        if speakers[row] in wanted:
            known.setdefault((speakers[row], in_split[row]), []).append(row)
    found: list[int | None] = []
    for row in rows:
        where = [in_split[row]] if splits is None else splits
        others = [other for split in where for other in known.get((speakers[row], split), []) if other != row]
        found.append(Random(f"voice of {keys[row]}").choice(others) if others else None)
    return found
