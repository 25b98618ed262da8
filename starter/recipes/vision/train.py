"""Trains the detector, the classifier and the embedder on scenes drawn while they train.

    python starter/recipes/vision/train.py --out DIR --minutes 8 --device cuda [--resume DIR]

Writes DIR/vision.pt (averaged weights of all three) and DIR/vision.log. Learning rates follow the wall clock, so the
given minutes are used on any machine; more minutes or faster hardware mean better models.
"""

import argparse
import contextlib
import copy
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))

import augment
from losses import contrastive_loss, detection_loss
from networks import Detector, Embedder, VisionTransformer
from pool import CLASSIFY, DETECT, EMBED, VARIANTS, Drawers, Pool
from words import LENGTH, PAD, SPECIAL, words

from llama_pajamas_starter.vocabulary import OBJECTS

logger = logging.getLogger("vision")

NAMES = ("detect", "classify", "embed")
SHARES = (0.55, 0.15, 0.3)
RATES = (3e-3, 1.5e-3, 1.5e-3)
DECAYS = (0.02, 0.05, 0.05)


def build() -> dict[str, nn.Module]:
    """The three networks, untrained."""
    return {
        "detect": Detector(len(OBJECTS)),
        "classify": VisionTransformer(len(OBJECTS), width=88),
        "embed": Embedder(len(SPECIAL) + len(words()), LENGTH, PAD),
    }


def detect_step(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Any, Callable[[Any], Tensor]]:
    images, boxes, labels = augment.detection(batch["image"], batch["boxes"], batch["labels"])
    images = images.contiguous(memory_format=torch.channels_last)
    return (lambda: model(images)), lambda output: detection_loss(model, output, boxes, labels)  # type: ignore[arg-type]


def classify_step(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Any, Callable[[Any], Tensor]]:
    images = (augment.whole(batch["image"], True, 0.75, 1.2, 0.12, 0.12) - 0.5) / 0.5
    loss = nn.CrossEntropyLoss(label_smoothing=0.05)
    return (lambda: model(images)), lambda output: loss(output.float(), batch["labels"])


def embed_step(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Any, Callable[[Any], Tensor]]:
    images = (augment.whole(batch["image"], False, 0.8, 1.04, 0.04, 0.06) - 0.5) / 0.5
    rows = torch.arange(len(images), device=images.device)
    variant = torch.randint(VARIANTS, (len(images),), device=images.device)
    ids, told = batch["ids"][rows, variant], batch["told"][rows, variant]
    return (lambda: (model.image(images), model.text(ids))), lambda output: contrastive_loss(  # type: ignore[operator]
        output[0].float(),
        output[1].float(),
        model.temperature,
        batch["content"],
        told,  # type: ignore[arg-type]
    )


STEPS = (detect_step, classify_step, embed_step)


class Average:
    """An exponential moving average of a model's weights and buffers."""

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self._steps += 1
        keep = min(0.9985, (1 + self._steps) / (10 + self._steps))
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values(), strict=True))
        floats = [(mine, theirs) for mine, theirs in pairs if mine.dtype.is_floating_point]
        torch._foreach_lerp_([mine for mine, _ in floats], [theirs for _, theirs in floats], 1 - keep)
        for mine, theirs in pairs:
            if not mine.dtype.is_floating_point:
                mine.copy_(theirs)


class Trainer:
    """Trains the three networks one after another, while the workers draw for this one and then for the next."""

    def __init__(self, options: argparse.Namespace, resumed: dict[str, Any]) -> None:
        self._options = options
        self._round = int(resumed.get("round", -1)) + 1
        self._drawers = Drawers(options.workers, self._round * 100_000_000)
        self._resumed = resumed
        self.state: dict[str, Any] = {
            "round": self._round,
            "steps": dict(resumed.get("steps", {})),
            "models": {},
            "held_out": {},
        }
        self.state["models"].update(resumed.get("models", {}))
        self.state["held_out"].update(resumed.get("held_out", {}))
        device = options.device
        capacities = options.pool or ((20_000, 120_000, 120_000) if device == "cuda" else (3_000, 12_000, 12_000))
        self._pools = [Pool(capacity, device) for capacity in capacities]

    def _collect(self, wait: bool = False) -> None:
        chunk = self._drawers.take(wait)
        if chunk is not None:
            self._pools[chunk[0]].add(chunk[1])

    def _network(self, name: str) -> nn.Module:
        model = build()[name].to(self._options.device)
        if name in self._resumed.get("models", {}):
            model.load_state_dict(self._resumed["models"][name])
        return model.to(memory_format=torch.channels_last) if name == "detect" else model

    def _optimizer(self, task: int, model: nn.Module) -> torch.optim.Optimizer:
        vectors = [p for p in model.parameters() if p.ndim < 2]
        matrices = [p for p in model.parameters() if p.ndim >= 2]
        rate = RATES[task] * (0.5 if NAMES[task] in self._resumed.get("models", {}) else 1)
        groups = [{"params": matrices, "weight_decay": DECAYS[task]}, {"params": vectors, "weight_decay": 0.0}]
        for group in groups:
            group["initial_lr"] = rate
        return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=self._options.device == "cuda")

    def _finish(self, name: str, model: nn.Module, steps: int) -> None:
        """Keeps the averaged weights, writes the checkpoint, measures."""
        weights = {key: values.detach().float().cpu().contiguous() for key, values in model.state_dict().items()}
        self.state["models"][name] = weights
        self.state["steps"][name] = self.state["steps"].get(name, 0) + steps
        torch.save(self.state, self._options.out / "vision.pt")
        if self._options.checked:
            # Here, because training itself does without run-core's backends.
            from check import check

            found = check(name, model, self._options.checked)
            self.state["held_out"][name] = found
            logger.info("%s: held out %s", name, json.dumps(found))
            torch.save(self.state, self._options.out / "vision.pt")

    def train(self, task: int, seconds: float, following: int | None) -> None:
        """Trains one network for so many seconds; the last fifth of them is drawn for the following one."""
        name, device = NAMES[task], self._options.device
        self._drawers.want(task)
        size = self._options.batch[task]
        waited = time.monotonic()
        pool = self._pools[task]
        while len(pool) < min(self._options.least[task], pool.capacity):
            self._collect(wait=True)
        logger.info("%s: pool of %d after %.1f s", name, len(pool), time.monotonic() - waited)
        model = self._network(name)
        average = Average(model)
        optimizer = self._optimizer(task, model)
        begin, steps, running = time.monotonic(), 0, torch.zeros((), device=device)
        said = begin
        while (part := (time.monotonic() - begin) / seconds) < 1:
            if following is not None and part > 0.8:
                self._drawers.want(following)
            if steps % 2 == 0:
                self._collect()
            factor = min(part / 0.04, 1, (steps + 1) / 200) * (0.5 * (1 + math.cos(math.pi * part)) * 0.99 + 0.01)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            forward, loss_of = STEPS[task](model, pool.sample(size))
            context = torch.autocast("cuda", torch.bfloat16) if device == "cuda" else contextlib.nullcontext()
            with context:
                output = forward()
            loss = loss_of(output)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0 if task == DETECT else 1.0)
            optimizer.step()
            average.update(model)
            running = running * 0.98 + loss.detach() * 0.02
            steps += 1
            if time.monotonic() - said > 10:
                said = time.monotonic()
                shown = running.item() / (1 - 0.98**steps)
                logger.info("%s: %3.0f %% step %d loss %.4f drawn %d", name, part * 100, steps, shown, pool.drawn)
        logger.info("%s: %d steps of %d, %d examples drawn", name, steps, size, pool.drawn)
        self._finish(name, average.model, steps)
        # The next network's pool needs the room.
        self._pools[task] = Pool(1, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for vision.pt and vision.log")
    parser.add_argument("--minutes", type=float, default=8.0, help="wall time for all three")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cuda", "cpu"))
    parser.add_argument("--resume", type=Path, help="folder of an earlier run to go on from")
    parser.add_argument("--workers", type=int, default=4, help="processes that draw")
    parser.add_argument("--tasks", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--shares", type=float, nargs=3, default=SHARES, help="of the time: detect classify embed")
    parser.add_argument("--checked", type=int, default=200, help="held-out scenes measured after each, or 0")
    parser.add_argument("--batch", type=int, nargs=3, help="batch sizes: detect classify embed")
    parser.add_argument("--least", type=int, nargs=3, help="examples to have before training: detect classify embed")
    parser.add_argument("--pool", type=int, nargs=3, help="examples kept: detect classify embed")
    options = parser.parse_args()
    # Each worker tokenizes for itself; sixteen threads in each would fight.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    cuda = options.device == "cuda"
    options.batch = options.batch or ((128, 768, 1024) if cuda else (16, 128, 256))
    options.least = options.least or ((2500, 8000, 8000) if cuda else (300, 1000, 1000))
    options.out.mkdir(parents=True, exist_ok=True)
    handlers = [logging.StreamHandler(), logging.FileHandler(options.out / "vision.log")]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=handlers)
    # No TF32: in affine_grid it would move boxes and pixels apart by a tenth of a pixel. The networks run in bfloat16.
    torch.backends.cudnn.benchmark = True
    resumed = torch.load(options.resume / "vision.pt", weights_only=True) if options.resume else {}
    torch.manual_seed(int(resumed.get("round", -1)) + 1)
    trainer = Trainer(options, resumed)
    tasks = [task for task in (DETECT, CLASSIFY, EMBED) if NAMES[task] in options.tasks]
    whole = sum(options.shares[task] for task in tasks)
    for number, task in enumerate(tasks):
        seconds = options.minutes * 60 * options.shares[task] / whole
        trainer.train(task, seconds, tasks[number + 1] if number + 1 < len(tasks) else None)


if __name__ == "__main__":
    main()
