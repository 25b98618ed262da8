"""From tokens, and the keys and values of those before, to the next token."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np

from llama_pajamas_run_core.whisper.cache import HIDDEN
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_run_coreml.export._mil import mb
from llama_pajamas_run_coreml.export.convert import Input, program
from llama_pajamas_run_coreml.export.values import Sizes
from llama_pajamas_run_coreml.export.whisper.checkpoint import WhisperCheckpoint
from llama_pajamas_run_coreml.export.whisper.encoder import as_cache
from llama_pajamas_run_coreml.export.whisper.layers import Layers, scored

#: The numbers of tokens that one step takes: one while decoding, more for a prompt and to align words.
_COUNTS: Final = (1, 4, 16, 64)


def counts(sizes: Dimensions) -> tuple[int, ...]:
    """The numbers of tokens that one step of a model's decoder takes, rising; at least two."""
    return tuple(count for count in _COUNTS if count <= max(4, sizes.n_text_ctx))


def decoder(checkpoint: WhisperCheckpoint, target: str, precision: str, *, stateful: bool) -> tuple[Any, list[Any]]:
    """The decoder's program, and coremltools' declarations of its inputs.

    Args:
        checkpoint: the model.
        target: the oldest system that runs it.
        precision: "float16" or "float32": also of the keys and values that go in and come out.
        stateful: whether the keys and values of earlier tokens are a state of the model, or inputs and outputs.
    """
    sizes = checkpoint.sizes
    dtype = "fp16" if precision == "float16" else "fp32"
    width = sizes.n_text_state // sizes.n_text_head
    heard = (sizes.n_text_layer, sizes.n_text_head, sizes.n_audio_ctx, width)
    kept = (sizes.n_text_layer, sizes.n_text_head, sizes.n_text_ctx, width)
    inputs = [
        Input("tokens", (1, 1), "int32", flexible=1, sizes=counts(sizes)),
        Input("position", (1,), "int32"),
        Input("last", (1,), "int32"),
        Input("cross_keys", heard, dtype),
        Input("cross_values", heard, dtype),
    ]
    states = {"keys": kept, "values": kept} if stateful else {}
    if not stateful:
        inputs += [Input("keys", kept, dtype), Input("values", kept, dtype)]

    def build(given: Mapping[str, Any], symbols: Sizes) -> Mapping[str, Any]:
        return _Decoder(checkpoint, given, symbols, precision, stateful).outputs()

    return program(inputs, target, build, states)


class _Cache(Protocol):
    """Where the keys and values of earlier tokens are."""

    #: What is added to scores: 0 where a token attends, :data:`HIDDEN` where it does not.
    mask: Any

    def extended(self, layer: int, keys: Any, values: Any) -> tuple[Any, Any]:
        """All keys and values [heads, m, w] of a layer, those of the tokens [heads, n, w] among them."""

    def outputs(self) -> dict[str, Any]:
        """What of it the program gives."""


class _Decoder:
    def __init__(
        self,
        checkpoint: WhisperCheckpoint,
        inputs: Mapping[str, Any],
        symbols: Sizes,
        precision: str,
        stateful: bool,
    ) -> None:
        self._checkpoint, self._inputs, self._sizes = checkpoint, inputs, checkpoint.sizes
        self._layers = Layers(checkpoint, self._sizes.n_text_head, self._sizes.n_text_state)
        count = symbols.variable(inputs["tokens"].shape[1])
        steps = mb.range_1d(start=np.int32(0), end=count, step=np.int32(1))
        self._rows = mb.add(x=steps, y=inputs["position"])  # places of the tokens in the transcript
        self._cache: _Cache
        if stateful:
            self._cache = _State(inputs, self._rows, self._sizes.n_text_ctx, count)
        else:
            self._cache = _Given(inputs, steps, self._sizes.n_text_ctx, precision)

    def outputs(self) -> Mapping[str, Any]:
        checkpoint, sizes = self._checkpoint, self._sizes
        table = mb.const(val=checkpoint.tensor("decoder.embed_tokens.weight"), name="embedding")
        places = checkpoint.positions("decoder", sizes.n_text_ctx)
        x = mb.add(
            x=mb.gather(x=table, indices=self._inputs["tokens"], axis=0, validate_indices=False),
            y=mb.gather(x=places, indices=self._rows, axis=0, validate_indices=False),
        )
        seen = []
        for index in range(sizes.n_text_layer):
            x, scores = self._layer(x, index)
            if heads := [head for layer, head in checkpoint.alignment_heads if layer == index]:
                whole = heads == list(range(sizes.n_text_head))
                seen.append(scores if whole else mb.gather(x=scores, indices=heads, axis=0, validate_indices=False))
        wanted = mb.gather(x=x, indices=self._inputs["last"], axis=1, validate_indices=False)
        normed = mb.squeeze(x=self._layers.norm(wanted, "decoder.layer_norm"), axes=[0])
        own = checkpoint.output()
        return {
            "logits": mb.linear(x=normed, weight=table if own is None else own),
            "scores": mb.concat(values=seen, axis=0) if len(seen) > 1 else seen[0],
            **self._cache.outputs(),
        }

    def _layer(self, x: Any, index: int) -> tuple[Any, Any]:
        """X behind a layer, and the scores of its attention to the audio."""
        layers, name = self._layers, f"decoder.layers.{index}"
        normed, own = layers.norm(x, f"{name}.self_attn_layer_norm"), f"{name}.self_attn"
        keys, values = self._cache.extended(index, layers.keys(normed, own), layers.values(normed, own))
        scores = mb.add(x=scored(layers.queries(normed, own), keys), y=self._cache.mask)
        x = mb.add(x=x, y=layers.attend(scores, values, own))
        normed, cross = layers.norm(x, f"{name}.encoder_attn_layer_norm"), f"{name}.encoder_attn"
        scores = scored(layers.queries(normed, cross), _plain(_layer_of(self._inputs["cross_keys"], index)))
        x = mb.add(x=x, y=layers.attend(scores, _plain(_layer_of(self._inputs["cross_values"], index)), cross))
        return layers.mlp(x, name), scores


class _State:
    """Keys and values that the model itself keeps, from iOS 18 and macOS 15 on."""

    def __init__(self, inputs: Mapping[str, Any], rows: Any, room: int, count: Any) -> None:
        self._states = {name: inputs[name] for name in ("keys", "values")}
        self._begin = inputs["position"]
        self._end = mb.add(x=self._begin, y=mb.expand_dims(x=count, axes=[0]))
        places = np.arange(room, dtype=np.int32)[None]
        self.mask = _hidden(mb.less_equal(x=places, y=mb.expand_dims(x=rows, axes=[1])))
        self._now = {name: mb.read_state(input=state) for name, state in self._states.items()}

    def extended(self, layer: int, keys: Any, values: Any) -> tuple[Any, Any]:
        made = []
        for name, new in (("keys", keys), ("values", values)):
            updated = mb.slice_update(
                x=self._now[name],
                update=mb.expand_dims(x=mb.cast(x=new, dtype="fp16"), axes=[0]),
                begin=mb.concat(values=[np.array([layer, 0], np.int32), self._begin, np.zeros(1, np.int32)], axis=0),
                end=mb.concat(values=[np.array([layer + 1, 0], np.int32), self._end, np.zeros(1, np.int32)], axis=0),
                begin_mask=[False, True, False, True],
                end_mask=[False, True, False, True],
            )
            self._now[name] = mb.coreml_update_state(state=self._states[name], value=updated)
            made.append(_plain(_layer_of(self._now[name], layer)))
        return made[0], made[1]

    def outputs(self) -> dict[str, Any]:
        return {}


class _Given:
    """Keys and values that go in, those of the tokens come out: for systems before iOS 18 and macOS 15."""

    def __init__(self, inputs: Mapping[str, Any], steps: Any, room: int, precision: str) -> None:
        self._old = {name: inputs[name] for name in ("keys", "values")}
        self._new: dict[str, list[Any]] = {"new_keys": [], "new_values": []}
        self._precision = precision
        column = mb.expand_dims(x=steps, axes=[1])
        before = _hidden(mb.less(x=np.arange(room, dtype=np.int32)[None], y=inputs["position"]))
        # The same for each token: repeated along the tokens by adding zeros of their number.
        before = mb.add(x=before, y=mb.mul(x=mb.cast(x=column, dtype="fp32"), y=np.float32(0)))
        among = _hidden(mb.less_equal(x=mb.expand_dims(x=steps, axes=[0]), y=column))
        self.mask = mb.concat(values=[before, among], axis=1)

    def extended(self, layer: int, keys: Any, values: Any) -> tuple[Any, Any]:
        self._new["new_keys"].append(keys)
        self._new["new_values"].append(values)
        old = (_plain(_layer_of(self._old[name], layer)) for name in ("keys", "values"))
        joined = [mb.concat(values=[one, new], axis=1) for one, new in zip(old, (keys, values), strict=True)]
        return joined[0], joined[1]

    def outputs(self) -> dict[str, Any]:
        return {
            name: as_cache(
                mb.stack(values=made, axis=0) if len(made) > 1 else mb.expand_dims(x=made[0], axes=[0]), self._precision
            )
            for name, made in self._new.items()
        }


def _hidden(attends: Any) -> Any:
    """What is added to scores where a condition does not hold."""
    return mb.mul(x=mb.sub(x=np.float32(1), y=mb.cast(x=attends, dtype="fp32")), y=np.float32(HIDDEN))


def _layer_of(x: Any, layer: int) -> Any:
    """One layer's part [heads, m, w] of keys or values of all."""
    return mb.slice_by_index(
        x=x,
        begin=[layer, 0, 0, 0],
        end=[layer + 1, 0, 0, 0],
        begin_mask=[False, True, True, True],
        end_mask=[False, True, True, True],
        squeeze_mask=[True, False, False, False],
    )


def _plain(x: Any) -> Any:
    """Keys or values as the program computes with them; the precision is decided on for the whole of it later."""
    return mb.cast(x=x, dtype="fp32")
