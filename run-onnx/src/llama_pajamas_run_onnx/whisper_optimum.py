"""Whisper's network in the graphs that Hugging Face's optimum writes.

``encoder_model`` gives ``last_hidden_state``. The decoder is one graph with a switch (``decoder_model_merged``) or two:
one for the first step, one for those with a past. Its cache grows with every step. Exports that show the attention
(``cross_attentions.i``) tell when words are said.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_run_onnx._session import Kept, Session

Value = npt.NDArray[Any] | Kept


@dataclass(slots=True)
class Transcript:
    """What the decoder has read of one batch.

    Attributes:
        audio: what the encoder gave.
        past: keys and values by the names of the decoder's inputs; empty before the first token.
    """

    audio: Kept
    past: dict[str, Value] = field(default_factory=dict)


class OptimumWhisper:
    """A loaded model, as :class:`~llama_pajamas_run_core.whisper.model.WhisperModel` describes it.

    Args:
        encoder: the graph of the encoder.
        decoders: the merged decoder, or that of the first step and that of the others.
        sizes: the model's dimensions.
        heads: (layer, head) pairs of the decoder whose attention follows the speech.
        windows: how many windows of audio are computed together at most.

    Raises:
        LoadError: the graphs do not take what they should.
    """

    def __init__(
        self,
        encoder: Session,
        decoders: Sequence[Session],
        sizes: Dimensions,
        heads: Sequence[tuple[int, int]],
        *,
        windows: int,
    ) -> None:
        self.sizes, self.windows = sizes, windows
        self._encoder, self._first, self._next, self._heads = encoder, decoders[0], decoders[-1], heads
        if len(encoder.inputs) != 1 or not encoder.outputs:
            raise LoadError(f"{encoder.path} is no encoder of Whisper: it takes {_names(encoder)}.")
        self._mel, self._hidden = encoder.inputs[0], encoder.outputs[0].name
        self.flexible = self._mel.size(2) is None
        self._own = [f"{layer}.decoder.{part}" for layer in range(sizes.n_text_layer) for part in ("key", "value")]
        self._cross = [name.replace("decoder", "encoder") for name in self._own]
        self._outputs = {one.name for one in self._first.outputs}
        for session, names in ((self._first, ("input_ids",)), (self._next, [f"past_key_values.{self._own[-1]}"])):
            known = {one.name for one in session.inputs} | {one.name for one in session.outputs}
            if missing := [name for name in (*names, "logits", f"present.{self._own[-1]}") if name not in known]:
                raise LoadError(f"{session.path} is no decoder of Whisper with a past: it lacks {missing[0]}.")

    def encode(self, mel: npt.NDArray[np.float32]) -> Kept:
        """Encode spectrograms [n, n_mels, frames]."""
        pixels = mel.astype(self._mel.dtype or np.float32, copy=False)
        return self._encoder.run_kept({self._mel.name: pixels}, [self._hidden])[self._hidden]

    def start(self, audio: Kept) -> Transcript:
        """An empty transcript."""
        return Transcript(audio)

    def step(self, transcript: Transcript, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Take up tokens [n, k]; the logits behind the last of them."""
        if not transcript.past:
            names = ["logits", *(f"present.{name}" for name in (*self._own, *self._cross))]
            made = self._run(self._first, transcript, tokens, names, cached=False)
            transcript.past = {
                f"past_key_values.{name}": made[f"present.{name}"] for name in (*self._own, *self._cross)
            }
        else:
            for column in tokens.T:  # a graph with a past takes one token at a time
                names = ["logits", *(f"present.{name}" for name in self._own)]
                made = self._run(self._next, transcript, column[:, None], names, cached=True)
                transcript.past |= {f"past_key_values.{name}": made[f"present.{name}"] for name in self._own}
        return made["logits"].array()[:, -1].astype(np.float32)

    def align(self, audio: Kept, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32] | None:
        """How much each token attends to the audio, [n, heads, k, positions]; None where the graph does not tell."""
        layers = sorted({layer for layer, _ in self._heads})
        if any(f"cross_attentions.{layer}" not in self._outputs for layer in layers):
            return None
        names = [f"cross_attentions.{layer}" for layer in layers]
        made = self._run(self._first, self.start(audio), tokens, names, cached=False)
        seen = {layer: made[name].array().astype(np.float32) for layer, name in zip(layers, names, strict=True)}
        weights = np.stack([seen[layer][:, head] for layer, head in self._heads], axis=1)
        scores: npt.NDArray[np.float32] = np.log(np.maximum(weights, 1e-9))
        return scores

    def close(self) -> None:
        """Free the model."""
        del self._encoder, self._first, self._next

    def _run(
        self,
        session: Session,
        transcript: Transcript,
        tokens: npt.NDArray[np.int32],
        outputs: list[str],
        *,
        cached: bool,
    ) -> dict[str, Kept]:
        feeds: dict[str, Value] = {}
        for one in session.inputs:
            if one.name == "input_ids":
                feeds[one.name] = np.ascontiguousarray(tokens, dtype=one.dtype)
            elif one.name == "encoder_hidden_states":
                feeds[one.name] = transcript.audio
            elif one.name == "use_cache_branch":
                feeds[one.name] = np.array([cached])
            elif one.name in transcript.past:
                feeds[one.name] = transcript.past[one.name]
            elif one.name.startswith("past_key_values."):  # the merged graph wants something, and does not look at it
                heads, width = self.sizes.n_text_head, self.sizes.n_text_state // self.sizes.n_text_head
                feeds[one.name] = np.zeros((len(tokens), heads, 1, width), one.dtype)
            else:
                raise LoadError(f"{session.path} wants the input {one.name}, which is not known.")
        return session.run_kept(feeds, outputs)


def _names(session: Session) -> str:
    return ", ".join(one.name for one in session.inputs)
