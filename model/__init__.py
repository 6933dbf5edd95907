"""Networks, mel and back, text, checkpoints: everything of the method that is a function. Nothing of ours is imported.

Where the method's paragraphs are (METHOD.md's headings):

    Video, Masked prediction     transforms.py    lip regions of a batch -> pictures; resizing.py: as Pillow resizes
    Audio                        mel.py           waveform -> mel; spec_augment.py: masked in training, ours
    Segments, Speaker reference  segments.py      which words, which window, whose voice
    Text                         tokenizer.py     text <-> pieces; ctc.py (prefix_search.py): logits -> pieces;
                                                  compiled.py: loops over frames
    Visual encoder               visual.py        of resnet.py and conformer.py (attention.py)
    CTC head                     ctc_head.py      lip_reader.py: visual encoder and CTC head
    Speaker encoder              speaker.py
    Mel decoder                  decoder.py       lip_to_speech.py: all four as one network
    Speech recogniser            recogniser.py
    Losses and optimizer         losses.py
    From mel to waveform         vocoder.py       of mel_inversion.py and griffin_lim.py
    Published checkpoints        published.py     checkpoint.py (plain_settings.py): ours, and reading either;
                                                  export.py: for torch alone
    Match or mend                padding.py       what padding may do; the rest where it belongs

Coordinates and transcripts are read in pipeline/, scores are computed in eval/.
"""
