"""Whisper's network in the two packages that ``export/`` writes."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_coreml._session import Memory, Session
from llama_pajamas_run_coreml.description import (
    DECODER,
    ENCODER,
    WhisperDecoderDescription,
    WhisperEncoderDescription,
    from_metadata,
)
from llama_pajamas_run_coreml.files import find_package

_CROSS: Final = ("cross_keys", "cross_values")

Arrays = dict[str, npt.NDArray[Any]]


class Transcript:
    """What the decoder has read: its tokens' number, and the cache, which is Core ML's own or held here."""

    def __init__(self, audio: Arrays, cache: Arrays, memory: Memory | None) -> None:
        self.audio, self.cache, self.memory = audio, cache, memory
        self.past = 0


class CoreMLWhisper:
    """A loaded :class:`~llama_pajamas_run_core.whisper.model.WhisperModel`, one window at a time.

    Args:
        path: the folder of the two packages.
        options: as in :class:`~llama_pajamas_run_coreml._session.Session`.

    Raises:
        BadInput: a package is missing.
        LoadError: the packages are damaged, or do not belong together.
    """

    windows: Final = 1
    flexible: Final = False

    def __init__(self, path: Path, **options: Any) -> None:
        encoder, decoder = (find_package(path, name) for name in (ENCODER, DECODER))
        self._encoder = Session(encoder, **options)
        try:
            self._decoder = Session(decoder, **options)
        except BaseException:
            self._encoder.close()
            raise
        try:
            self._about = _agreed(self._encoder, self._decoder)
        except BaseException:
            self.close()
            raise
        self.sizes = self._about.sizes

    @property
    def details(self) -> dict[str, Any]:
        """Facts for people; JSON values only."""
        origin = self._about.origin
        return {
            **self._decoder.details,
            "compile_seconds": round(self._encoder.prepared + self._decoder.prepared, 2),
            "preparing_neural_engine": self._encoder.preparing or self._decoder.preparing,
            "precision": origin.precision,
            "compression": origin.compression,
            "stateful": self._about.stateful,
        }

    def encode(self, mel: npt.NDArray[np.float32]) -> Arrays:
        """Encode a spectrogram [1, n_mels, frames]."""
        made = self._encoder.predict({"mel": mel})
        return {name: made[name].astype(np.float32) for name in _CROSS}  # once, not in every step

    def start(self, audio: Arrays) -> Transcript:
        """An empty transcript."""
        if self._about.stateful:
            return Transcript(audio, {}, self._decoder.make_memory())
        sizes = self.sizes
        shape = (sizes.n_text_layer, sizes.n_text_head, sizes.n_text_ctx, sizes.n_text_state // sizes.n_text_head)
        return Transcript(audio, {name: np.zeros(shape, np.float32) for name in ("keys", "values")}, None)

    def step(self, transcript: Transcript, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Take up tokens [1, k]; the logits [1, n_vocab] behind the last of them."""
        logits, _ = self._read(transcript, tokens)
        return logits

    def align(self, audio: Arrays, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """How much each token attends to the audio, [1, heads, k, positions]."""
        _, scores = self._read(self.start(audio), tokens)
        return scores[None]

    def close(self) -> None:
        """Let go of both packages."""
        self._encoder.close()
        self._decoder.close()

    def _read(
        self, transcript: Transcript, tokens: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Take up tokens in as few predictions as there may be.

        Returns:
            the logits [1, n_vocab] behind the last, and the scores [heads, k, positions] of all.
        """
        logits, scores, done = np.zeros((1, self.sizes.n_vocab), np.float32), [], 0
        while done < tokens.shape[1]:
            left = tokens[:, done:]
            takes = self._takes(left.shape[1], self.sizes.n_text_ctx - transcript.past)
            count = min(takes, left.shape[1])
            made = self._predict(transcript, np.pad(left[:, :count], ((0, 0), (0, takes - count))), count)
            logits = made["logits"].astype(np.float32, copy=False)
            scores.append(made["scores"][:, :count].astype(np.float32, copy=False))
            transcript.past += count
            done += count
        return logits, np.concatenate(scores, axis=1)

    def _takes(self, wanted: int, room: int) -> int:
        """How many tokens the next prediction takes: what is left in one go, filled up; else the most that fit."""
        fitting = [count for count in self._about.counts if count <= room]
        return next((count for count in fitting if count >= wanted), fitting[-1])

    def _predict(self, transcript: Transcript, tokens: npt.NDArray[np.int32], count: int) -> Arrays:
        feeds = {
            "tokens": tokens,
            "position": np.array([transcript.past], np.int32),
            "last": np.array([count - 1], np.int32),
        }
        feeds |= transcript.audio | transcript.cache
        made = self._decoder.predict(feeds, transcript.memory)
        for name, cache in transcript.cache.items():
            cache[:, :, transcript.past : transcript.past + count] = made[f"new_{name}"][:, :, :count]
        return made


def _agreed(encoder: Session, decoder: Session) -> WhisperDecoderDescription:
    """What the decoder says, where it belongs to the encoder."""
    first = from_metadata(encoder.metadata, str(encoder.path))
    second = from_metadata(decoder.metadata, str(decoder.path))
    for session, found, wanted in (
        (encoder, first, WhisperEncoderDescription), (decoder, second, WhisperDecoderDescription)
    ):  # fmt: skip
        if not isinstance(found, wanted):
            raise LoadError(f"{session.path} is a {found.kind}, not a {wanted.kind}.", hint="Export the model again.")
    assert isinstance(first, WhisperEncoderDescription)
    assert isinstance(second, WhisperDecoderDescription)
    if first.sizes != second.sizes or first.origin.sha256 != second.origin.sha256:
        raise LoadError(
            f"{encoder.path} and {decoder.path.name} are of different models.", hint="Export the model again."
        )
    return second
