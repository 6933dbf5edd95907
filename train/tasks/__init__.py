"""What is trained: `vsr`, `asr` and `lip2speech`, a file each."""
