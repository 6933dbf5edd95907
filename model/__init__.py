"""Networks, mel and back, text, losses, checkpoints, synthesis. Imports nothing of ours but runtime.

Where the sections of docs/method.md are:

    Video, Masked prediction     transforms.py         lip regions of a batch -> pictures; resize.py: as Pillow resizes
    Audio                        mel.py                waveform -> mel; spec_augment.py: masking in training, ours
    Segments, Speaker reference  segment_sampling.py   which words, which window, which reference frames
    Text                         tokenizer.py          text <-> pieces; ctc.py (prefix_search.py, numba_jit.py):
                                                       CTC head, logits -> pieces
    Visual encoder               visual_encoder.py     of resnet.py, conformer.py (attention.py); vsr.py: with CTC head
    Speaker encoder              speaker_encoder.py
    Mel decoder                  mel_decoder.py        lip_to_speech.py: all of them as one network
    ASR                          asr.py
    Losses                       losses.py             the optimizer is in train/optim.py; precision.py: exact float32
    From mel to waveform         vocoders/             mel_to_wav.py of mel_inversion.py and griffin_lim.py
    Published checkpoints        published.py          checkpoint.py (settings_io.py): ours, and reading either;
                                                       export.py: for torch alone
    Differences                  padding.py            what padding may do; the rest where it belongs

synthesis.py puts them together: lip regions and a reference utterance -> waveforms. Coordinates and transcripts are
read in pipeline/, scores are computed in eval/.
"""
