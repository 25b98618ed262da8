"""ONNX graphs into engines: cleaned, quantized, built, and measured against the graph they were made from.

No room that runs engines imports this; it needs ``uv sync --extra export`` beside TensorRT.
"""
