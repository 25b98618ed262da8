"""Scenes drawn ahead by worker processes, and the growing pools from which batches are taken."""

import multiprocessing
import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from words import caption_variants

from llama_pajamas_starter.vision.captions import Content, captioned
from llama_pajamas_starter.vision.scenes import TRAIN_SEEDS, scene, single_object

DETECT, CLASSIFY, EMBED = range(3)
MOST_BOXES = 8
VARIANTS = 6
Batch = dict[str, NDArray[Any]]


def _facts(content: Content) -> list[int]:
    relation = {None: 0, "left of": 1, "above": 2}[content.relation]
    other = (-2, -2) if content.other_label is None else (content.other_label, content.other_colour)
    return [content.count, content.label, content.colour, relation, *other]


def draw_detect(seeds: Iterator[int], count: int, size: int) -> Batch:
    """``count`` scenes, letterboxed on gray in the middle of size x size."""
    images = np.full((count, size, size, 3), 114, dtype=np.uint8)
    boxes = np.zeros((count, MOST_BOXES, 4), dtype=np.float32)
    labels = np.full((count, MOST_BOXES), -1, dtype=np.int64)
    for row in range(count):
        seed = next(seeds)
        rng = np.random.default_rng([9, seed])
        short = int(size * rng.choice([1.0, 1.0, 0.75, rng.uniform(0.55, 1)]))
        width, height = (size, short) if rng.random() < 0.65 else (short, size)
        drawn = scene(seed, width, height)
        left, top, found = (size - width) // 2, (size - height) // 2, len(drawn.labels)
        images[row, top : top + height, left : left + width] = drawn.image
        boxes[row, :found] = drawn.boxes + np.array([left, top, left, top], dtype=np.float32)
        labels[row, :found] = drawn.labels
    return {"image": images, "boxes": boxes, "labels": labels}


def draw_classify(seeds: Iterator[int], count: int, size: int) -> Batch:
    """``count`` images of one object."""
    drawn = [single_object(next(seeds), size) for _ in range(count)]
    return {"image": np.stack([one.image for one in drawn]), "labels": np.array([one.labels[0] for one in drawn])}


def draw_embed(seeds: Iterator[int], count: int, size: int) -> Batch:
    """``count`` captioned images: what they show, and several captions with what each of those tells."""
    images, content, ids, told = [], [], [], []
    for _ in range(count):
        seed = next(seeds)
        drawn, shown = captioned(seed, size=size)
        variants = caption_variants(np.random.default_rng([8, seed]), shown, VARIANTS)
        images.append(drawn.image)
        content.append(_facts(shown))
        ids.append([tokens for tokens, _ in variants])
        told.append(
            [[fact if keep else -1 for fact, keep in zip(_facts(shown), mask, strict=True)] for _, mask in variants]
        )
    return {"image": np.stack(images), "content": np.array(content), "ids": np.array(ids), "told": np.array(told)}


DRAW = (draw_detect, draw_classify, draw_embed)
SIZE = (320, 96, 96)
CHUNK = (48, 256, 256)


def _work(wanted: Any, output: Any, start: int, step: int) -> None:
    torch.set_num_threads(1)
    seeds = iter(range(TRAIN_SEEDS.start + start, TRAIN_SEEDS.stop, step))
    while True:
        task = wanted.value
        output.put((task, DRAW[task](seeds, CHUNK[task], SIZE[task])))


class Drawers:
    """Worker processes that draw what is wanted until the program ends.

    Args:
        count: how many processes.
        first_seed: where in the training seeds to begin: another round of training sees other scenes.
    """

    def __init__(self, count: int, first_seed: int) -> None:
        context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else None)
        self._wanted = context.Value("i", DETECT)
        self._output = context.Queue(maxsize=4 * count)
        for number in range(count):
            arguments = (self._wanted, self._output, first_seed + number, count)
            context.Process(target=_work, args=arguments, daemon=True).start()

    def want(self, task: int) -> None:
        """Says what to draw from now on."""
        self._wanted.value = task

    def take(self, wait: bool = False) -> tuple[int, Batch] | None:
        """A drawn chunk and its task, or None if none is ready."""
        try:
            return self._output.get(timeout=120) if wait else self._output.get_nowait()
        except queue.Empty:
            return None


class Pool:
    """A ring of drawn examples on the device; new ones replace the oldest."""

    def __init__(self, capacity: int, device: str) -> None:
        self.capacity, self._device = capacity, device
        self._rows: dict[str, Tensor] = {}
        self.drawn = 0

    def __len__(self) -> int:
        return min(self.drawn, self.capacity)

    def add(self, batch: Batch) -> None:
        """Copies a chunk in."""
        count = len(batch["image"])
        places = (torch.arange(count) + self.drawn) % self.capacity
        for name, values in batch.items():
            rows = torch.from_numpy(values)
            if name not in self._rows:
                self._rows[name] = torch.zeros((self.capacity, *rows.shape[1:]), dtype=rows.dtype, device=self._device)
            self._rows[name][places.to(self._device)] = rows.to(self._device)
        self.drawn += count

    def sample(self, count: int) -> dict[str, Tensor]:
        """``count`` random examples; images as (count, 3, height, width) float32, 0 to 1."""
        picked = torch.randint(len(self), (count,), device=self._device)
        batch = {name: rows[picked] for name, rows in self._rows.items()}
        batch["image"] = batch["image"].permute(0, 3, 1, 2).float() / 255
        return batch
