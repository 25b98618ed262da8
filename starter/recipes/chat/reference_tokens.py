"""Records the greedy answers of PyTorch, in float32, to held-out prompts: what ``eval fidelity`` compares with.

PYTHONPATH=run-core/src:starter/src python starter/recipes/chat/reference_tokens.py
"""

import argparse

import numpy as np
import torch
import transformers
from rendering import Renderer
from tokenizers import Tokenizer

from llama_pajamas_starter.chat import checkpoint
from llama_pajamas_starter.chat.families import FAMILIES, samples
from llama_pajamas_starter.fidelity.reference import SHIPPED, Answer, Reference, hash_of

#: No seed of the other evaluations.
SEED = 11
MAX_TOKENS = 160


def prompts(count: int) -> list[list[int]]:
    """Held-out conversations as token ids: one of each generator, then another one of each, and so on."""
    tokenizer, renderer = Tokenizer.from_file(str(checkpoint() / "tokenizer.json")), Renderer()
    streams = [samples(SEED, "held-out", ((generator, 1.0),)) for generator, _ in FAMILIES]
    texts: dict[str, None] = {}
    while len(texts) < count:
        for stream in streams:
            sample = next(stream)
            texts[renderer.text(sample.prompt, sample.tools, prompt=True)] = None
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in list(texts)[:count]]


@torch.inference_mode()
def answer(model: transformers.Qwen3ForCausalLM, prompt: list[int], end: int) -> Answer:
    """One prompt at a time, so that nothing depends on what stands beside it in a batch."""
    tokens: list[int] = []
    margins: list[float] = []
    step, cache = torch.tensor([prompt]), None
    while len(tokens) < MAX_TOKENS and end not in tokens:
        out = model(step, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        best = out.logits[0, -1].topk(2)
        tokens.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
        step = torch.tensor([tokens[-1:]])
    return Answer(tuple(prompt), tuple(tokens), np.array(margins, np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=500)
    asked = parser.parse_args()
    folder = checkpoint()
    model = transformers.Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    end = int(model.config.eos_token_id)
    answers = tuple(answer(model, prompt, end) for prompt in prompts(asked.prompts))
    made_with = f"PyTorch {torch.__version__}, transformers {transformers.__version__}, float32, CPU"
    Reference(answers, MAX_TOKENS, end, hash_of(folder / "model.safetensors"), made_with).save(SHIPPED)
    cut = sum(one.tokens[-1] != end for one in answers)
    print(f"{SHIPPED}: {len(answers)} answers, {sum(len(one.tokens) for one in answers)} tokens, {cut} cut off")


if __name__ == "__main__":
    main()
