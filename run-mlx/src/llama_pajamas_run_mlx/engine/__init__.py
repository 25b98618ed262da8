"""Continuous batching over mlx-lm's batch generator."""
