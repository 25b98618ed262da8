"""The starter chat model: what it is taught, how it is measured, and how its checkpoint becomes a GGUF file."""
