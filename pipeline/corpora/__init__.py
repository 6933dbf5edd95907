"""Index any corpus that is supported: LRS2, LRS3, GRID, the demo, a folder of videos."""

from pipeline.config import BuildSettings
from pipeline.corpora.clips import CorpusClip, CorpusIndex
from pipeline.corpora.folder import index_folder
from pipeline.corpora.grid import index_grid
from pipeline.corpora.lrs import LRS2, LRS3, index_lrs

__all__ = ["CorpusClip", "CorpusIndex", "index_corpus"]


def index_corpus(settings: BuildSettings) -> CorpusIndex:
    """Every clip of a corpus that is to be built, and every one that cannot be.

    Raises:
        ValueError: the corpus is not laid out as the settings say; the message names the file and what to do.
        StorageError: the disk or network failed.
    """
    if settings.dataset == "folder":
        return index_folder(settings)
    if settings.dataset == "grid":
        return index_grid(settings)
    return index_lrs(settings, LRS3 if settings.dataset == "lrs3" else LRS2)
