"""Conversations as models want to read them: the model's own template, and what it lacks."""
