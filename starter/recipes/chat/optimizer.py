"""Muon for the matrices and AdamW for the rest.

Source: Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). The same matrix of all
layers is orthogonalised as one batch, which costs few kernel launches.
"""

import torch
from torch import Tensor, nn


def orthogonalise(g: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrices of a batch (n, rows, columns), by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon:
    """Momentum, orthogonalised, for the layers' matrices.

    Args:
        layers: the decoder's layers; every parameter of two dimensions in them is updated.
        momentum: of the running gradient (Nesterov).
        decay: weight decay relative to the learning rate.
    """

    def __init__(self, layers: nn.ModuleList, momentum: float = 0.95, decay: float = 0.01) -> None:
        names = [name for name, p in layers[0].named_parameters() if p.ndim == 2]
        tables = [dict(layer.named_parameters()) for layer in layers]
        self.groups = [[table[name] for table in tables] for name in names]
        self.buffers = [torch.zeros(len(g), *g[0].shape, device=g[0].device) for g in self.groups]
        self.momentum, self.decay = momentum, decay

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update with the learning rate ``rate``."""
        for group, buffer in zip(self.groups, self.buffers, strict=True):
            gradient = torch.stack([p.grad for p in group])
            buffer.lerp_(gradient, 1 - self.momentum)
            update = orthogonalise(gradient.lerp(buffer, self.momentum)).float()
            scale = rate * max(1.0, group[0].shape[0] / group[0].shape[1]) ** 0.5
            torch._foreach_mul_(group, 1 - rate * self.decay)
            torch._foreach_add_(group, list(update.unbind()), alpha=-scale)
