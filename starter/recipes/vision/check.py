"""Measures a PyTorch network of this recipe on held-out scenes, the way the shipped models are measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import Embedder
from numpy.typing import NDArray
from torch import Tensor, nn
from words import make_tokenizer

from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.types.vision import VisionSpec
from llama_pajamas_starter.vision import evaluate
from llama_pajamas_starter.vocabulary import OBJECTS

_HALF = (0.5, 0.5, 0.5)
SPECS = {
    "detect": VisionSpec(frozenset({"detect"}), 320, 320, "letterbox", labels=OBJECTS, head="yolov8"),
    "classify": VisionSpec(frozenset({"classify"}), 96, 96, "crop", _HALF, _HALF, OBJECTS, "logits"),
    "embed": VisionSpec(frozenset({"embed", "embed_text"}), 96, 96, "stretch", _HALF, _HALF, head="embedding"),
}


class NetworkBackend(VisionBackend):
    """A network in PyTorch: ``NetworkBackend("detect", network=...)``."""

    runtime = "torch"

    def _load(self, path: Path, **options: Any) -> None:
        self._spec, self._network = SPECS[path.name], options["network"].eval()
        self._tokenizer = make_tokenizer()

    def _unload(self) -> None:
        del self._network

    @property
    def spec(self) -> VisionSpec:
        return self._spec

    def _infer(self, batch: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
        network = self._network.image if isinstance(self._network, Embedder) else self._network
        return [_run(network, torch.from_numpy(batch))]

    def _encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        return _run(self._network.text, torch.tensor(ids))


def _run(network: nn.Module, values: Tensor) -> NDArray[np.float32]:
    device = next(network.parameters()).device
    with torch.inference_mode():
        result: NDArray[np.float32] = network(values.to(device)).float().cpu().numpy()
    return result


def check(name: str, network: nn.Module, count: int) -> dict[str, float]:
    """Figures of the network called ``name``; ``count`` is the number of held-out scenes or images."""
    with NetworkBackend(name, network=network) as backend:
        if name == "detect":
            return evaluate.detector(backend, count)
        if name == "classify":
            return evaluate.classifier(backend, count)
        return evaluate.embedder(backend, groups=max(1, count // 100))
