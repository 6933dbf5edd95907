"""Reading a dataset: clip by clip (dataset), or in planned batches: batch_plan, distribute, loader, collate."""
