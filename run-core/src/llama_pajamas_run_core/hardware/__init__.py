"""What this machine has: probes for the processor, NVIDIA GPUs and Apple chips, and profiles as JSON."""

from llama_pajamas_run_core.hardware.detect import detect

__all__ = ["detect"]
