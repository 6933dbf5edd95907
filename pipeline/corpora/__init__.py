"""Corpora: what each one's owners ship, read into one index of clips."""

from pipeline.config import BuildSettings
from pipeline.corpora.clips import Clip, CorpusIndex
from pipeline.corpora.folder import index_folder
from pipeline.corpora.lrs import LRS2, LRS3, index_lrs

__all__ = ["Clip", "CorpusIndex", "index_corpus"]


def index_corpus(recipe: BuildSettings) -> CorpusIndex:
    """Every clip that a recipe names, and every one that it names in vain.

    Raises:
        ValueError: the corpus is not laid out as the recipe says; the message names the file and what to do.
        StorageError: the disk or network failed.
    """
    if recipe.dataset == "folder":
        return index_folder(recipe)
    return index_lrs(recipe, LRS3 if recipe.dataset == "lrs3" else LRS2)
