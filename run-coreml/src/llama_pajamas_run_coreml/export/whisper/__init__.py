"""Whisper checkpoints as two packages, written straight with coremltools' builder.

``description.py`` says what the encoder's package and the decoder's take and give.
"""
