"""From the network's mel to a waveform: Griffin-Lim, and the inversion of the mel filter bank that it works with."""
