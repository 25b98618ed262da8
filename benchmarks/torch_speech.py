"""The checkpoints of speech_models.py in PyTorch, by Hugging Face's transformers: a peer of tensorrt_speech.py.

    python benchmarks/torch_speech.py --serve

Runs in any Python with PyTorch and transformers, and imports nothing of this project. In half precision on a GPU. From
spectrograms in the host's memory to a fixed number of tokens there, the likeliest ones:

    torch-generate   transformers' own generate()
    torch-loop       the plainest loop over the model with its growing cache, without what generate() does around it
    torch-compiled   the same loop with a cache of fixed size, the step compiled (reduce-overhead: CUDA graphs)
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from common.worker import serve
from transformers import GenerationMixin, WhisperForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache, StaticCache
from transformers.modeling_outputs import BaseModelOutput

_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
_DTYPE = torch.float16 if _DEVICE == "cuda" else torch.float32
#: Tokens decoded for each window; the benchmark tells.
_TOKENS = int(os.environ.get("SPEECH_TOKENS", "100"))


class Run:
    """A model on a batch of windows."""

    def __init__(self, subject: "Subject", model: Any, batch: int) -> None:
        self._subject, self._model = subject, model
        config = model.config
        mel = np.random.default_rng(0).standard_normal((batch, config.num_mel_bins, 3000), np.float32)
        self._mel = torch.from_numpy(mel)

    def start(self) -> None:
        """Nothing: speech cannot be decoded without waiting."""

    def wait(self) -> None:
        """Nothing is under way."""

    def once(self) -> None:
        """One batch, to the tokens in the host's memory."""
        made = self._subject.tokens(self._model, self._mel, _TOKENS)
        assert made.shape[1] >= _TOKENS


class Subject:
    """transformers' generate()."""

    def __init__(self) -> None:
        self._models: dict[str, Any] = {}

    def prepare(self, model: str, folder: Path, batch: int) -> Run:
        """Load a checkpoint."""
        return Run(self, self._load(folder), batch)

    def outputs(self, model: str, folder: Path, inputs: Path, to: Path) -> None:
        """The logits behind one token, for spectrograms from a file."""
        loaded = self._load(folder)
        mel = torch.from_numpy(np.load(inputs)).to(_DEVICE, _DTYPE)
        begin = torch.full((len(mel), 1), loaded.config.decoder_start_token_id, device=_DEVICE)
        with torch.inference_mode():
            logits = loaded(input_features=mel, decoder_input_ids=begin).logits[:, -1]
        np.savez(to, logits=logits.float().cpu().numpy())

    def tokens(self, model: Any, mel: torch.Tensor, count: int) -> torch.Tensor:
        """So many tokens for each spectrogram."""
        with torch.inference_mode():
            return GenerationMixin.generate(
                model, mel.to(_DEVICE, _DTYPE), max_new_tokens=count, min_new_tokens=count, do_sample=False, num_beams=1
            ).cpu()

    def _load(self, folder: Path) -> Any:
        key = str(folder)
        if key not in self._models:
            loaded = WhisperForConditionalGeneration.from_pretrained(
                folder / "checkpoint", dtype=_DTYPE, attn_implementation="sdpa"
            )
            self._models[key] = loaded.to(_DEVICE).eval()
        return self._models[key]


class Loop(Subject):
    """A loop of one's own."""

    def tokens(self, model: Any, mel: torch.Tensor, count: int) -> torch.Tensor:
        with torch.inference_mode():
            hidden = model.model.encoder(mel.to(_DEVICE, _DTYPE)).last_hidden_state
            heard = BaseModelOutput(last_hidden_state=hidden)
            cache = self._cache(model, len(mel))
            token = torch.full((len(mel), 1), model.config.decoder_start_token_id, device=_DEVICE)
            made = []
            for place in range(count):
                logits = self._step(model, heard, cache, token, place)
                token = logits[:, -1:].argmax(-1)
                made.append(token.cpu())  # as whoever looks at each token needs it
            return torch.cat(made, 1)

    def _cache(self, model: Any, rows: int) -> Any:
        return EncoderDecoderCache(DynamicCache(), DynamicCache())

    def _step(self, model: Any, heard: Any, cache: Any, token: torch.Tensor, place: int) -> torch.Tensor:
        return model(encoder_outputs=heard, decoder_input_ids=token, past_key_values=cache, use_cache=True).logits


class Compiled(Loop):
    """The step compiled, with a cache of fixed size."""

    def __init__(self) -> None:
        super().__init__()
        self._compiled: Any = None
        self._caches: dict[tuple[int, int], Any] = {}

    def _cache(self, model: Any, rows: int) -> Any:
        key = (id(model), rows)
        if key not in self._caches:
            longest = model.config.max_target_positions
            self._caches[key] = EncoderDecoderCache(
                StaticCache(config=model.config, max_cache_len=longest),
                StaticCache(config=model.config, max_cache_len=model.config.max_source_positions),
            )
        self._caches[key].reset()
        return self._caches[key]

    def _step(self, model: Any, heard: Any, cache: Any, token: torch.Tensor, place: int) -> torch.Tensor:
        if self._compiled is None:
            self._compiled = torch.compile(_forward, mode="reduce-overhead", dynamic=False)
        call = _forward if place == 0 else self._compiled  # the first step fills the cache of the audio
        return call(model, heard.last_hidden_state, cache, token, torch.tensor([place], device=_DEVICE)).clone()


def _forward(model: Any, hidden: torch.Tensor, cache: Any, token: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    heard = BaseModelOutput(last_hidden_state=hidden)
    return model(
        encoder_outputs=heard, decoder_input_ids=token, past_key_values=cache, use_cache=True, cache_position=place
    ).logits


SUBJECTS = {"torch-generate": Subject, "torch-loop": Loop, "torch-compiled": Compiled}


def about() -> dict[str, Any]:
    """The versions, and the device."""
    return {
        "versions": {
            "torch": torch.__version__,
            "cuda (torch)": torch.version.cuda,
            "transformers": transformers.__version__,
        },
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
    }


def main() -> int:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", action="store_true", required=True, help="answer tensorrt_speech.py's requests")
    parser.parse_args()
    transformers.logging.set_verbosity_error()
    serve(SUBJECTS, about)
    return 0


if __name__ == "__main__":
    sys.exit(main())
