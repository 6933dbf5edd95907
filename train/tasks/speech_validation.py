"""Validation of `lip2speech`: whole clips are spoken, and compared with what was said.

Sound is made on the device, batch by batch; processes of their own score it while the next batch is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from model.lip_to_speech import LipToSpeech, LipToSpeechOutput
from model.losses import mel_l1_per_clip
from model.segment_sampling import loudest_reference, with_references
from model.synthesis import waveforms_of
from model.vocoders.mel_to_wav import sample_counts
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, SAMPLES_PER_FRAME
from shards import Dataset
from shards.loading.batch_plan import MicroBatch, plan_references
from shards.loading.collate import Batch, Contents
from shards.loading.loader import LoaderSettings, load
from train.state import Run
from train.tasks.ctc import score_reading
from train.tasks.inputs import Inputs, prepare
from train.validation import Example, Tally


def scoring(run: Run, share: list[MicroBatch]) -> Callable[[Batch, Tally], None]:
    """Fetch the voices that this rank's clips are to be spoken with; what scores a batch of them."""
    settings = run.settings
    if settings.validation.speaker_reference == "self":
        return partial(score, run, {})
    how = LoaderSettings(settings.workers, cache=settings.cache)
    return partial(score, run, _references(run.dataset, share, settings.segments.reference_frames, how))


def _references(dataset: Dataset, share: list[MicroBatch], frames: int, settings: LoaderSettings) -> dict[str, Tensor]:
    """Reference utterances by key; none for a clip whose speaker has no other clip, or a damaged one."""
    of_row = plan_references(dataset.index, share)
    single = sorted({each.number: each for each in of_row.values()}.values())
    settings = replace(settings, on_error="skip", contents=Contents(roi=False))
    found = {
        one.number: loudest_reference(batch.mel, MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths, frames)[0]
        for one, batch in zip(single, load(dataset, single, settings), strict=True)
        if batch is not None and batch.keys
    }
    keys = dataset.index["key"]
    return {keys[row].as_py(): found[one.number] for row, one in of_row.items() if one.number in found}


@torch.no_grad()
def score(run: Run, voices: Mapping[str, Tensor], batch: Batch, tally: Tally) -> None:
    """L1, CTC, word errors of the visual head, and the scores of what is heard.

    Args:
        run: its network is scored.
        voices: speaker references by key; a clip that has none is spoken with its own first frames.
        batch: whole clips with their samples.
        tally: takes the scores.
    """
    settings, device = run.settings, run.ranks.device
    inputs = prepare(batch, run.tokenizer, settings, device, None)
    spoken = _speak(
        run, inputs, with_references(inputs.reference[..., : settings.segments.reference_frames], batch.keys, voices)
    )
    lengths = MEL_FRAMES_PER_VIDEO_FRAME * inputs.lengths
    tally.add("l1", float(mel_l1_per_clip(spoken.mel, inputs.target, lengths).sum()), len(lengths))
    score_reading(tally, batch, spoken.logits, inputs.lengths, run.tokenizer)
    shown = [number for number, key in enumerate(batch.keys) if tally.shows(key)]
    if not tally.speech and not shown:
        return
    generated = waveforms_of(spoken.mel, lengths, batch.keys)
    originals = batch.wav.cpu().numpy()
    ends_of = sample_counts(lengths).tolist()
    for number, (key, ends) in enumerate(zip(batch.keys, ends_of, strict=True)):
        tally.submit(key, originals[number, :ends], generated[number, :ends])
    if shown:
        again = waveforms_of(inputs.target[shown], lengths[shown], [batch.keys[number] for number in shown])
        for number, resynthesised in zip(shown, again, strict=True):
            mels = [x[number, :, : int(lengths[number])].cpu().numpy() for x in (spoken.mel, inputs.target)]
            sounds = {
                "generated": generated[number, : ends_of[number]],
                "resynthesised": resynthesised[: ends_of[number]],
                "original": originals[number, : SAMPLES_PER_FRAME * int(inputs.lengths[number])],
            }
            tally.examples.append(Example(batch.keys[number], mels, sounds))


def _speak(run: Run, inputs: Inputs, reference: Tensor) -> LipToSpeechOutput:
    assert isinstance(run.network, LipToSpeech)
    with torch.autocast(inputs.video.device.type, torch.bfloat16, enabled=run.settings.precision == "bf16"):
        # unpadded, as in the published evaluation: the mean over time runs over the voice alone
        spoken: LipToSpeechOutput = run.network(inputs.video, inputs.lengths, reference)
    return spoken._replace(mel=spoken.mel.float())
