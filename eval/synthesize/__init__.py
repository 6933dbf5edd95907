"""Inference on one video (`python -m eval synthesize`): lip crops, the networks, the speech under the picture."""
