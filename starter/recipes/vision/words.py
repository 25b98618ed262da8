"""The embedder's words: a word-level tokenizer made from the captions that there are, and captions to train on."""

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from llama_pajamas_starter.vision.captions import TEMPLATES, Content, caption
from llama_pajamas_starter.vision.scenes import COLOUR_NAMES
from llama_pajamas_starter.vocabulary import OBJECTS, RELATIONS, plural

SPECIAL = ("<|pad|>", "<|unk|>", "<|startoftext|>", "<|endoftext|>")
PAD = 0
LENGTH = 20


def words() -> list[str]:
    """Every word of the captions, in a fixed order."""
    known = ["a", "an", "the", "of", "one", "two", "three", "four", "grey"]
    for text in (*COLOUR_NAMES, *OBJECTS, *map(plural, OBJECTS), *RELATIONS, *(t.replace("{}", "") for t in TEMPLATES)):
        known.extend(text.split())
    return list(dict.fromkeys(known))


def make_tokenizer() -> Tokenizer:
    """A Hugging Face tokenizer that pads and cuts to :data:`LENGTH` tokens, marks for start and end included."""
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *words()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[1]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(behavior="removed")]
    )
    start, end = SPECIAL[2], SPECIAL[3]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(pad_id=PAD, pad_token=SPECIAL[0], length=LENGTH)
    return tokenizer


_TOKENIZER = make_tokenizer()


def caption_variants(rng: np.random.Generator, content: Content, count: int) -> list[tuple[list[int], list[bool]]]:
    """Captions of some content: token ids, and which of the six facts each caption tells."""
    texts, masks = [], []
    for _ in range(count):
        text = caption(content, reverse=bool(rng.random() < 0.5))
        mask = [True] * 6
        if rng.random() < 0.15:
            # Without the colours: "a car left of a house".
            for colour in (content.colour, content.other_colour):
                if colour is not None:
                    text = text.replace(f"an {COLOUR_NAMES[colour]} ", "a ").replace(f"{COLOUR_NAMES[colour]} ", "")
            mask[2] = mask[5] = False
        if rng.random() < 0.1:
            text = text.replace("gray", "grey")
        if rng.random() < 0.05:
            text = " ".join("the" if word in ("a", "an") else word for word in text.split())
        texts.append(TEMPLATES[rng.integers(len(TEMPLATES)) if rng.random() < 0.6 else 0].format(text))
        masks.append(mask)
    return [(encoding.ids, mask) for encoding, mask in zip(_TOKENIZER.encode_batch(texts), masks, strict=True)]
