"""Whisper on MLX: the model, its vocabulary, decoding and the times of words."""
