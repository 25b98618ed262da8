"""The starter chat model: what it is taught, how it is measured, and how its checkpoint becomes a GGUF file."""

from importlib.resources import files
from pathlib import Path


def checkpoint() -> Path:
    """The folder of the canonical checkpoint that ships with this package (Hugging Face layout, float16)."""
    return Path(str(files("llama_pajamas_starter"))) / "models" / "chat"
