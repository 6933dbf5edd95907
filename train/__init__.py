"""Training: shards in, checkpoints out.

settings.py       every setting of a run
build.py          a run made from its settings: init.py, from other checkpoints; resume.py, from its own
trainer.py        the loop over epochs and steps; step.py: one optimizer step
tasks/            what is trained: task.py, the protocol; vsr.py, asr.py, lip2speech.py
optim.py          optimizer, learning-rate schedule, average of the weights (EMA)
curriculum.py     which segment of a clip an epoch uses
validation.py     scores over fixed clips, summed in metrics.py
state.py          what a checkpoint keeps: model and `TrainState`; checkpointing.py: written, rotated, restored
distributed.py    the process group of torchrun (DDP)
run_dir.py        files of a run; logger.py: its log, TensorBoard and progress bar; throughput.py
"""
