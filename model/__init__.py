"""Networks, mel and back, text, checkpoints. So far: the mel."""
