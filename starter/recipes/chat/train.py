"""Trains the starter chat model from scratch.

    python starter/recipes/chat/train.py --out DIR --minutes 8 --device cuda
    python starter/recipes/chat/train.py --out DIR --minutes 60 --device cpu

Needs PyTorch, tokenizers, safetensors, jinja2 and numpy, and ``run-core/src`` and ``starter/src`` on PYTHONPATH. The
schedule follows the wall clock: whatever the machine, the run ends after ``--minutes`` with a finished model.
"""

import argparse
import copy
import json
import math
import time
from pathlib import Path

import checkpoint
import model as model_module
import numpy as np
import torch
import torch.nn.functional as F
from held_out_match import evaluate
from model import Config, Documents, Qwen3
from optimizer import Muon
from packing import start_workers
from pool import Pool
from tokenizer import train_tokenizer
from tokenizers import Tokenizer
from torch import Tensor


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the checkpoint and metrics.json go")
    parser.add_argument("--minutes", type=float, default=8.0, help="wall-clock time of the whole run")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--resume", type=Path, help="a checkpoint folder to go on from (its tokenizer is kept)")
    parser.add_argument("--tokens", type=int, default=40_960, help="tokens in a step")
    parser.add_argument("--workers", type=int, default=3, help="processes that make data")
    parser.add_argument("--muon-rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=0.004)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--per-family", type=int, default=60, help="held-out prompts of each generator in an evaluation"
    )
    parser.add_argument("--evaluate-every", type=float, default=120.0, help="seconds")
    parser.add_argument("--no-compile", action="store_true")
    return parser.parse_args()


def documents_of(document: Tensor, *, varlen: bool, dtype: torch.dtype) -> Documents:
    """What the attention needs to keep the documents of a packed batch apart."""
    if not varlen:
        length = document.shape[1]
        same = document[:, None, :, None] == document[:, None, None, :]
        causal = torch.ones(length, length, dtype=torch.bool, device=document.device).tril()
        mask = torch.zeros(same.shape, dtype=dtype, device=document.device)
        return Documents(mask=mask.masked_fill_(~(same & causal), float("-inf")))
    change = torch.ones_like(document, dtype=torch.bool)
    change[:, 1:] = document[:, 1:] != document[:, :-1]
    starts = change.flatten().nonzero().flatten().to(torch.int32)
    # Always the same shape, so that nothing is compiled again: the rest are empty documents at the end.
    bounds = torch.full((document.shape[0] * 128 + 1,), document.numel(), dtype=torch.int32, device=document.device)
    bounds[: len(starts)] = starts
    return Documents(bounds=bounds)


def works(model: Qwen3, device: str) -> bool:
    """Whether the variable-length kernel gives the plain kernel's answer here, gradients included."""
    if not device.startswith("cuda") or model_module._VARLEN is None:
        return False
    try:
        document = torch.arange(1024, device=device)[None].div(100, rounding_mode="floor").to(torch.uint8).repeat(2, 1)
        tokens = torch.randint(0, model.c.vocabulary, document.shape, device=device)
        direction = torch.randn(*document.shape, model.c.width, device=device)
        found = []
        for varlen in (True, False):
            model.zero_grad()
            with torch.autocast("cuda", dtype=torch.bfloat16):
                states = model.hidden(tokens, documents_of(document, varlen=varlen, dtype=torch.bfloat16))
            (states.float() * direction).mean().backward()
            found.append((states.detach().float(), model.model.embed_tokens.weight.grad.clone()))
        (a, ga), (b, gb) = found
        model.zero_grad(set_to_none=True)
        forward = ((a - b).norm() / b.norm()).item()
        backward = ((ga - gb).norm() / gb.norm()).item()
        print(f"variable-length attention differs by {forward:.4f} forward, {backward:.4f} backward", flush=True)
        return forward < 0.05 and backward < 0.15
    except Exception as error:  # any failure means the plain kernel
        print(f"variable-length attention is not used: {error}", flush=True)
        model.zero_grad(set_to_none=True)
        return False


def rate_scale(fraction: float, warm_up: float = 0.02) -> float:
    """The learning rate's factor after this fraction of the time: linear warm-up, then a cosine down to almost zero."""
    if fraction < warm_up:
        return max(fraction / warm_up, 0.002)
    return max(0.5 * (1 + math.cos(math.pi * (fraction - warm_up) / (1 - warm_up))), 0.002)


class Trainer:
    """The model, its moving average, its optimizers and its data."""

    def __init__(self, options: argparse.Namespace, model: Qwen3, pool: Pool, *, varlen: bool) -> None:
        self.options, self.model, self.pool, self.varlen = options, model, pool, varlen
        self.rows = max(1, options.tokens // pool.tokens.shape[1])
        self.cuda = options.device.startswith("cuda")
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.muon = Muon(model.model.layers)
        self.others = [p for name, p in model.named_parameters() if p.ndim < 2 or "embed" in name]
        self.adam = torch.optim.AdamW(self.others, betas=(0.9, 0.95), weight_decay=0.0, fused=self.cuda)
        self.rng = np.random.default_rng(options.seed)
        self.steps = 0

    def compile(self) -> None:
        """Compiles the layers where that works; a machine without a compiler trains too, slower."""
        layers = self.model.model.layers
        if self.cuda and not self.options.no_compile:
            torch._dynamo.config.recompile_limit = 64
            for layer in layers:
                layer.compile()
        try:
            self.gradients()
        except Exception as error:
            if not self.cuda or self.options.no_compile:
                raise
            print(f"layers are not compiled: {error}", flush=True)
            for layer in layers:
                layer._compiled_call_impl = None
            self.gradients()
        self.model.zero_grad(set_to_none=True)
        if self.cuda:
            torch.cuda.synchronize()

    def gradients(self) -> Tensor:
        """The loss of a fresh batch, after its backward pass: cross entropy of what the assistant says."""
        tokens, document, learnt = self.pool.batch(self.rows, self.rng)
        documents = documents_of(document, varlen=self.varlen, dtype=torch.bfloat16 if self.cuda else torch.float32)
        targets = tokens.masked_fill(~learnt, -100)[:, 1:]
        with torch.autocast(self.options.device.split(":")[0], dtype=torch.bfloat16, enabled=self.cuda):
            states = self.model.hidden(tokens, documents)[:, :-1]
            logits = F.linear(states[targets != -100], self.model.model.embed_tokens.weight)
            loss = F.cross_entropy(logits.float(), targets[targets != -100])
        loss.backward()
        return loss.detach()

    def step(self, scale: float) -> Tensor:
        """One update with the learning rates times ``scale``; returns the loss."""
        loss = self.gradients()
        torch.nn.utils.clip_grad_norm_(self.others, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.options.adam_rate * scale
        self.adam.step()
        self.muon.step(self.options.muon_rate * scale)
        self.model.zero_grad(set_to_none=True)
        self.steps += 1
        keep = min(0.998, self.steps / (self.steps + 10))
        torch._foreach_lerp_(list(self.average.parameters()), [p.detach() for p in self.model.parameters()], 1 - keep)
        return loss


def run(trainer: Trainer, tokenizer: Tokenizer, began: float) -> list[dict[str, object]]:
    """Trains until the time is over; returns the held-out figures on the way."""
    options = trainer.options
    start, end = time.monotonic(), began + 60 * options.minutes - (15 if trainer.cuda else 0)
    history: list[dict[str, object]] = []
    losses: list[Tensor] = []
    evaluated = told = start
    fraction = 0.0
    while fraction < 1.0:
        fraction = min(1.0, (time.monotonic() - start) / (end - start))
        if trainer.steps % 4 == 0:
            trainer.pool.take()
        losses.append(trainer.step(rate_scale(fraction)))
        now = time.monotonic()
        if now - told > 20:
            told = now
            rate = trainer.steps * trainer.rows * trainer.pool.tokens.shape[1] / (now - start) / 1e6
            print(
                f"{now - start:5.0f} s step {trainer.steps} loss {torch.stack(losses).mean().item():.4f} "
                f"{rate:.2f} M tokens/s, rows made {trainer.pool.made} used {trainer.pool.used}",
                flush=True,
            )
            losses.clear()
        if now - evaluated > options.evaluate_every and fraction < 0.95:
            evaluated = now
            exact = evaluate(trainer.average, tokenizer, 25, options.device)
            history.append({"seconds": now - start, "steps": trainer.steps, "exact": exact})
            checkpoint.save(trainer.average, tokenizer, options.out)
    return history


def main() -> None:
    options = arguments()
    began = time.monotonic()
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    if options.resume:
        model, tokenizer = checkpoint.load(options.resume)
    else:
        tokenizer = train_tokenizer()
        model = Qwen3(Config(vocabulary=tokenizer.get_vocab_size()))
    if tokenizer.encode("assistant\n", add_special_tokens=False).ids[0] != tokenizer.token_to_id("assistant"):
        raise SystemExit("the word assistant must be one token: train the tokenizer on more text")
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    model.to(options.device)
    varlen = works(model, options.device)
    # The plain kernel computes every pair of tokens in a row and masks most of them: its rows are shorter.
    length = 2048 if varlen else 1024
    source, workers = start_workers(tokenizer, options.workers, options.seed, length)
    pool = Pool(
        2**27 // length if options.device.startswith("cuda") else 2**23 // length, length, options.device, source
    )
    trainer = Trainer(options, model, pool, varlen=varlen)
    pool.take(wait=True)
    trainer.compile()
    print(f"ready after {time.monotonic() - began:.0f} s, variable-length attention: {trainer.varlen}", flush=True)
    history = run(trainer, tokenizer, began)
    for worker in workers:
        worker.terminate()
    checkpoint.save(trainer.average, tokenizer, options.out)
    print("final:", flush=True)
    exact = evaluate(trainer.average, tokenizer, options.per_family, options.device, seed=1)
    history.append({"steps": trainer.steps, "exact": exact})
    metrics = {
        "steps": trainer.steps,
        "tokens": trainer.steps * trainer.rows * trainer.pool.tokens.shape[1],
        "device": torch.cuda.get_device_name() if trainer.cuda else "cpu",
        "minutes": (time.monotonic() - began) / 60,
        "rows_made": pool.made,
        "history": history,
    }
    (options.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")


if __name__ == "__main__":
    main()
