"""One video, with the sound of its lips (`python -m eval synthesize`).

command.py      the command
lip_square.py   any video -> lip regions as the networks know them
speaking.py     videos of any length spoken
muxing.py       the sound beside the picture, which stays as it is
"""
