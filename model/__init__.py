"""Networks, mel and back, text, losses, checkpoints, synthesis. Imports nothing of ours but runtime.

docs/method.md says what each part computes and in which file. lip_to_speech.py and vsr.py make networks of the parts,
and synthesis.py puts all together: lip regions and a reference utterance -> waveforms. Coordinates and transcripts are
read in pipeline/, scores are computed in eval/.
"""
