"""``/v1/embeddings``, and the vectors of ``/v1/images/embed``."""

import base64
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from llama_pajamas_run_core.dsp.heads import unit_vectors
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.server.schemas.base import Int, Wire, one_by_one

TokenIds = Annotated[list[Annotated[Int, Field(ge=0)]], Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]
Encoding = Literal["float", "base64"]


class EmbeddingRequest(Wire):
    """Texts to be mapped to vectors."""

    model: str
    input: (
        Text
        | TokenIds
        | Annotated[list[Text], Field(min_length=1, max_length=2048)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=2048)]
    )
    encoding_format: Encoding | None = None
    dimensions: Annotated[Int, Field(ge=1)] | None = None

    def to_core(self) -> list[str | tuple[int, ...]]:
        """The inputs, one by one."""
        return one_by_one(self.input)


def cut(vectors: npt.NDArray[np.float32], dimensions: int | None) -> npt.NDArray[np.float32]:
    """Vectors [n, d] cut to their first dimensions and brought back to length 1.

    Raises:
        BadInput: the model's vectors have fewer.
    """
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    if dimensions > vectors.shape[1]:
        raise BadInput(f"This model's embeddings have {vectors.shape[1]} dimensions.", param="dimensions")
    return unit_vectors(vectors[:, :dimensions])


def reply(
    vectors: npt.NDArray[np.float32], *, model: str, encoding: Encoding | None, tokens: int, **more: Any
) -> dict[str, Any]:
    """Vectors on the wire: lists of numbers, or base64 of little-endian float32."""
    exact = np.nan_to_num(vectors.astype("<f4"))

    def encoded(row: npt.NDArray[np.float32]) -> list[float] | str:
        return base64.b64encode(row.tobytes()).decode() if encoding == "base64" else row.tolist()

    data = [{"object": "embedding", "index": index, "embedding": encoded(row)} for index, row in enumerate(exact)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage, **more}
