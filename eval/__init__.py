"""From a checkpoint and shards to a report. Nothing is here yet: the pipeline comes first."""
