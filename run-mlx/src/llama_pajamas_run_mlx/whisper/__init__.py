"""Whisper's network on MLX; what surrounds it is run-core's."""
