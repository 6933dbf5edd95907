"""Units: `python -m train units` clusters an ASR model's features of ground-truth mels and writes it with the clusters.

    python -m train units --asr runs/asr/best.pt --shards data/x --out runs/asr/units.pt

A network with `network.units` learns to predict from the lips, for every frame, which cluster the frozen ASR model
(`--init-asr runs/asr/units.pt`) is in when it is given the ground truth: a target that needs no alignment
(docs/training.md, Units). The idea is AV-HuBERT's (Shi et al., 2022), with features of our own in place of HuBERT's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch

from model.asr import ASRModel
from model.checkpoint import Checkpoint, build_network, load_checkpoint, save_checkpoint
from runtime.command_line import CommandParser
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME
from runtime.limits import MAX_SETTING
from runtime.terminal import say
from shards import Dataset, open_dataset
from shards.loading.batch_plan import BatchSettings, plan_evaluation
from shards.loading.collate import Contents
from shards.loading.draws import Whole
from shards.loading.loader import LoaderSettings, load
from train.distributed import Device, process_group
from train.tasks.inputs import target_mels

Array = np.ndarray[Any, Any]

_CLIPS = 2000
"""That are looked at, the same ones each time."""

_FRAMES_A_UNIT = 200
"""Drawn from these for each cluster."""

_ROUNDS = 30


def run(arguments: Sequence[str]) -> int:
    """Cluster an ASR model's features, and write the model with them."""
    parser = CommandParser("python -m train units", __doc__)
    parser.add_argument("--asr", type=str, required=True, help="checkpoint of the task asr")
    parser.add_argument("--shards", type=str, required=True, help="dataset that it was trained on")
    parser.add_argument("--out", type=str, required=True, help="checkpoint to write")
    parser.add_argument("--units", type=int, default=100, help="clusters (default: 100)")
    parser.add_argument("--layer", type=int | None, default=None, help="of its Conformer (default: the middle one)")
    parser.add_argument("--seed", type=int, default=0, help="of the clusters' beginning (default: 0)")
    parser.add_argument("--device", type=Device | None, default=None, help="default: cuda if there is one")
    values = parser.parse(arguments)
    if not 2 <= values.units <= MAX_SETTING:
        raise ValueError(f"--units {values.units}: 2 to {MAX_SETTING:,} were expected")
    with process_group(values.device) as context:
        dataset, chosen = open_dataset(values.shards), (values.units, values.layer, values.seed)
        found = with_units(values.asr, dataset, *chosen, context.device)
    save_checkpoint(values.out, found)
    say(f"{values.units} units: {values.out}")
    return 0


def with_units(
    path: str, dataset: Dataset, units: int, layer: int | None, seed: int, device: torch.device
) -> Checkpoint:
    """The checkpoint of an ASR model, with units in the place of those that it may have had.

    By default of its middle layer: what the last one gives is about the text alone, and the better a model is trained
    with CTC, the less does it say of the sound of a frame.

    Raises:
        ValueError: it is none, or has no such layer, or the dataset's training splits have too few frames for so many
            clusters.
    """
    checkpoint = load_checkpoint(path, "asr")
    network = build_network(checkpoint, path)
    if not isinstance(network, ASRModel):
        raise ValueError(f"{path}: a network of the task {checkpoint.kind}, and asr was expected")
    layer = (network.settings.conformer.layers + 1) // 2 if layer is None else layer
    settings = dataclasses.replace(network.settings, units=units, unit_layer=layer)
    frames = features_of(network.to(device), layer, dataset, device)
    if len(frames) < 2 * units:
        raise ValueError(f"{dataset.store.url}: {len(frames)} frames to train on are too few for {units} units")
    scale, centroids = cluster(frames, units, seed)
    weights = {name: x for name, x in checkpoint.weights.items() if not name.startswith("unit_")}
    return dataclasses.replace(
        checkpoint,
        settings=settings,
        training=None,  # it is no checkpoint to resume from
        weights=weights | {"unit_scale": torch.from_numpy(scale), "unit_centroids": torch.from_numpy(centroids)},
    )


def features_of(network: ASRModel, layer: int, dataset: Dataset, device: torch.device) -> Array:
    """float32 (frames, width): a layer's features of ground-truth mels, of a fixed part of the training splits."""
    splits = dataset.training_splits()
    planned = plan_evaluation(dataset.clip_index, splits, Whole(), BatchSettings(), _CLIPS)
    settings = LoaderSettings(contents=Contents(roi=False), on_error="skip")

    def each() -> Iterator[Array]:
        with closing(load(dataset, planned, settings)) as batches, torch.no_grad():
            for batch in batches:
                if batch is not None and batch.keys:
                    mel = target_mels(batch.to(device), batch.lengths[batch.wav_rows])
                    found, lengths = network.features_after(layer, mel, MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths)
                    for features, length in zip(found.cpu(), lengths.tolist(), strict=True):
                        yield features[:length].numpy()

    return np.concatenate([np.empty((0, network.settings.conformer.width), np.float32), *each()])


def cluster(frames: Array, units: int, seed: int) -> tuple[Array, Array]:
    """What k-means finds in features (frames, width), each of them scaled to a deviation of 1.

    Returns:
        The scale (width,), and the centroids of scaled features (units, width), float32.
    """
    from scipy.cluster.vq import kmeans2

    scale = 1 / frames.std(axis=0).clip(1e-6)
    random = np.random.default_rng(seed)
    drawn = frames[random.permutation(len(frames))[: units * _FRAMES_A_UNIT]] * scale
    centroids, _ = kmeans2(drawn, units, iter=_ROUNDS, minit="++", missing="warn", rng=random)
    return scale.astype(np.float32), centroids.astype(np.float32)
