import pytest

from llama_pajamas_run_core.text.reasoning import TAGS, ReasoningSplitter, tags_of


def split(text, size, prompt="", tags=TAGS[0]):
    splitter = ReasoningSplitter(tags, prompt)
    pieces = [splitter.push(text[i : i + size]) for i in range(0, len(text), size)]
    pieces.append(splitter.flush())
    return tuple("".join(part) for part in zip(*pieces, strict=True))


CASES = [
    ("<think>\nhmm, a < b\n\n</think>\n\nHello. ", "", ("hmm, a < b", "Hello. ")),
    ("\n<think>two\n\nparagraphs</think>yes", "", ("two\n\nparagraphs", "yes")),
    ("so it is\n</think>\nyes", "...assistant\n<think>\n", ("so it is", "yes")),
    ("<think></think>x", "", ("", "x")),
    ("<think>\n\n</think>\n\n", "", ("", "")),
    ("plain", "", ("", "plain")),
    ("what is <think>x</think>?", "", ("", "what is <think>x</think>?")),
    ("<thi", "", ("", "<thi")),
    ("<thing>", "", ("", "<thing>")),
    ("  \n", "", ("", "  \n")),
    ("<think>broken off </thi", "", ("broken off </thi", "")),
    ("<think>a</think>b<think>c</think>", "", ("a", "b<think>c</think>")),
    ("a </ think> b</think>c", "<think>", ("a </ think> b", "c")),
]


@pytest.mark.parametrize(("text", "prompt", "expected"), CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_reasoning_and_answer(text, prompt, expected, size):
    assert split(text, size, prompt) == expected


def test_other_tags():
    assert split("[THINK]why[/THINK]so", 2, tags=TAGS[1]) == ("why", "so")


def test_an_answer_without_reasoning_passes_at_once():
    splitter = ReasoningSplitter()
    assert [splitter.push(text) for text in ("H", "i ", "<", " x ")] == [("", "H"), ("", "i "), ("", "<"), ("", " x ")]


def test_reasoning_and_answer_pass_as_they_come():
    splitter = ReasoningSplitter()
    assert splitter.push("<think>") == ("", "")
    assert splitter.push("one") == ("one", "")
    assert splitter.push(" two<") == (" two", "")
    assert splitter.push(" three") == ("< three", "")
    assert splitter.push("</think>\n\nyes ") == ("", "yes ")
    assert splitter.push(" no") == ("", " no")
    assert splitter.flush() == ("", "")


def test_templates():
    assert tags_of("{% if enable_thinking %}<think>\n\n</think>{% endif %}") == TAGS[0]
    assert tags_of("{{ content.split('</think>')[-1] }}") == TAGS[0]
    assert tags_of("[THINK]") == TAGS[1]
    assert tags_of("<|im_start|>assistant\n") is None
