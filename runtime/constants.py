"""The numbers that bind the rooms together: frame rate, sample rate, hop, bands, and how they divide each other."""

FPS = 25
"""Video frames a second, of every stored clip and every network."""

SAMPLE_RATE = 16_000
"""Samples a second, mono."""

HOP_LENGTH = 160
"""Samples from one mel frame to the next: 10 ms."""

N_MELS = 80
"""Mel bands."""

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
"""Samples under a video frame: 640."""

MEL_FRAMES_PER_VIDEO_FRAME = SAMPLES_PER_FRAME // HOP_LENGTH
"""Mel frames a video frame: 4."""

ROI_MARGIN = 5
"""Pixels stored around the published crop, so that training can shift it by up to as many (docs/method.md, Video)."""
