"""Training: shards in, checkpoints out (docs/architecture.md, Where to find what)."""
