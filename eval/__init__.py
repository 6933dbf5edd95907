"""From a checkpoint and shards to a report.

metrics/    scores of synthesised speech and of recognised words, without torch
"""
