"""From shards to checkpoints.

settings.py      every setting of a run
task.py        what a task is; tasks.py: which there are
visual.py        lips to text; asr.py: mels to text; lip2speech.py: lips and a voice to a mel
inputs.py        what lip2speech is fed; sound.py: mels of a batch; texts.py: its texts, and how well they are read
curriculum.py    which part of a clip an epoch uses
start.py         where a run begins: fresh, from other checkpoints, or where it stopped
loop.py          the loop over epochs and steps: what happens when
step.py          a global step; meter.py: what is measured meanwhile; schedule.py: its learning rate
validation.py    scores over fixed clips, and the best checkpoint; speaking.py: those of lip2speech
run.py           what a run works on, where it is, and both as a checkpoint
ranks.py         the processes of a run
run_folder.py    its files; logbook.py: what it tells; pictures.py: mels to look at
"""
