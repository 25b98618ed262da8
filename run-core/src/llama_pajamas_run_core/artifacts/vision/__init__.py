"""What a vision model expects and gives, read from what describes it, whatever runtime runs it."""
