"""A page to try a checkpoint on (`python -m eval serve`): drop or record a face, hear it speak; docs/page.md."""
