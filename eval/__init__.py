"""Evaluation and inference: from a checkpoint and shards to a report, and from one video to its speech.

evaluation.py       the evaluation: plan, synthesize and score, gather, report
settings.py         what is evaluated, and how
fingerprint.py      what an evaluation is of, so that another one is refused in its folder
systems.py          what is compared, by name; shuffled_lips.py: another clip's lips in the place of a clip's own
synthesis.py        a micro-batch synthesized by every system; reference_audio.py: the speaker reference of a file
asr.py              ASR back-ends for WER
executors.py        this process, or Ray actors and tasks; scheduler.py: what is in flight
scoring.py          a clip's scores
batch_store.py      finished micro-batches on disk, from which a stopped evaluation resumes
results.py          the rows, and the folder that they lie in; summary.py: means; bootstrap.py: their intervals

metrics/            metrics of waveforms and of texts, without torch
report/             the page
compare/            evaluations beside each other
synthesize/         inference on one video
"""
