"""The training rows, kept on the device."""

import queue

import numpy as np
import torch
from packing import Rows
from torch import Tensor


class Pool:
    """Packed rows on the device: new ones are taken once as they come, then all are drawn from at random."""

    def __init__(self, capacity: int, length: int, device: str, source: "queue.Queue[Rows]") -> None:
        self.tokens = torch.zeros(capacity, length, dtype=torch.int16, device=device)
        self.document = torch.zeros(capacity, length, dtype=torch.uint8, device=device)
        self.learnt = torch.zeros(capacity, length, dtype=torch.bool, device=device)
        self.source, self.capacity, self.device = source, capacity, device
        self.made = self.used = 0

    def take(self, *, wait: bool = False) -> None:
        """Moves what the workers have made onto the device."""
        while True:
            try:
                rows = self.source.get(timeout=300) if wait else self.source.get_nowait()
            except queue.Empty:
                return
            wait = False
            count = len(rows.tokens)
            index = (torch.arange(count, device=self.device) + self.made) % self.capacity
            for target, values in (
                (self.tokens, rows.tokens),
                (self.document, rows.document),
                (self.learnt, rows.learnt),
            ):
                target[index] = torch.from_numpy(values).to(self.device, non_blocking=True)
            self.made += count

    def batch(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """(tokens, document numbers, learnt), each (count, length)."""
        fresh = min(count, self.made - self.used)
        indices = [(self.used + i) % self.capacity for i in range(fresh)]
        self.used += fresh
        indices += rng.integers(0, min(self.made, self.capacity), count - fresh).tolist()
        index = torch.tensor(indices, device=self.device)
        return self.tokens[index].long(), self.document[index], self.learnt[index]
