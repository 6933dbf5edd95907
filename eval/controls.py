"""What a score is worth: the same clips by a network, and by what has learned nothing or has nothing to learn.

`network`     the checkpoint
`other lips`  the checkpoint, fed another clip's pictures with the right voice: what the voice alone gives
`untrained`   the same network with new weights
`mean mel`    the mean mel of the training set, for every clip
`true mel`    what was said, through the same vocoder: the best that there is to reach

An untrained network alone reaches STOI 0.43 on synthetic speech, so a score by itself says nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from eval.metrics.scorers import Scorers
from eval.voices import voices_of
from model.checkpoint import Checkpoint, build_network
from model.lip_to_speech import LipToSpeech
from model.losses import mel_l1
from model.mel import log_mel_batch
from model.padding import mask_of
from model.segments import SegmentSettings
from model.transforms import apply
from model.vocoder import mel_to_wav, samples_of
from shards import Dataset
from shards.format.sample import MEL_BANDS, MEL_PER_FRAME, SAMPLES_PER_FRAME
from shards.reading.batch import SILENCE, Batch, Contents
from shards.reading.loader import LoaderSettings, load
from shards.reading.plan import BatchSettings, MicroBatch, Visit, plan_epoch, plan_evaluation

CONTROLS = ("network", "other lips", "untrained", "mean mel", "true mel")
SPEECH = ("stoi", "estoi", "pesq")
SCORES = ("l1", *SPEECH)
Figures = dict[str, dict[str, dict[str, float]]]
"""Control -> score -> key -> value; what could not be measured is not in it."""


@dataclass(frozen=True)
class Work:
    """What is scored, and how.

    Attributes:
        dataset: of the clips.
        split: of the clips that are scored.
        trained_on: splits that the mean mel is of.
        clips: a fixed part of the split; None: all of it.
        max_frames: padded video frames of a batch.
        workers: processes that read.
        processes: that score.
        device: for the network and the vocoder.
    """

    dataset: Dataset
    split: str
    trained_on: Sequence[str]
    clips: int | None
    max_frames: int
    workers: int
    processes: int
    device: torch.device


@torch.no_grad()
def score_controls(checkpoint: Checkpoint, work: Work, where: str) -> Figures:
    """Speak every clip in each way, and score it.

    Args:
        checkpoint: of a lip-to-speech network.
        work: on what.
        where: names the checkpoint in errors.

    Raises:
        ValueError: another network, or no such split.
    """
    trained = build_network(checkpoint, where)
    if not isinstance(trained, LipToSpeech):
        raise ValueError(f"{where}: a network of the recipe {checkpoint.kind}, and lip2speech was expected")
    torch.manual_seed(0)
    untrained = LipToSpeech(trained.settings).eval()
    networks = {"network": trained.to(work.device), "untrained": untrained.to(work.device)}
    batching = BatchSettings(max_frames=work.max_frames)
    planned = plan_evaluation(work.dataset.index, [work.split], settings=batching, clips=work.clips)
    how = LoaderSettings(work.workers, contents=Contents(stored_mel=False))
    voices = voices_of(work.dataset, planned, SegmentSettings(), how)
    mean = mean_mel(work).to(work.device)
    figures: Figures = {control: {score: {} for score in SCORES} for control in CONTROLS}
    pairs = zip(load(work.dataset, planned, how), load(work.dataset, other_lips(work, planned), how), strict=True)
    with Scorers(SPEECH, work.processes) as scorers:
        for batch, other in pairs:
            assert batch is not None
            assert other is not None
            for control, mel, frames, true in _spoken(networks, checkpoint, batch, other, voices, mean):
                _score(figures[control], scorers, control, batch, mel, frames, true)
        for name, scored in scorers.results().items():
            control, key = name.split("/", 1)
            for score, value in scored.values.items():
                figures[control][score][key] = value
    return figures


def _spoken(
    networks: Mapping[str, LipToSpeech],
    checkpoint: Checkpoint,
    batch: Batch,
    other: Batch,
    voices: Mapping[str, Tensor],
    mean: Tensor,
) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """Each control's mels (B, n_mels, S), how many of their video frames count (B,), and the true mels."""
    device, frames = mean.device, batch.roi.shape[1]
    true = _true_mels(batch, device)
    own = true[..., : SegmentSettings().reference_frames]
    reference = torch.stack([voices[key].to(device) if key in voices else own[at] for at, key in enumerate(batch.keys)])
    for control, network, clips in (
        ("network", networks["network"], batch),
        ("other lips", networks["network"], other),
        ("untrained", networks["untrained"], batch),
    ):
        video = apply(clips.roi.to(device), clips.lengths, None, checkpoint.transforms)
        spoken = network(video, clips.lengths, reference)
        yield control, spoken.mel.float(), torch.minimum(batch.lengths, clips.lengths), true
    yield "mean mel", mean[None, :, None].expand(len(true), -1, MEL_PER_FRAME * frames), batch.lengths, true
    yield "true mel", true, batch.lengths, true


def _true_mels(batch: Batch, device: torch.device) -> Tensor:
    frames = MEL_PER_FRAME * batch.roi.shape[1]
    mel = log_mel_batch(batch.wav.to(device), SAMPLES_PER_FRAME * batch.lengths)[..., :frames]
    return mel.masked_fill(~mask_of(MEL_PER_FRAME * batch.lengths, frames, device)[:, None], SILENCE)


def _score(
    figures: dict[str, dict[str, float]],
    scorers: Scorers,
    control: str,
    batch: Batch,
    mel: Tensor,
    frames: Tensor,
    true: Tensor,
) -> None:
    lengths = MEL_PER_FRAME * frames
    steps = min(mel.shape[2], true.shape[2])
    wavs = mel_to_wav(mel, lengths, [zlib.crc32(key.encode()) for key in batch.keys]).cpu().numpy()
    originals = batch.wav.numpy()
    for number, key in enumerate(batch.keys):
        one, ends = slice(number, number + 1), int(samples_of(lengths)[number])
        l1 = mel_l1(mel[one, :, :steps], true[one, :, :steps], lengths[one], "masked")
        figures["l1"][key] = float(l1)
        scorers.submit(f"{control}/{key}", originals[number, :ends], wavs[number, :ends])


def mean_mel(work: Work) -> Tensor:
    """(n_mels,) the mean over all frames of the clips that were trained on, each used whole."""
    batching = BatchSettings(max_frames=10 * work.max_frames)
    planned = plan_epoch(work.dataset.index, work.trained_on, 0, 0, settings=batching)
    total, count = torch.zeros(MEL_BANDS, dtype=torch.float64), 0
    for batch in load(work.dataset, planned, LoaderSettings(work.workers, contents=Contents(roi=False))):
        assert batch is not None
        lengths = MEL_PER_FRAME * batch.lengths
        there = mask_of(lengths, batch.mel.shape[2], batch.mel.device)[:, None]
        total += batch.mel.double().masked_fill(~there, 0.0).sum(dim=(0, 2))
        count += int(lengths.sum())
    return (total / count).float()


def other_lips(work: Work, planned: Sequence[MicroBatch]) -> list[MicroBatch]:
    """The same micro-batches with another clip in the place of each: of the same speaker if there is one in the plan,
    of nearly the same length."""
    index = work.dataset.index
    rows = [visit.row for micro_batch in planned for visit in micro_batch.visits]
    if len(rows) < 2:
        raise ValueError(f"split {work.split!r}: a single clip, where another one's lips are wanted")
    keys, speakers, frames = (index[name].take(rows).to_pylist() for name in ("key", "speaker", "frames"))
    order = sorted(range(len(rows)), key=lambda at: (speakers[at], frames[at], keys[at]))
    partner: dict[int, int] = {}
    for _, group in groupby(order, key=lambda at: speakers[at]):
        mine = [rows[at] for at in group]
        others = mine if len(mine) > 1 else [row for row in rows if row != mine[0]]
        partner |= dict(zip(mine, [*others[1:], others[0]], strict=False))
    length = dict(zip(rows, frames, strict=True))
    changed = []
    for micro_batch in planned:
        visits = tuple(
            Visit(other, 0, length[other], None, True) for other in (partner[visit.row] for visit in micro_batch.visits)
        )
        changed.append(MicroBatch(micro_batch.number, max(visit.stop for visit in visits), visits))
    return changed
