"""What a shard is: the contract between those who write datasets and those who read them.

A dataset is a folder (or a bucket prefix) of plain WebDataset tars, a manifest, a parquet index and a list of what was
skipped. `shards.format` says how each of these is laid out and written; `shards.loading` reads them back. Nothing here
imports anything else of the project, and nothing here needs Ray.
"""

from shards.format.errors import DatasetError, StorageError
from shards.format.index import INDEX_SCHEMA, read_index
from shards.format.manifest import Manifest, read_manifest
from shards.format.roi import ROI_CODECS
from shards.format.sample import Sample, SampleMeta, decode_sample, encode_sample
from shards.format.sidecar import Sidecar, SkippedClip, read_sidecar
from shards.format.store import Store
from shards.format.writer import ShardWriter
from shards.loading.dataset import Dataset, open_dataset

__all__ = [
    "INDEX_SCHEMA",
    "ROI_CODECS",
    "Dataset",
    "DatasetError",
    "Manifest",
    "Sample",
    "SampleMeta",
    "ShardWriter",
    "Sidecar",
    "SkippedClip",
    "StorageError",
    "Store",
    "decode_sample",
    "encode_sample",
    "open_dataset",
    "read_index",
    "read_manifest",
    "read_sidecar",
]
