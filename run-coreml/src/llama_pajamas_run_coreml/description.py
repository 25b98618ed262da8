"""What a package says about itself: frozen dataclasses, written to and read from its user-defined metadata.

Core ML's metadata maps strings to strings. Every key here starts with "llama_pajamas."; a string stands as it is, all
else as JSON, so that an app reads it in Swift as easily as this package does in Python.

A model is one package, or a folder of packages:

- vision: ``NAME.mlpackage``; with a text encoder a folder with ``image.mlpackage``, ``text.mlpackage`` and
  ``tokenizer.json``.
- Whisper: a folder with ``encoder.mlpackage`` and ``decoder.mlpackage``.

Each package may stand there compiled (``.mlmodelc``) as well.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Literal, get_origin

from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_core.types.vision import VisionSpec
from llama_pajamas_run_core.whisper.sizes import Dimensions

#: What every key starts with.
PREFIX: Final = "llama_pajamas."

#: The packages' names in a folder, without the suffix.
IMAGE, TEXT, ENCODER, DECODER = "image", "text", "encoder", "decoder"
#: The tokenizer's name beside a text encoder.
TOKENIZER: Final = "tokenizer.json"

Precision = Literal["float16", "float32"]
#: Deployment targets, by the names that are used on the command line.
Target = Literal["ios17", "ios18", "macos14", "macos15"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a package comes from.

    Attributes:
        source: the file or folder's name that it was made from.
        sha256: of the source's weights and graph, in hexadecimal.
        version: of llama-pajamas-run-coreml that made it.
        target: the oldest system that runs it.
        precision: what it computes in.
        compression: of its weights ("none", "int8", "palette4", ...).
    """

    source: str
    sha256: str
    version: str
    target: Target
    precision: Precision
    compression: str


@dataclass(frozen=True, slots=True)
class VisionDescription:
    """A model that looks at images.

    Attributes:
        origin: where it comes from.
        spec: what the abstract backend needs. Where ``image_input`` holds, mean and std are inside the package.
        input: the name of the input: float32 [n, 3, height, width], normalized as ``spec`` says; or, where
            ``image_input`` holds, an RGB image of the spec's size.
        outputs: the names of the outputs that the head reads, in the order in which it reads them.
        image_input: whether the input is an image, which the package itself scales and normalizes.
        batches: the numbers of images that one prediction takes, rising.
    """

    kind: ClassVar[str] = "vision"

    origin: Origin
    spec: VisionSpec
    input: str
    outputs: tuple[str, ...]
    image_input: bool = False
    batches: tuple[int, ...] = (1,)


@dataclass(frozen=True, slots=True)
class TextDescription:
    """A text encoder beside an image encoder.

    Attributes:
        origin: where it comes from.
        input: the name of the input of token ids: int32 [n, length].
        mask: the name of the input that is 1 where there is a token and 0 where there is padding, int32 [n, length];
            None where the package has none.
        output: the name of the output, [n, d].
        length: tokens in each row: shorter texts are padded to it, longer ones are refused.
        pad_id: the token that pads.
        batches: the numbers of texts that one prediction takes, rising.
        vocabulary: how many tokens there are.
    """

    kind: ClassVar[str] = "text-encoder"

    origin: Origin
    input: str
    mask: str | None
    output: str
    length: int
    pad_id: int
    batches: tuple[int, ...] = (1,)
    vocabulary: int = 1


@dataclass(frozen=True, slots=True)
class WhisperEncoderDescription:
    """Whisper's encoder, which also makes the keys and values of the decoder's attention to the audio.

    Input ``mel``: float32 [1, n_mels, 2 * n_audio_ctx], which is 30 seconds. Outputs ``cross_keys`` and
    ``cross_values``: [n_text_layer, n_text_head, n_audio_ctx, width / heads], in the package's own precision.

    Attributes:
        origin: where it comes from.
        sizes: of the whole model.
    """

    kind: ClassVar[str] = "whisper-encoder"

    origin: Origin
    sizes: Dimensions


@dataclass(frozen=True, slots=True)
class WhisperDecoderDescription:
    """Whisper's decoder with a cache of fixed length.

    Inputs: ``tokens`` int32 [1, n]; ``position`` int32 [1], the number of tokens before the first of these; ``last``
    int32 [1], which of them the logits are wanted of; ``cross_keys`` and ``cross_values`` as the encoder gives them.

    A stateful one keeps its own keys and values in the states ``keys`` and ``values``; any other has them as inputs
    ``keys`` and ``values`` [n_text_layer, n_text_head, n_text_ctx, width / heads], of which what lies before
    ``position`` is read, and gives those of the tokens as outputs ``new_keys`` and ``new_values`` [n_text_layer,
    n_text_head, n, width / heads], to be written behind it.

    Outputs: ``logits`` [1, n_vocab], and ``scores`` [alignment heads, n, n_audio_ctx], how much each token attends
    to each position of the audio, before the softmax. The caches are in the package's own precision, states always in
    float16; logits and scores are float32.

    Tokens that fill up to the next number of ``counts`` may be anything: what they leave in the cache lies behind the
    position of the next step, which overwrites it. ``position`` and n together are never more than n_text_ctx, the
    filling included.

    Attributes:
        origin: where it comes from.
        sizes: of the whole model.
        alignment_heads: (layer, head) pairs whose scores are given.
        stateful: whether the cache is a state.
        counts: the numbers of tokens that a step takes, rising; the first is 1.
    """

    kind: ClassVar[str] = "whisper-decoder"

    origin: Origin
    sizes: Dimensions
    alignment_heads: tuple[tuple[int, int], ...]
    stateful: bool
    counts: tuple[int, ...]


Description = VisionDescription | TextDescription | WhisperEncoderDescription | WhisperDecoderDescription

_KINDS: Final[Mapping[str, type[Any]]] = {
    known.kind: known
    for known in (VisionDescription, TextDescription, WhisperEncoderDescription, WhisperDecoderDescription)
}
#: Facts that are dataclasses themselves: their own facts follow a dot ("llama_pajamas.spec.width").
_INNER: Final[Mapping[str, type[Any]]] = {"origin": Origin, "spec": VisionSpec, "sizes": Dimensions}


def to_metadata(description: Description) -> dict[str, str]:
    """A description as the strings that a package holds."""
    return {f"{PREFIX}kind": description.kind, **_written(PREFIX, description)}


def from_metadata(metadata: Mapping[str, str], name: str) -> Description:
    """Read a package's description.

    Args:
        metadata: its user-defined metadata.
        name: the package, for messages.

    Raises:
        LoadError: it was not made by this package, or its description is damaged or of a newer version.
    """
    kind = metadata.get(f"{PREFIX}kind")
    if kind is None:
        raise LoadError(
            f"{name} does not say what it is.", hint="Make it with `llama-pajamas export coreml`, which describes it."
        )
    if kind not in _KINDS:
        raise LoadError(f"{name} is a {kind}, which this version does not know.", hint="Update llama-pajamas.")
    try:
        description: Description = _read(PREFIX, _KINDS[kind], metadata)
    except (KeyError, TypeError, ValueError) as error:
        raise LoadError(f"The description in {name} is damaged: {error!r}.", hint="Export it again.") from error
    return description


def _written(prefix: str, value: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for field in fields(value):
        fact = getattr(value, field.name)
        if field.name in _INNER:
            found |= _written(f"{prefix}{field.name}.", fact)
        elif _is_text(field.type):
            found[prefix + field.name] = fact
        else:
            plain = sorted(fact) if isinstance(fact, frozenset) else fact
            found[prefix + field.name] = json.dumps(plain, ensure_ascii=False)
    return found


def _read(prefix: str, kind: type[Any], metadata: Mapping[str, str]) -> Any:
    facts: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in _INNER:
            facts[field.name] = _read(f"{prefix}{field.name}.", _INNER[field.name], metadata)
        elif (text := metadata.get(prefix + field.name)) is not None:
            facts[field.name] = text if _is_text(field.type) else _value(json.loads(text), str(field.type))
    try:
        return kind(**facts)
    except TypeError as error:  # a fact without a default is missing
        raise KeyError(str(error)) from error


def _is_text(declared: Any) -> bool:
    return declared is str or get_origin(declared) is Literal


def _value(value: Any, declared: str) -> Any:
    if isinstance(value, list):
        whole = tuple(tuple(one) if isinstance(one, list) else one for one in value)
        return frozenset(whole) if declared.startswith("frozenset") else whole
    return value
