"""The reference's greedy tokens on held-out prompts, recorded once.

PyTorch is in nobody's environment; what it answers was written down by ``starter/recipes/chat/reference_tokens.py``.
"""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import LoadError

#: The record that ships with this package.
SHIPPED: Final = Path(__file__).with_name("chat_reference.npz")
#: Where the record is made anew.
RECIPE: Final = "starter/recipes/chat/reference_tokens.py"


@dataclass(frozen=True, slots=True)
class Answer:
    """A prompt and the reference's answer to it.

    Attributes:
        prompt: token ids, the rendered conversation.
        tokens: token ids of the greedy answer, the end token included unless it was cut off at the limit.
        margins: float32 [len(tokens)], the lead of each token's logit over the runner-up's.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    margins: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Reference:
    """The recorded answers.

    Attributes:
        answers: in such an order that the first n of them are a fair selection, whatever n is.
        max_tokens: where answers were cut off.
        end: the token that ends an answer.
        weights: sha256 of the checkpoint's weights, in hexadecimal.
        made_with: what computed them, for people.
    """

    answers: tuple[Answer, ...]
    max_tokens: int
    end: int
    weights: str
    made_with: str

    def save(self, path: Path) -> None:
        """Write the record as a NumPy archive."""
        about = {"max_tokens": self.max_tokens, "end": self.end, "weights": self.weights, "made_with": self.made_with}
        prompts, answers = ([getattr(one, name) for one in self.answers] for name in ("prompt", "tokens"))
        np.savez_compressed(
            path,
            about=np.frombuffer(json.dumps(about).encode(), np.uint8),
            prompts=_joined(prompts),
            prompt_lengths=_lengths(prompts),
            answers=_joined(answers),
            answer_lengths=_lengths(answers),
            margins=np.concatenate([one.margins for one in self.answers]).astype(np.float16),
        )

    @classmethod
    def load(cls, path: Path = SHIPPED) -> "Reference":
        """Read a record.

        Raises:
            LoadError: it is missing or damaged.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
                arrays = {name: held[name] for name in held.files}
            about: dict[str, Any] = json.loads(arrays["about"].tobytes())
            prompts = _parts(arrays["prompts"], arrays["prompt_lengths"])
            answers = _parts(arrays["answers"], arrays["answer_lengths"])
            margins = _parts(arrays["margins"].astype(np.float32), arrays["answer_lengths"])
            return cls(
                tuple(
                    Answer(tuple(prompt.tolist()), tuple(answer.tolist()), lead)
                    for prompt, answer, lead in zip(prompts, answers, margins, strict=True)
                ),
                int(about["max_tokens"]), int(about["end"]), about["weights"], about["made_with"],
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise LoadError(
                f"{path} is no record of the reference: {error}.", hint=f"Make it with {RECIPE}."
            ) from error

    def check(self, weights: Path) -> None:
        """See that the record is of these weights.

        Raises:
            LoadError: they are others.
        """
        if hash_of(weights) != self.weights:
            raise LoadError(
                f"The reference's answers were recorded with other weights than {weights}.",
                hint=f"Record them again with {RECIPE}.",
            )


def hash_of(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _lengths(rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int32]:
    return np.array([len(row) for row in rows], np.int32)


def _joined(rows: Sequence[Sequence[int]]) -> npt.NDArray[np.uint16]:
    return np.concatenate([np.array(row, np.uint16) for row in rows])


def _parts(joined: npt.NDArray[Any], lengths: npt.NDArray[np.int32]) -> list[npt.NDArray[Any]]:
    if lengths.sum() != len(joined):
        raise ValueError("its lengths do not add up")
    return np.split(joined, np.cumsum(lengths)[:-1])
