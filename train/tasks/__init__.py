"""What is trained: `vsr`, `asr`, `lip2speech` and `vocoder`, a file each."""
