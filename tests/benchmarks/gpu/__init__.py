"""Training and evaluation on a GPU: speed, memory, and whether a GPU computes what a CPU computes (docs/gpu.md).

    python -m tests.benchmarks gpu [PART ...] [--minutes 10] [--device cpu] [--out FOLDER]

agreement.py       losses and gradients of all tasks, on the CPU and on the GPU
steps.py           whole training steps of full-size networks, eager, compiled, in CUDA graphs, and the plain way:
                   frames a second, share of the GPU's own rate, memory, waits, kernels
end_to_end.py      the commands, on shards of noise: training of all tasks, a stop and a resume, an evaluation
table.py           the table of all of them
synthetic_run.py   the run and the batches of noise that the first two measure
"""
