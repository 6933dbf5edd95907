"""Inference on one video (`python -m eval synthesize`): lip crops, the networks, the speech under the picture.

lips = find_lips(frames, fps, synthesizer.transforms)      # pictures of a face -> what a network is to read
"""

from eval.synthesize.lip_track import find_lips

__all__ = ["find_lips"]
