"""How fast a shard task is beside decoding alone, in video-seconds a core-second, and where the rest goes."""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av

from pipeline.clip import Corpus, build_sample, stored_mel
from pipeline.config import BuildSettings
from pipeline.corpora import CorpusClip
from pipeline.media.coordinates import parse_coordinates
from pipeline.media.crop import CenterCrop
from pipeline.media.decode import decode_video
from pipeline.plan import ShardPlan
from pipeline.shard_task import ShardTask, build_shard
from runtime.constants import ROI_MARGIN
from shards import Sample, ShardWriter, Store


def measure(settings: BuildSettings, clips: list[CorpusClip], runs: int) -> Iterator[str]:
    """Lines of the report."""
    corpus = Corpus.of(settings)
    samples = [build_sample(clip, settings, corpus) for clip in clips]
    stages: dict[str, Callable[[], None]] = {
        "decode": lambda: decode_alone(settings, clips),
        "crop": lambda: decode_and_crop(settings, clips),
        "sample": lambda: make_samples(settings, clips, corpus),
        "mel": lambda: make_mels(samples),
        "write": lambda: write_shard(settings, samples),
        "task": lambda: run_task(settings, clips),
    }
    taken: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(runs + 1):  # the first is a warm-up
        for name, stage in stages.items():
            began = time.process_time()
            stage()
            taken[name].append(time.process_time() - began)
    cost = {name: statistics.median(values[1:]) for name, values in taken.items()}
    ratio = statistics.median([a / b for a, b in zip(taken["decode"][1:], taken["task"][1:], strict=True)])
    seconds = sum(sample.meta.frames for sample in samples) / 25
    yield "build speed, video-seconds a core-second (read, decode, crop, mel, write, checksum)"
    yield f"  shard task                     {seconds / cost['task']:6.0f}"
    yield f"  demux and decode alone (PyAV)  {seconds / cost['decode']:6.0f}"
    yield f"  ratio                          {ratio:6.2f}"
    parts = {
        "decoding picture and sound": cost["decode"],
        "cropping and gray, collecting sound": cost["crop"] - cost["decode"],
        "mel": cost["mel"],
        "coordinates, transcript, timing, source checksum": cost["sample"] - cost["crop"] - cost["mel"],
        "encoding members, tar, checksum, fsync": cost["write"],
    }
    for name, share in parts.items():
        yield f"  {share / cost['task']:4.0%}  {name}"


def decode_alone(settings: BuildSettings, clips: list[CorpusClip]) -> None:
    """Demux and decode both streams, one thread, and drop the frames: what no pipeline can be faster than."""
    for clip in clips:
        with av.open(io.BytesIO((Path(settings.root) / clip.video).read_bytes()), "r") as container:
            video = container.streams.video[0]
            video.thread_type = "NONE"
            video.codec_context.thread_count = 1
            for packet in container.demux(video, container.streams.audio[0]):
                for _ in packet.decode():
                    pass


def decode_and_crop(settings: BuildSettings, clips: list[CorpusClip]) -> None:
    for clip in clips:
        centers = parse_coordinates(clip.coordinates or "").tolist()
        content = (Path(settings.root) / clip.video).read_bytes()
        crop = CenterCrop(centers.__getitem__, settings.crop_radius + ROI_MARGIN)
        decode_video(content, crop, with_sound=True)


def make_samples(settings: BuildSettings, clips: list[CorpusClip], corpus: Corpus) -> None:
    for clip in clips:
        build_sample(clip, settings, corpus)


def make_mels(samples: list[Sample]) -> None:
    for sample in samples:
        stored_mel(sample.wav)


def write_shard(settings: BuildSettings, samples: list[Sample]) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        ShardWriter.create(Store(folder), "x-000000.tar", settings.roi_codec) as writer,
    ):
        for sample in samples:
            writer.write(sample)


def run_task(settings: BuildSettings, clips: list[CorpusClip]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        build_shard(ShardTask(ShardPlan("x-000000.tar", "x", tuple(clips)), settings, "plan", folder))
