"""From shards to checkpoints.

settings.py      every setting of a run
start.py         where it begins: fresh, from other checkpoints, or where it stopped
lip2speech.py    the recipe: from a batch of clips to its losses
loop.py          the loop over epochs and steps: what happens when
step.py          a global step; validation.py: a validation; meter.py: what is measured meanwhile
run.py           what a run works on, where it is, and both as a checkpoint
ranks.py         the processes of a run
run_folder.py    its files; logbook.py: what it tells; schedule.py: its learning rate
"""
