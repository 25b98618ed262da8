import re

import pytest

from llama_pajamas_run_core.codecs.subtitles import cues, to_srt, to_vtt
from llama_pajamas_run_core.types.audio import Segment, Transcript, Word


def spoken(text, start, end, *, space=True):
    parts = text.split() if space else list(text)
    step = (end - start) / len(parts)
    words = tuple(Word(part, start + i * step, start + (i + 1) * step) for i, part in enumerate(parts))
    return Segment(text, start, end, words=words)


def transcript(*segments, duration=None):
    return Transcript(segments, "en", segments[-1].end if duration is None else duration)


def test_srt():
    made = to_srt(transcript(Segment("Hello there.", 0.0, 1.5), Segment("Goodbye.", 3725.0, 3726.25)))
    assert made == ("1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n2\n01:02:05,000 --> 01:02:06,250\nGoodbye.\n")


def test_vtt():
    made = to_vtt(transcript(Segment("Hello there.", 0.0, 1.5), Segment("Goodbye.", 3725.0, 3726.25)))
    assert made == "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there.\n\n01:02:05.000 --> 01:02:06.250\nGoodbye.\n"


def test_nothing_said():
    nothing = Transcript((), "en", 2.0)
    assert to_srt(nothing) == ""
    assert to_vtt(nothing) == "WEBVTT\n\n"
    assert to_srt(transcript(Segment("  ", 0, 1), Segment("x", 1, 2))).startswith("1\n00:00:01,000")


def test_seconds_are_rounded_with_a_carry():
    assert "00:00:59,999 --> 00:01:00,000" in to_srt(transcript(Segment("x", 59.9985001, 59.9996), duration=60))


@pytest.mark.parametrize("text", ["a\n\nb", "a\r\n2\n00:00 --> 00:01\nb", "a\u2028b"])
def test_no_text_breaks_the_format(text):
    segments = transcript(Segment(text, 0, 1))
    for made in (to_srt(segments), to_vtt(segments).removeprefix("WEBVTT\n\n")):
        assert made.count("-->") == 1
        assert "\n\n" not in made
    assert "&lt;b&gt; &amp;" in to_vtt(transcript(Segment("<b> & c", 0, 1)))
    assert "<b> & c" in to_srt(transcript(Segment("<b> & c", 0, 1)))


def test_times_rise_and_stay_within_the_audio():
    segments = [Segment("a", 0, 2), Segment("b", 1.5, 1.8), Segment("c", 1.0, 4.0), Segment("d", 3.9, 9.0)]
    made = cues(transcript(*segments, duration=5.0))
    assert [cue.text for cue in made] == ["a", "b", "c", "d"]
    times = [time for cue in made for time in (cue.start, cue.end)]
    assert times == sorted(times)
    assert times[-1] == 5000


def test_long_segments_are_cut_where_words_have_times():
    text = (
        "This is the first sentence, and it is a rather long one. Here is a second one that goes on and on without "
        "any stop or comma so that it has to be cut somewhere in the middle of what it says. Short. End."
    )
    made = cues(transcript(spoken(text, 10.0, 28.0)))
    assert " ".join(cue.text for cue in made) == text
    assert made[0].text == "This is the first sentence, and it is a rather long one."
    assert all(len(cue.text) <= 84 for cue in made)
    assert all(cue.end - cue.start <= 7000 for cue in made)
    assert (made[0].start, made[-1].end) == (10_000, 28_000)
    assert [cue.start for cue in made] == sorted(cue.start for cue in made)


def test_a_long_segment_without_words_stays_whole():
    made = cues(transcript(Segment("word " * 60, 0, 30)))
    assert [(cue.start, cue.end) for cue in made] == [(0, 30_000)]


def test_languages_without_spaces():
    text = "今日はとても良い天気ですね。" * 10
    made = cues(transcript(spoken(text, 0, 20, space=False)))
    assert "".join(cue.text for cue in made) == text
    assert len(made) > 2
    assert all(re.search("。$", cue.text) for cue in made)


def test_words_that_are_not_the_text_are_joined():
    words = tuple(Word(f"word{i}", i, i + 1) for i in range(20))
    made = cues(transcript(Segment("something else " * 8, 0, 20, words=words)))
    assert " ".join(cue.text for cue in made) == " ".join(word.text for word in words)
    assert len(made) >= 3
