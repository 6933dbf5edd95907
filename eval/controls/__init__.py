"""What a score is worth: a checkpoint beside what has learned nothing or cannot learn (`python -m eval table`).

command.py   the command
scores.py    figures of a checkpoint and of the controls
lips.py      another clip's lips in the place of a clip's own
table.py     the table, as Markdown
"""
