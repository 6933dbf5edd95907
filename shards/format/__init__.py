"""The storage format: samples, tars, sidecars, manifest, index, and where they are kept."""
