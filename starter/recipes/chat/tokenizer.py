"""Trains the chat model's byte-level BPE tokenizer on the recipe's own text."""

import json
from itertools import islice

from rendering import documents
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")
VOCABULARY = 1536
#: Qwen2's rule for cutting text, which llama.cpp knows as "qwen2": single digits, words with one leading character.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(count: int = 40_000, seed: int = 1) -> Tokenizer:
    """A tokenizer trained on ``count`` documents. No normalizer: llama.cpp has none for this kind of model."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = ((read + learnt) for read, learnt in islice(documents(seed, "train"), count))
    tokenizer.train_from_iterator(texts, trainer)
    # The trainer makes every one special, but the marks of a tool call are text that a reply shows, as in Qwen3.
    description = json.loads(tokenizer.to_str())
    for token in description["added_tokens"]:
        token["special"] = not token["content"].endswith("tool_call>")
    return Tokenizer.from_str(json.dumps(description))
