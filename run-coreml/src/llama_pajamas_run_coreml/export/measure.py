"""What an export changed: packages are run here, by the reference evaluator, beside the same model in float32."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.dsp.fit import fit
from llama_pajamas_run_core.types.vision import Image
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_run_core.whisper.vocabulary import Vocabulary
from llama_pajamas_run_coreml.description import TextDescription, VisionDescription, WhisperDecoderDescription
from llama_pajamas_run_coreml.evaluate.evaluator import Evaluator, State
from llama_pajamas_run_coreml.export.report import Change
from llama_pajamas_run_coreml.samples import rows_of_tokens, spectrogram
from llama_pajamas_run_coreml.verify.findings import cosine
from llama_pajamas_run_coreml.vision import to_pixels

Array = npt.NDArray[Any]

#: Places of a detector that are compared in each picture: those where it is surest.
_PLACES: Final = 100
#: Rows of tokens that a text encoder is asked for.
_ROWS: Final = 8
#: Tokens that a speech model is asked for.
_TOKENS: Final = 16


def measure_images(reference: Path, package: Path, about: VisionDescription, shown: Sequence[Image]) -> Change:
    """Compare a package that looks at images with its reference.

    Args:
        reference: the same model in float32, not compressed.
        package: the package.
        about: its description.
        shown: pictures, at least one.
    """
    before, after = Evaluator(reference), Evaluator(package)
    agreed: list[Array] = []
    cosines: list[float] = []
    for picture in shown:
        feed = {about.input: _fed(picture, about)}
        first, second = before.predict(feed), after.predict(feed)
        left, right = (one[about.outputs[0]][0].astype(np.float32) for one in (first, second))
        cosines.append(cosine(left, right))
        agreed.append(_agreement(about, left, right))
    what = "pictures" if about.spec.head not in ("yolov8", "yolov8-seg") else "places"
    together = np.concatenate(agreed)
    return Change(
        len(together) or len(cosines), float(together.mean()) if len(together) else None, float(np.mean(cosines)), what
    )


def _fed(picture: Image, about: VisionDescription) -> Array:
    pixels = fit(picture, about.spec)[0]
    if not about.image_input:
        return np.repeat(pixels[None], about.batches[0], axis=0)
    return to_pixels(pixels, about.spec)


def _agreement(about: VisionDescription, left: Array, right: Array) -> Array:
    """For each answer in a picture whether it is the same; empty for a vector."""
    if about.spec.head in ("logits", "probabilities"):
        return np.array([left.argmax() == right.argmax()])
    classes = len(about.spec.labels)
    if about.spec.head in ("yolov8", "yolov8-seg") and classes:
        left, right = (one if len(one) < len(one.T) else one.T for one in (left, right))
        left, right = left[4 : 4 + classes], right[4 : 4 + classes]
        surest = np.argsort(-left.max(0), kind="stable")[:_PLACES]
        same: Array = left[:, surest].argmax(0) == right[:, surest].argmax(0)
        return same
    return np.zeros(0, bool)


def measure_texts(reference: Path, package: Path, about: TextDescription) -> Change:
    """Compare a text encoder with its reference, on rows of tokens drawn at random.

    Args:
        reference: the same model in float32, not compressed.
        package: the package.
        about: its description.
    """
    before, after = Evaluator(reference), Evaluator(package)
    cosines = []
    for feed in rows_of_tokens(about, _ROWS):
        left, right = (one.predict(feed)[about.output][0] for one in (before, after))
        cosines.append(cosine(left, right))
    return Change(len(cosines), None, float(np.mean(cosines)), "texts")


def measure_speech(
    references: tuple[Path, Path], packages: tuple[Path, Path], about: WhisperDecoderDescription
) -> tuple[Change, Change]:
    """Compare a Whisper model with its reference: its encoder's answers, and the tokens that the decoder finds
    likeliest, behind those of the reference.

    Args:
        references: encoder and decoder in float32, not compressed.
        packages: encoder and decoder.
        about: the decoder's description.

    Returns:
        the changes of the encoder and of both together.
    """
    mel = spectrogram(about.sizes)[None]
    heard = [Evaluator(one).predict({"mel": mel}) for one in (references[0], packages[0])]
    cosines = [cosine(heard[0][name], heard[1][name]) for name in heard[0]]
    first, second = (_Reader(Evaluator(path), about, audio) for path, audio in zip(
        (references[1], packages[1]), heard, strict=True))  # fmt: skip
    vocabulary = Vocabulary.of(about.sizes.n_vocab)
    opening = vocabulary.opening("en", translate=False)
    same, near = [], []
    token = opening[0]
    for place in range(min(_TOKENS, about.sizes.n_text_ctx)):
        left, right = first.read(token), second.read(token)
        same.append(left.argmax() == right.argmax())
        near.append(cosine(left, right))
        token = opening[place + 1] if place + 1 < len(opening) else int(left.argmax())
    encoder = Change(len(cosines), None, float(np.mean(cosines)), "outputs")
    return encoder, Change(len(same), float(np.mean(same)), float(np.mean(near)), "tokens")


class _Reader:
    """A decoder that takes up token after token."""

    def __init__(self, evaluator: Evaluator, about: WhisperDecoderDescription, audio: Mapping[str, Array]) -> None:
        self._evaluator, self._about, self._audio, self._past = evaluator, about, audio, 0
        self._state: State | None = evaluator.make_state() if about.stateful else None
        self._cache = {} if about.stateful else {name: np.zeros(_room(about.sizes)) for name in ("keys", "values")}

    def read(self, token: int) -> Array:
        """The logits behind a token."""
        feeds = {
            "tokens": np.array([[token]], np.int32),
            "position": np.array([self._past], np.int32),
            "last": np.zeros(1, np.int32),
            **self._audio,
            **self._cache,
        }
        made = self._evaluator.predict(feeds, self._state)
        for name, cache in self._cache.items():
            cache[:, :, self._past] = made[f"new_{name}"][:, :, 0]
        self._past += 1
        logits: Array = made["logits"][0]
        return logits


def _room(sizes: Dimensions) -> tuple[int, int, int, int]:
    return sizes.n_text_layer, sizes.n_text_head, sizes.n_text_ctx, sizes.n_text_state // sizes.n_text_head
