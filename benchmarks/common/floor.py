"""The least that a decode step costs: reading the weights and the keys and values of all streams once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import gguf


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a decode step reads from memory.

    Attributes:
        weights: bytes of the weights; of the embedding table a step reads one row for each stream, which is nothing.
        cell: bytes of keys and values of one token in F16.
    """

    weights: int
    cell: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read off a GGUF file."""
        reader = gguf.GGUFReader(path)
        sizes = {tensor.name: int(tensor.n_bytes) for tensor in reader.tensors}
        table = sizes.pop("token_embd.weight")
        if "output.weight" not in sizes:  # the table is the output's matrix as well
            sizes["output.weight"] = table
        architecture = reader.fields["general.architecture"].contents()

        def number(name: str) -> int:
            return int(reader.fields[f"{architecture}.{name}"].contents())

        lengths = number("attention.key_length") + number("attention.value_length")
        cell = 2 * number("block_count") * number("attention.head_count_kv") * lengths
        return cls(sum(sizes.values()), cell)

    def ceiling(self, streams: int, tokens: float, bandwidth: float) -> float:
        """Tokens per second that the memory allows.

        Args:
            streams: decoded side by side.
            tokens: in the cache of each, on average.
            bandwidth: bytes per second.
        """
        return streams * bandwidth / (self.weights + streams * tokens * self.cell)
