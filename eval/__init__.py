"""From a checkpoint and shards to a report.

evaluation.py   the whole of it: plan, speak and score, gather, show
settings.py     what is evaluated, and how
identity.py     what an evaluation is of, so that another one is refused in its folder
running.py      who speaks and scores; work.py: what is under way
synthesis.py    a micro-batch spoken by every system; networks.py: which; mels.py: what they are to reach, and what they
                sound like; voices.py, file_voice.py: with whose voice; hearing.py: what a recogniser hears of it
scoring.py      a clip's figures
batches.py      finished micro-batches on disk, from which a stopped evaluation goes on
results.py      the rows, and the folder that they lie in; summary.py: means, intervals.py: how sure they are

metrics/        scores of waveforms and of words, without torch
report/         the page
compare/        evaluations beside each other
controls/       a checkpoint beside what has learned nothing
one_clip/       one video, with the sound of its lips
"""
