"""Measures a PyTorch model of this recipe on held-out scenes, the way the shipped models are measured."""

from typing import Any

import numpy as np
import torch
from llama_pajamas_starter.vision import evaluate
from llama_pajamas_starter.vision.reference import (
    center_crop,
    decode_yolov8,
    letterbox,
    stretch,
)
from networks import Detector, Embedder
from torch import nn
from words import make_tokenizer


def check(name: str, model: nn.Module, count: int) -> dict[str, Any]:
    """Figures of the network called ``name`` on ``count`` held-out scenes."""
    model.eval()

    def run(network: nn.Module, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            return network(torch.from_numpy(pixels)[None])[0].numpy()

    if name == "detect":
        assert isinstance(model, Detector)

        def detect(image: np.ndarray[Any, Any]) -> evaluate.Found:
            pixels, scale, offset = letterbox(image, model.size)
            return decode_yolov8(
                run(model, pixels), scale, offset, image.shape[1], image.shape[0]
            )

        return evaluate.detector(detect, count)
    if name == "classify":
        return evaluate.classifier(
            lambda image: int(run(model, center_crop(image, 96)).argmax()), count
        )
    assert isinstance(model, Embedder)
    tokenizer = make_tokenizer()
    return evaluate.embedder(
        lambda image: run(model.image, stretch(image, 96)),
        lambda text: run(model.text, np.array(tokenizer.encode(text).ids)),
    )
