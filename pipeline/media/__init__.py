"""One media file taken apart: decoding, cropping, sound, and both on one clock."""
