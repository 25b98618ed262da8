"""Held-out exact match during training, decoded greedily in large batches."""

from collections import defaultdict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from model import Documents, Qwen3
from rendering import Renderer
from tokenizers import Tokenizer

from llama_pajamas_starter.chat.families import held_out


@dataclass(frozen=True)
class Task:
    """One held-out prompt and its answer, as token ids."""

    family: str
    prompt: list[int]
    answer: list[int]


def tasks(tokenizer: Tokenizer, per_family: int, seed: int) -> list[Task]:
    """The held-out prompts, shortest first."""
    renderer, found = Renderer(), []
    for sample in held_out(seed, per_family):
        prompt, answer = (
            tokenizer.encode(t, add_special_tokens=False).ids for t in renderer.example(sample, openai=True)
        )
        found.append(Task(sample.family, prompt, answer))
    return sorted(found, key=lambda task: len(task.prompt))


@torch.no_grad()
def decode(model: Qwen3, part: list[Task], device: str) -> list[list[int]]:
    """A few tokens more than the longest right answer has, for each prompt.

    The prompts are padded on the right, which a causal model does not see; nothing is cached.
    """
    longest = max(len(task.answer) for task in part) + 6
    width = max(len(task.prompt) for task in part) + longest
    rows = torch.zeros(len(part), width, dtype=torch.long, device=device)
    ends = torch.tensor([len(task.prompt) for task in part], device=device)
    for i, task in enumerate(part):
        rows[i, : len(task.prompt)] = torch.tensor(task.prompt)
    each, furthest = torch.arange(len(part), device=device), int(ends.max())
    for step in range(longest):
        states = model.hidden(rows[:, : furthest + step], Documents())[each, ends + step - 1]
        rows[each, ends + step] = F.linear(states, model.model.embed_tokens.weight).argmax(-1)
    return [row[len(task.prompt) :] for task, row in zip(part, rows.tolist(), strict=True)]


def evaluate(model: Qwen3, tokenizer: Tokenizer, per_family: int, device: str, seed: int = 0) -> dict[str, float]:
    """The share of exact answers per family and over all; prints two wrong answers of each family."""
    end = tokenizer.token_to_id("<|im_end|>")
    work = tasks(tokenizer, per_family, seed)
    right: dict[str, list[bool]] = defaultdict(list)
    wrong: dict[str, list[str]] = defaultdict(list)
    size = 32 if device == "cpu" else 256
    for at in range(0, len(work), size):
        part = work[at : at + size]
        for task, reply in zip(part, decode(model, part, device), strict=True):
            said = reply[: reply.index(end)] if end in reply else reply[: len(task.answer) + 8]
            texts = [
                tokenizer.decode(ids, skip_special_tokens=False) for ids in (task.prompt[-60:], said, task.answer[:-1])
            ]
            # Text, not tokens: a made-up word can be cut in more than one way.
            right[task.family].append(end in reply and texts[1] == texts[2])
            if not right[task.family][-1]:
                wrong[task.family].append("    {!r}\n      said {!r}\n      want {!r}".format(*texts))
    scores = {family: sum(found) / len(found) for family, found in sorted(right.items())}
    scores["all"] = sum(map(sum, right.values())) / len(work)
    for family, score in scores.items():
        print(f"  {family:16s} {100 * score:6.2f} % of {len(right.get(family, work))}", flush=True)
        for text in wrong.get(family, [])[:2]:
            print(text, flush=True)
    return scores
