"""Checkpoints of Whisper models that recite (:mod:`support.tiny_whisper`), with Whisper's own words."""

import json
from pathlib import Path

import numpy as np

from llama_pajamas_run_core.whisper.vocabulary import Vocabulary
from support import tiny_whisper

GERMAN = (((" Gr", "ü", "ße", "."), 0.0, 1.0),)


class RealWords(tiny_whisper.Vocabulary):
    """Whisper's own words in place of made-up ones."""

    def add(self, text: str) -> int:
        tokens = Vocabulary.of(self.size).encode(text)
        assert len(tokens) == 1, f"{text!r} is no single token"
        return tokens[0]


def sizes(vocabulary: tiny_whisper.Vocabulary) -> dict[str, int]:
    """The dimensions under openai-whisper's names."""
    width, layers = tiny_whisper.WIDTH, tiny_whisper.LAYERS
    return {
        "n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": width, "n_audio_head": 1, "n_audio_layer": 1,
        "n_vocab": vocabulary.size, "n_text_ctx": 448, "n_text_state": width, "n_text_head": 1, "n_text_layer": layers,
    }  # fmt: skip


def recital(transcript=tiny_whisper.TRANSCRIPT, *, language=None, **options):
    """Vocabulary, embedding and positions of a model that says the transcript."""
    vocabulary = RealWords(language is not None)
    return vocabulary, *tiny_whisper.recitation(vocabulary, transcript, language, **options)


def write(folder: Path, transcript=tiny_whisper.TRANSCRIPT, *, language=None, **options) -> Path:
    """Write a checkpoint under openai-whisper's names: config.json and model.safetensors."""
    from safetensors.numpy import save_file

    vocabulary, embedding, positions = recital(transcript, language=language, **options)
    folder.mkdir(parents=True)
    tensors = {name: np.ascontiguousarray(array) for name, array in tiny_whisper.tensors(embedding, positions)}
    save_file(tensors, folder / "model.safetensors")
    config = {"model_type": "whisper", "dimensions": sizes(vocabulary), "alignment_heads": [[2, 0]]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
