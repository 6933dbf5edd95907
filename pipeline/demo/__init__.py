"""A corpus to try the whole way of the data on: drawn talking faces, real speech, laid out as LRS2 is.

speech        what is said, by espeak-ng, with every phoneme's time
grammar       the sentences
visemes       what the eye can tell of a sound: the table
articulation  phonemes over time -> the mouth over time
motion        the head, the eyes and the brows over time
speakers      faces, voices and habits
shading       the lamp of a clip, soft shapes
portrait      a speaker's still face, painted once a clip
hair          the hair on it
backdrop      room, shoulders and neck behind it
mouth, eyes   what moves, drawn in every frame
camera        the frames
encode        frames and sound -> mp4
clip          one clip, from plan to files
corpus        the splits and the folder
"""

from pipeline.demo.corpus import CorpusSummary, write_corpus
from pipeline.demo.speech import SpeechError

__all__ = ["CorpusSummary", "SpeechError", "write_corpus"]
