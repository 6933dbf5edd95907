"""What each way of storing lip regions costs: bytes a frame, frames a second to decode and encode, error."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import numpy as np

from pipeline.clip import Corpus, build_sample
from pipeline.config import BuildSettings
from pipeline.corpora import CorpusClip
from shards import ROI_CODECS
from shards.format.roi import decode_roi, encode_roi, roi_member


def measure(settings: BuildSettings, clips: list[CorpusClip], runs: int) -> Iterator[str]:
    """Lines of the report: a Markdown table."""
    corpus = Corpus.of(settings)
    regions = [build_sample(clip, settings, corpus).roi for clip in clips]
    frames = sum(len(region) for region in regions)
    yield "| codec | bytes a frame | decoded frames a core-second | encoded | mean error, grey levels | largest |"
    yield "|---|---:|---:|---:|---:|---:|"
    for codec in ROI_CODECS:
        began = time.process_time()
        encoded = [encode_roi(region, codec) for region in regions]
        encoding = time.process_time() - began
        decoding = []
        for _ in range(runs):
            began = time.process_time()
            decoded = [
                # a copy: what a batch needs of a raw array too
                decode_roi(content, roi_member(codec), len(region), region.shape[1], "clip").copy()
                for content, region in zip(encoded, regions, strict=True)
            ]
            decoding.append(time.process_time() - began)
        errors = [np.abs(a.astype(int) - b) for a, b in zip(decoded, regions, strict=True)]
        size = sum(len(content) for content in encoded) / frames
        yield (
            f"| `{codec}` | {size:.0f} | {frames / statistics.median(decoding):,.0f} | {frames / encoding:,.0f} "
            f"| {np.mean([error.mean() for error in errors]):.2f} | {max(error.max() for error in errors)} |"
        )
