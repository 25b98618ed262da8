import random

import pytest

from llama_pajamas_run_core.text.sentences import MAX_DENSE_PIECE, MAX_PIECE, SentenceSplitter, split_sentences

TEXTS = {
    "Hello there. How are you? Fine!": ["Hello there.", "How are you?", "Fine!"],
    "Dr. Smith paid $3.50 at 5 p.m. today. He left.": ["Dr. Smith paid $3.50 at 5 p.m. today.", "He left."],
    "Mr. and Mrs. J. R. Doe vs. St. Louis. Next.": ["Mr. and Mrs. J. R. Doe vs. St. Louis.", "Next."],
    "U.S. troops left the U.S. They went home.": ["U.S. troops left the U.S.", "They went home."],
    "Apples, pears, etc. are fruit. Bring etc. Then go.": ["Apples, pears, etc. are fruit.", "Bring etc.", "Then go."],
    "Take No. 5, e.g. tomorrow. So do I. No. Never.": ["Take No. 5, e.g. tomorrow.", "So do I.", "No.", "Never."],
    "He left... then came back! “Really?” she asked. Yes…": [
        "He left... then came back!",
        "“Really?” she asked.",
        "Yes…",
    ],
    'She said "Stop." Then (it seems.) he did. "Why?" **Because.** Good.': [
        'She said "Stop."',
        "Then (it seems.) he did.",
        '"Why?"',
        "**Because.**",
        "Good.",
    ],
    "See http://a.b/c.d?x=1.5!y and v1.2.3. Done.": ["See http://a.b/c.d?x=1.5!y and v1.2.3.", "Done."],
    "1. First item\n2. Second item\n- Third": ["1. First item", "2. Second item", "- Third"],
    "A line that\nwas wrapped. And\n\na new paragraph": ["A line that was wrapped.", "And", "a new paragraph"],
    "Wait?! What?!! Oh.": ["Wait?!", "What?!!", "Oh."],
    "你好。今天天气很好！「是吗？」他说。": ["你好。", "今天天气很好！", "「是吗？」", "他说。"],
    "هل أنت بخير؟ نعم۔ حسنا": ["هل أنت بخير؟", "نعم۔", "حسنا"],
    "यह अच्छा है। हाँ।": ["यह अच्छा है।", "हाँ।"],
    "¿Qué tal? ¡Muy bien! El Sr. López es la Sra. no.": ["¿Qué tal?", "¡Muy bien!", "El Sr. López es la Sra. no."],
    "Das kostet z.B. 3,50 Euro. Ja.": ["Das kostet z.B. 3,50 Euro.", "Ja."],
    "Hi 🙂. 🙂 !!! --- Bye": ["Hi 🙂.", "--- Bye"],
    "  spaces \t and\u00a0more  ": ["spaces and more"],
    "no end": ["no end"],
    "": [],
    " \n\n ": [],
    "... !!! 🙂 —": [],
}


def streamed(text, seed, **options):
    rng = random.Random(seed)
    splitter = SentenceSplitter(**options)
    pieces = []
    while text:
        size = rng.choice([1, 1, 2, 3, 5, 8, 40])
        pieces += splitter.push(text[:size])
        text = text[size:]
    return [*pieces, *splitter.flush()]


@pytest.mark.parametrize("text", TEXTS)
def test_sentences(text):
    assert split_sentences(text) == TEXTS[text]


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_in_which_a_text_comes_change_nothing(text):
    for seed in range(10):
        assert streamed(text, seed, early=False) == TEXTS[text]


LONG = {
    "commas": "one two three, four five six; " * 40,
    "spaces": "word " * 300,
    "nothing": "x" * 1000,
    "Chinese": "这是一个很长的句子，" * 40,
    "Thai": "สวัสดีครับ " * 60,
    "Japanese without marks": "あいうえお" * 60,
    "emoji": "👩‍👩‍👧a" * 120,
    "late comma": "a" * 200 + ", " + "b " * 200,
}


@pytest.mark.parametrize("name", LONG)
def test_what_is_too_long_is_cut(name):
    text = LONG[name]
    pieces = split_sentences(text)
    dense = name in ("Chinese", "Thai", "Japanese without marks")
    assert all(len(piece) <= (MAX_DENSE_PIECE if dense else MAX_PIECE) for piece in pieces)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    assert len(pieces) < len(text) / 20
    for seed in range(3):
        assert streamed(text, seed, early=False) == pieces


def test_long_sentences_are_cut_at_commas_and_never_within_words():
    assert all(piece.endswith((",", ";")) for piece in split_sentences(LONG["commas"]))
    assert {word for piece in split_sentences(LONG["spaces"]) for word in piece.split()} == {"word"}
    assert all(piece.endswith("，") for piece in split_sentences(LONG["Chinese"]))
    assert split_sentences("a\u0301" * 300)[1][0] == "a"  # an accent stays with its letter


def test_the_first_clause_comes_early():
    splitter = SentenceSplitter()
    assert splitter.push("Well, the capital of France") == []
    assert splitter.push(" is Paris, which") == ["Well, the capital of France is Paris,"]
    assert splitter.push(" is, as you may know, a large city. And") == ["which is, as you may know, a large city."]
    assert splitter.flush() == ["And"]
    assert SentenceSplitter(early=False).push("Well, the capital of France is Paris, which") == []


def test_numbers_are_no_clauses():
    assert SentenceSplitter().push("It is about a total of 1,234,567:30 items and") == []


def test_a_sentence_comes_with_the_character_behind_it():
    splitter = SentenceSplitter()
    assert splitter.push("Hello there.") == []
    assert splitter.push(" ") == []
    assert splitter.push("H") == ["Hello there."]
    splitter = SentenceSplitter()
    assert splitter.push("你好。") == []
    assert splitter.push("今") == ["你好。"]


@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_lost_whatever_comes(seed):
    rng = random.Random(seed)
    parts = [*"abcXYZ 123.,;:!?…。，\n\t\"'()*-", "Dr. ", "e.g. ", "\n\n", "word ", "你好", "ก", "🙂", "\u0301", "\x00"]
    text = "".join(rng.choices(parts, k=rng.randrange(1, 1500)))
    for early in (False, True):
        pieces = streamed(text, seed, early=early)
        joined = "".join(character for piece in pieces for character in piece if character.isalnum())
        assert joined == "".join(character for character in text if character.isalnum())
        assert all(piece == " ".join(piece.split()) for piece in pieces)
        assert max((len(piece) for piece in pieces), default=0) <= MAX_PIECE
    assert streamed(text, seed, early=False) == split_sentences(text)


@pytest.mark.timeout(10)
def test_a_book_takes_a_moment():
    assert len(split_sentences("It was a dark and stormy night. The rain fell.\n" * 20_000)) == 40_000
