"""Evaluations beside each other, clip by clip (`python -m eval compare`).

command.py        the command
comparison.py     paired differences, their intervals, tests and wins
significance.py   the sign-flip test, and p values of many tests
alike.py          what two evaluations have in common, and in what they differ
table.py          the comparison in words, as Markdown
page.py           its page: the table, the differences drawn, and clips side by side (of the parts of eval/report)
"""
