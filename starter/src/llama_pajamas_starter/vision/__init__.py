"""Procedurally drawn scenes, and how well a vision model reads them.

The detector, the classifier and the image/text embedder of the starter models are trained and judged on these scenes.
"""
