"""Limits of every file that is read: bytes, rows, pixels, seconds, nesting; checked before memory is taken.

Files come from strangers, and may be larger than they look. Each limit is far above what real data need: a checkpoint
of the published lip-to-speech network (76 million weights, with optimizer and average) takes 1.5 GB, the index of
10,000 hours 5 million rows. What a user chooses for a corpus (`--max-minutes`) is a setting and not here.
"""

from __future__ import annotations

MAX_CHECKPOINT_BYTES = 8 << 30
MAX_ZIP_DIRECTORY_BYTES = 16 << 20
"""Of a checkpoint's own list of members, about 90 bytes each."""

MAX_PICKLE_BYTES = 16 << 20
"""Of `data.pkl` in a checkpoint, everything but the numbers of tensors; a tokenizer's bytes are most of it."""

MAX_TOKENIZER_BYTES = 8 << 20
"""Of a SentencePiece model: one of 65,536 pieces has 1.3 MB."""

MAX_VALUES = 1_000_000
"""Values in a checkpoint's dictionaries and lists, counted wherever they stand; also operations of `data.pkl`."""

MAX_DIMENSIONS = 8
MAX_NAME_LENGTH = 300

MAX_SETTING = 65_536
"""Any whole number in settings of a training or in a checkpoint, but for these:"""

MAX_SETTINGS = {
    **dict.fromkeys(("steps", "warmup_steps", "every", "log_every", "milestones", "max_nonfinite_steps"), 10**9),
    **dict.fromkeys(("clips", "max_frames", "max_padded_frames"), 10**6),
    **dict.fromkeys(("workers", "processes"), 1024),
    "seed": 2**63 - 1,
    "max_bytes": 1 << 53,
    **dict.fromkeys(("content_below", "content_after_epoch"), 10**12),
    "layers": 256,
    "heads": 1024,
    "expansion": 64,
    "kernel": 4095,
    "sample_rate": 192_000,
    "n_mels": 1024,
    "n_fft": 16_384,
    "win_length": 16_384,
    "size": 1024,
    "crop_radius": 1024,
    "max_shift": 1024,
}
"""By the name of the setting."""

MAX_FRACTION = 1e6
"""Magnitude of any other number in such settings."""

MAX_STEP = 10**12

SPARSE_FROM_BYTES, MAX_HOLES = 1 << 30, 16
"""A file from this size on must have at least a 16th of its bytes on disk; what file systems compress has more."""

MAX_DEPTH = 32
"""Values inside each other, in any file that nests."""

MAX_SETTINGS_BYTES = 256 << 10
"""Of a YAML file of settings."""

MAX_YAML_NODES = 100_000
"""Values in a YAML file once its aliases are written out."""

MAX_JSON_BYTES = 16 << 20
"""Of a JSON file that says what something is: `plan.json`, `evaluation.json`."""

MAX_ABOUT_BYTES = 1 << 20
"""Of an evaluation's `evaluation.json`, and of the list of its files' checksums: a few kB."""

MAX_TABLE_ROWS, MAX_TABLE_COLUMNS, MAX_TABLE_BYTES = 2_000_000, 500, 1 << 30
"""Of an evaluation's `clips.parquet`: six systems on all of LRS3 are 900,000 rows; bytes are those of rows that are not
compressed."""

MAX_BATCH_RECORD_BYTES = 64 << 20
"""Of the record of a micro-batch of an evaluation, some kB a clip."""

MAX_WAV_BYTES = 1 << 30
"""Of a waveform in a report folder: nine hours."""

MAX_RESULT_TEXT = 100_000
"""Bytes of a transcript or a hypothesis in an evaluation: two hours of speech."""

MAX_REASON_LENGTH, MAX_REASONS_LENGTH = 1000, 1_000_000
"""Characters that are kept of why a clip has no figure, and bytes of all reasons of a row."""

MAX_FIGURE = 1e15
"""Magnitude of a figure of a metric."""

MAX_EVALUATED_FRAMES = 1 << 24
"""Frames of an evaluated clip: a week."""

MAX_FRAMES = 25 * 3600 * 24
"""Video frames of a clip in a dataset: a day."""

MAX_ROI_BYTES = 4 << 30
"""Of a clip's lip region, decoded: four hours at 108 pixels."""

MAX_KEY_LENGTH = 1024
MAX_PATH_LENGTH = 4096
MAX_COORDINATE = 10**6
MAX_SECONDS = 10**6
"""Of a time in a dataset: eleven days."""

MAX_TRANSCRIPT_BYTES = 1 << 20
"""Of the text of a clip: twenty hours of speech."""

MAX_MANIFEST_BYTES = 64 << 20
"""Of `manifest.json`, 250 bytes a shard."""

MAX_SIDECAR_BYTES = 64 << 20
"""Of a shard's sidecar, about a kilobyte a clip."""

MAX_SKIPPED_BYTES = 256 << 20
"""Of `errors.jsonl`, about 300 bytes a clip."""

MAX_INDEX_BYTES, MAX_INDEX_ROWS = 4 << 30, 20_000_000
"""Of an index: that of 10,000 hours with word times has 5 million rows and a gigabyte."""

MAX_INDEX_RATIO, MIN_INDEX_ROOM = 128, 128 << 20
"""Of an index: how many times its file it may take in memory, or so many bytes; real ones take 5 to 70 times."""

MAX_FRAME_PIXELS = 36_000_000
"""Of a video's picture as it is stored, and as it is shown: 8K (7680 x 4320) has 33 million."""

MAX_LIST_BYTES, MAX_LIST_LINE_BYTES = 4 << 30, 16 << 20
"""Of a split list or a coordinate file (LRS3's has 300 MB), and of a line of it: lip centers of a day."""

MAX_MISSING = 500_000
"""Lines of a split list whose clips are not there."""

MAX_TRANSCRIPT_FILE_BYTES, MAX_TRANSCRIPT_LINES = 4 << 20, 300_000
"""Of a transcript's file: LRS3's have a line a frame, of 30 bytes."""

MAX_STREAMS, MAX_PACKET_BYTES = 100, 256 << 20
"""Of a video file."""

MAX_FRAME_RATE, MAX_FRAMES_BESIDE = 300, 1_000
"""Frames of a video: that many a second of its length, and some beside."""

MAX_VIDEO_SECONDS = 24 * 3600
"""Of a video, where longer ones are split."""

MAX_SOUND_AHEAD = 300
"""Seconds of sound that are decoded before the picture begins and after it ends."""

MAX_CHANNELS, MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 64, 4_000, 384_000
"""Of sound."""

MIN_DECODING_SECONDS, DECODING_SECONDS_A_SECOND = 120, 20
"""Processor time to decode and track a video in: that much, and as much more for each second that it lasts. A core
needs 15 for a second of 8K at 60 frames."""

MAX_DECODING_BYTES = 2 << 30
"""Memory that decoding one file may take beside what the process has; 16 frames of 8K are half of it."""

MAX_TOOL_BYTES, MAX_TOOL_OUTPUT = 4 << 30, 64 << 10
"""Memory of FFmpeg's own tool, and bytes that are kept of what it says."""

MAX_NORMALIZED_BYTES, MAX_NORMALIZED_GROWTH = 1 << 30, 100
"""Of a normalized copy on disk: that many, and as many more for each byte of the video."""

MAX_TOKEN_BYTES = 64 << 10
"""Of the file with a Ray cluster's token, which has 64 characters."""

MAX_VISITS, MAX_IDLE_VISIT_SECONDS = 16, 3600
"""Of the page: visitors at once, and how long one who does nothing stays."""

MAX_UPLOAD_SECONDS, MAX_LIVE_SILENCE_SECONDS = 300, 5
"""Of the page: that a file may take to come in, and that live mode waits for a picture while a key is held."""

MAX_LIVE_BYTES = 64 << 20
"""Of the pictures of one utterance in live mode."""

MAX_LOG_BYTES = 1 << 30
"""Of a run's `log.jsonl`, 250 bytes a line, and the lists beside it."""


def check_limit(what: str, found: float, allowed: float) -> None:
    """Refuse a size above what is allowed.

    Raises:
        ValueError: naming what it is of, the number found and the number allowed.
    """
    if not found <= allowed:
        raise ValueError(f"{what}: {found:,}, and at most {allowed:,} is allowed")
