"""Evaluation and inference: from a checkpoint and shards to a report, and from one video to its speech.

evaluation.py plans, has micro-batches synthesized (batch_synthesis.py) by every system (systems.py), recognized
(asr.py) and scored (scoring.py, metrics/) on executors (executors.py), and gathers the rows (results.py) into a summary
(summary.py, statistics.py) and a page (report/). compare/ compares evaluations; synthesize/ is inference on one video.
"""
