"""From shards to checkpoints. Nothing is here yet: the pipeline comes first."""
