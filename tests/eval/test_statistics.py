"""Bootstrap intervals hold the mean as often as they say."""

from __future__ import annotations

import numpy as np

from eval.statistics import bootstrap


def test_intervals_hold_the_mean_of_most_samples() -> None:
    random = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        found = bootstrap(random.normal(5, 1, 40).tolist(), resamples=500)
        held += found.low <= 5 <= found.high
    assert 0.88 <= held / 200 <= 0.99  # 0.95 nominal; the percentile interval of 40 values holds a little less


def test_intervals_leave_out_what_was_not_measured() -> None:
    assert bootstrap([1.0, float("nan"), 3.0]).mean == 2.0
    assert np.isnan(bootstrap([float("nan")]).mean)
