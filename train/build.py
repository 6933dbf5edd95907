"""Build a `Trainer` from settings: dataset, tokenizer, task, network, and the checkpoint to begin or resume from."""

from __future__ import annotations

import dataclasses
import logging

from model.checkpoint import load_checkpoint
from shards import open_dataset
from train.checkpointing import Checkpointer, fingerprint_of
from train.distributed import DistributedContext
from train.frozen import load_frozen_asr, load_frozen_lip2speech, load_validation_vocoder, with_own_copies
from train.init import init_network, load_tokenizer, take_from_manifest
from train.precision import with_precision
from train.run_dir import RunDir
from train.settings import TaskName, TrainSettings
from train.state import prepare_model
from train.tasks.asr import ASRTask
from train.tasks.generated_vocoder import GeneratedVocoderTask
from train.tasks.lip2speech import Lip2SpeechTask
from train.tasks.task import Task
from train.tasks.vocoder import VocoderTask
from train.tasks.vsr import VSRTask
from train.trainer import Trainer

TASKS: dict[TaskName, type[Task]] = {
    "vsr": VSRTask,
    "asr": ASRTask,
    "lip2speech": Lip2SpeechTask,
    "vocoder": VocoderTask,
}

log = logging.getLogger(__name__)


def build_trainer(settings: TrainSettings, resume: str | None, context: DistributedContext) -> Trainer:
    """A run that begins, or that continues where its checkpoint was written (`resume`: see `Checkpointer.find`).

    The caller holds the lock of its run dir.

    Raises:
        ValueError: settings, dataset and checkpoints do not fit together; names what.
        StorageError: the dataset cannot be read.
    """
    if settings.micro_batches_per_step % context.world_size:
        per_step, world_size = settings.micro_batches_per_step, context.world_size
        raise ValueError(f"micro_batches_per_step: {per_step} cannot be dealt to {world_size} ranks evenly")
    if settings.sync_batch_norm and context.device.type == "cpu":
        raise ValueError("sync_batch_norm: PyTorch has it on GPUs only")
    if settings.schedule.warmup_steps > settings.schedule.steps:
        steps, warmup = settings.schedule.steps, settings.schedule.warmup_steps
        log.warning("schedule.warmup_steps: %d, and there are %d steps: the rate never gets to its full", warmup, steps)
    dataset = open_dataset(settings.shards)
    settings = take_from_manifest(settings, dataset)
    tokenizer = load_tokenizer(dataset, settings)
    run_dir = RunDir(settings.out)
    checkpointer = Checkpointer(run_dir, settings.checkpoint)
    # rank 0's choices: files may appear or vanish between one rank's look and another's
    path = context.on_rank0(lambda: checkpointer.find(resume))
    checkpoint = None if path is None else load_checkpoint(path)
    settings = with_precision(settings, checkpoint, path, context)
    with_copies = context.on_rank0(lambda: with_own_copies(run_dir, settings, tokenizer, path is not None))
    asr = load_frozen_asr(with_copies, tokenizer, context.device)
    lip2speech = load_frozen_lip2speech(with_copies, context.device)
    vocoder = load_validation_vocoder(settings, context.device)
    task_class = TASKS[settings.task] if lip2speech is None else GeneratedVocoderTask
    task = task_class(settings, tokenizer, context.device, asr, vocoder, lip2speech)
    resumed = dataclasses.replace(settings, init=None, init_vsr=None)  # its weights come from the checkpoint
    network = init_network(settings if checkpoint is None else resumed, task)
    model = prepare_model(network, settings, context)
    trainer = Trainer(settings, dataset, task, model, context, fingerprint_of(with_copies, dataset, tokenizer))
    if checkpoint is not None and path is not None:
        trainer.resume(checkpoint, path)
    else:
        aside = context.on_rank0(run_dir.set_aside)
        if aside is not None:
            log.info("%s: no checkpoint to resume from: the run begins; older files are in %s", run_dir.path, aside)
    if settings.task == "lip2speech" and settings.losses.content and asr is None:
        log.info("the output content loss stays off: no ASR model is named (--init-asr)")
    if settings.task in ("vsr", "lip2speech") and settings.losses.distillation and (asr is None or tokenizer is None):
        why = "no ASR model is named (--init-asr)" if asr is None else "there is no CTC head, since no tokenizer"
        log.info("losses.distillation stays off: %s", why)
    run = {"ranks": context.world_size, "device": str(context.device), "fingerprint": trainer.fingerprint}
    context.on_rank0(lambda: run_dir.describe(dataclasses.asdict(settings), **run))
    return trainer
