"""Comparison of evaluations, clip by clip (`python -m eval compare`).

command.py        the command
comparison.py     paired differences, their intervals, tests and win rates
significance.py   the sign-flip test, and Holm's correction
comparability.py  what differs between evaluations besides the network
table.py          the table in words, as Markdown
page.py           its page, of the parts of eval/report: table, distributions of differences, clips side by side
"""
