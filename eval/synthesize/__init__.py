"""Inference on one video (`python -m eval synthesize`).

command.py    the command
lip_crop.py   any video -> lip crops as the networks know them
mux.py        the speech under the picture, which stays as it is
"""
