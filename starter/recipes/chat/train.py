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
import queue
import time
from collections import defaultdict
from pathlib import Path

import checkpoint
import model as model_module
import numpy as np
import torch
import torch.nn.functional as F
from llama_pajamas_starter.chat.families import held_out
from model import Config, Documents, Qwen3
from optimizer import Muon
from packing import ROW, Rows, start_workers
from rendering import Renderer
from tokenizer import train_tokenizer
from tokenizers import Tokenizer
from torch import Tensor


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the checkpoint and metrics.json go")
    parser.add_argument("--minutes", type=float, default=8.0, help="wall-clock time of the whole run")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--resume", type=Path, help="a checkpoint folder to go on from (its tokenizer is kept)")
    parser.add_argument("--rows", type=int, default=48, help=f"rows of {ROW} tokens in a step")
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


class Pool:
    """Packed rows on the device: new ones are taken once as they come, then all are drawn from at random."""

    def __init__(self, capacity: int, device: str, source: "queue.Queue[Rows]") -> None:
        self.tokens = torch.zeros(capacity, ROW, dtype=torch.int16, device=device)
        self.document = torch.zeros(capacity, ROW, dtype=torch.uint8, device=device)
        self.learnt = torch.zeros(capacity, ROW, dtype=torch.bool, device=device)
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
        """(tokens, document numbers, learnt), each (count, ROW)."""
        fresh = min(count, self.made - self.used)
        indices = [(self.used + i) % self.capacity for i in range(fresh)]
        self.used += fresh
        indices += rng.integers(0, min(self.made, self.capacity), count - fresh).tolist()
        index = torch.tensor(indices, device=self.device)
        return self.tokens[index].long(), self.document[index], self.learnt[index]


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
    bounds = torch.full((document.shape[0] * 64 + 1,), document.numel(), dtype=torch.int32, device=document.device)
    bounds[: len(starts)] = starts
    return Documents(bounds=bounds)


def works(model: Qwen3, device: str) -> bool:
    """Whether the variable-length kernel gives the plain kernel's answer here, gradients included."""
    if not device.startswith("cuda") or model_module._VARLEN is None:
        return False
    try:
        document = torch.arange(ROW, device=device)[None].div(100, rounding_mode="floor").to(torch.uint8).repeat(2, 1)
        tokens = torch.randint(0, model.c.vocabulary, (2, ROW), device=device)
        found = []
        for varlen in (True, False):
            model.zero_grad()
            with torch.autocast("cuda", dtype=torch.bfloat16):
                states = model.hidden(tokens, documents_of(document, varlen=varlen, dtype=torch.bfloat16))
            states.float().square().mean().backward()
            found.append((states.detach().float(), model.model.embed_tokens.weight.grad.clone()))
        (a, ga), (b, gb) = found
        model.zero_grad(set_to_none=True)
        return bool((a - b).abs().mean() < 0.02 * b.abs().mean() and (ga - gb).norm() < 0.1 * gb.norm())
    except Exception as error:  # noqa: BLE001 - any failure means the plain kernel
        print(f"variable-length attention is not used: {error}", flush=True)
        model.zero_grad(set_to_none=True)
        return False


@torch.no_grad()
def evaluate(model: Qwen3, tokenizer: Tokenizer, per_family: int, device: str, seed: int = 0) -> dict[str, float]:
    """Held-out exact match per family by greedy decoding; prints a few wrong answers of each."""
    renderer, end = Renderer(), tokenizer.token_to_id("<|im_end|>")
    work = []
    for sample in held_out(seed, per_family):
        prompt, answer = renderer.example(sample, openai=True)
        work.append(
            (
                sample.family,
                tokenizer.encode(prompt, add_special_tokens=False).ids,
                tokenizer.encode(answer, add_special_tokens=False).ids,
            )
        )
    work.sort(key=lambda item: len(item[1]))
    right: dict[str, list[bool]] = defaultdict(list)
    wrong: dict[str, list[str]] = defaultdict(list)
    size = 256 if device != "cpu" else 32
    for at in range(0, len(work), size):
        part = work[at : at + size]
        longest_answer = max(len(a) for _, _, a in part)
        width = max(len(p) for _, p, _ in part) + longest_answer
        rows = torch.zeros(len(part), width, dtype=torch.long, device=device)
        ends = torch.tensor([len(p) for _, p, _ in part], device=device)
        for i, (_, prompt_ids, _) in enumerate(part):
            rows[i, : len(prompt_ids)] = torch.tensor(prompt_ids)
        each = torch.arange(len(part), device=device)
        for step in range(longest_answer):
            states = model.hidden(rows[:, : int(ends.max()) + step], Documents())[each, ends + step - 1]
            rows[each, ends + step] = F.linear(states, model.model.embed_tokens.weight).argmax(-1)
        out = rows.tolist()
        for (family, prompt_ids, answer_ids), row in zip(part, out, strict=True):
            said = row[len(prompt_ids) : len(prompt_ids) + len(answer_ids)]
            right[family].append(said == answer_ids)
            if said != answer_ids:
                reply = row[len(prompt_ids) :]
                reply = reply[: reply.index(end)] if end in reply else reply[: len(answer_ids) + 8]
                wrong[family].append(
                    f"    {tokenizer.decode(prompt_ids[-60:], skip_special_tokens=False)!r}\n      said {tokenizer.decode(reply, skip_special_tokens=False)!r}\n      want {tokenizer.decode(answer_ids)!r}"
                )
    scores = {family: sum(found) / len(found) for family, found in sorted(right.items())}
    scores["all"] = sum(map(sum, right.values())) / sum(map(len, right.values()))
    for family, score in scores.items():
        print(f"  {family:16s} {100 * score:6.2f} % of {len(right.get(family, work))}", flush=True)
        for text in wrong.get(family, [])[:2]:
            print(text, flush=True)
    return scores


def main() -> None:
    options = arguments()
    began = time.monotonic()
    device = options.device
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    if options.resume:
        model, tokenizer = checkpoint.load(options.resume)
    else:
        tokenizer = train_tokenizer()
        model = Qwen3(Config(vocabulary=tokenizer.get_vocab_size()))
    if tokenizer.encode("assistant\n", add_special_tokens=False).ids[0] != tokenizer.token_to_id("assistant"):
        raise SystemExit("the word assistant must be one token: train the tokenizer on more text")
    source, workers = start_workers(tokenizer, options.workers, options.seed)
    model.to(device)
    average = copy.deepcopy(model).requires_grad_(False)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    varlen = works(model, device)
    cuda = device.startswith("cuda")
    dtype = torch.bfloat16 if cuda else torch.float32
    print(f"variable-length attention: {varlen}; data pool waits for workers", flush=True)

    muon = Muon(model.model.layers)
    others = [p for name, p in model.named_parameters() if p.ndim < 2 or "embed" in name]
    adam = torch.optim.AdamW(others, lr=options.adam_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=cuda)
    if cuda and not options.no_compile:
        torch._dynamo.config.recompile_limit = 64
        for layer in model.model.layers:
            layer.compile()
    pool = Pool(150_000 if cuda else 8_000, device, source)
    pool.take(wait=True)

    def head_loss(states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(states, weight).float(), targets, ignore_index=-100)

    def learn(rows: int) -> Tensor:
        tokens, document, learnt = pool.batch(rows, rng)
        documents = documents_of(document, varlen=varlen, dtype=dtype)
        targets = tokens.masked_fill(~learnt, -100)[:, 1:]
        with torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=cuda):
            states = model.hidden(tokens, documents)[:, :-1]
            chosen = states[targets != -100]
            loss = head_loss(chosen, model.model.embed_tokens.weight, targets[targets != -100])
        loss.backward()
        return loss.detach()

    rng = np.random.default_rng(options.seed)
    try:
        learn(options.rows)  # compiles, before the schedule starts
    except Exception as error:  # noqa: BLE001 - a machine without a compiler trains too, slower
        if not cuda or options.no_compile:
            raise
        print(f"layers are not compiled: {error}", flush=True)
        for layer in model.model.layers:
            layer._compiled_call_impl = None
        learn(options.rows)
    model.zero_grad(set_to_none=True)
    if cuda:
        torch.cuda.synchronize()
    start, end = time.monotonic(), began + 60 * options.minutes - (15 if cuda else 0)
    print(f"ready after {start - began:.0f} s", flush=True)
    history: list[dict[str, object]] = []
    steps, losses, evaluated, told = 0, [], start, start
    warm_up, fraction = 0.02, 0.0
    while fraction < 1.0:
        fraction = min(1.0, (time.monotonic() - start) / (end - start))
        scale = (
            fraction / warm_up
            if fraction < warm_up
            else 0.5 * (1 + math.cos(math.pi * (fraction - warm_up) / (1 - warm_up)))
        )
        scale = max(scale, 0.002)
        if steps % 4 == 0:
            pool.take()
        losses.append(learn(options.rows))
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for group in adam.param_groups:
            group["lr"] = options.adam_rate * scale
        adam.step()
        muon.step(options.muon_rate * scale)
        model.zero_grad(set_to_none=True)
        steps += 1
        keep = min(0.998, steps / (steps + 10))
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in model.parameters()], 1 - keep)
        now = time.monotonic()
        if now - told > 20:
            told = now
            mean = torch.stack(losses).mean().item()
            rate = steps * options.rows * ROW / (now - start)
            print(
                f"{now - start:5.0f} s step {steps} loss {mean:.4f} scale {scale:.3f} {rate / 1e6:.2f} M tokens/s made {pool.made} used {pool.used} rows",
                flush=True,
            )
            losses.clear()
        if now - evaluated > options.evaluate_every and fraction < 0.95:
            evaluated = now
            history.append({"seconds": now - start, "steps": steps, "exact": evaluate(average, tokenizer, 25, device)})
            checkpoint.save(average, tokenizer, options.out)
    for worker in workers:
        worker.terminate()
    checkpoint.save(average, tokenizer, options.out)
    print("final:", flush=True)
    history.append(
        {
            "seconds": time.monotonic() - start,
            "steps": steps,
            "exact": evaluate(average, tokenizer, options.per_family, device, seed=1),
        }
    )
    metrics = {
        "steps": steps, "tokens": steps * options.rows * ROW, "device": torch.cuda.get_device_name() if cuda else "cpu",
        "minutes": (time.monotonic() - began) / 60, "rows_made": pool.made, "varlen": varlen, "history": history,
    }  # fmt: skip
    (options.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")


if __name__ == "__main__":
    main()
