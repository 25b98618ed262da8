"""From ONNX graphs and Whisper checkpoints to Core ML packages, without PyTorch."""
