"""The starter models: a chat model, a speech recognizer, a detector, a classifier and an image/text embedder.

All were trained from scratch by the recipes beside this package, on data that the recipes make.
"""
