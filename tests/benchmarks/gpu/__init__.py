"""Training and evaluation on a GPU: speed, memory, and whether a GPU computes what a CPU computes (docs/gpu.md).

    python -m tests.benchmarks.gpu [PART ...] [--device cpu] [--out FOLDER]

agreement.py       losses and gradients of all tasks, on the CPU and on the GPU
steps.py           whole training steps of full-size networks: frames a second, memory, waits, kernels, torch.compile
end_to_end.py      the commands, on shards of noise: training of all tasks, a stop and a resume, an evaluation
synthetic_run.py   the run and the batches of noise that the first two measure
"""
