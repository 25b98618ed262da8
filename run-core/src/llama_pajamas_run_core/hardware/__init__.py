"""What this machine has: probes for the processor, NVIDIA GPUs and Apple chips, and profiles as JSON."""
