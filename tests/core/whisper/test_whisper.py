"""Whisper's decoding, on a network that recites: rows of a batch, fallback, alignment, and what a runtime is asked."""

from dataclasses import replace

import numpy as np
import pytest
from support import tiny_whisper
from support.whisper_checkpoint import GERMAN, recital, sizes

from llama_pajamas_run_core.backends.whisper import WhisperSTTBackend
from llama_pajamas_run_core.errors import BadInput, InferenceError, LoadError
from llama_pajamas_run_core.testing.stt import STTContract, babble
from llama_pajamas_run_core.types.audio import Audio, TranscribeOptions
from llama_pajamas_run_core.whisper.cache import HIDDEN, Places
from llama_pajamas_run_core.whisper.decode import Whisper
from llama_pajamas_run_core.whisper.sizes import Dimensions, alignment_heads
from llama_pajamas_run_core.whisper.transcribe import transcribe
from llama_pajamas_run_core.whisper.vocabulary import Vocabulary

TINY = dict.fromkeys(("n_mels", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer"), 2) | dict.fromkeys(
    ("n_vocab", "n_text_ctx", "n_text_state", "n_text_head", "n_text_layer"), 4
)


class Reciter:
    """A network in numpy whose state at a position is that position's embedding. It checks what it is asked."""

    def __init__(self, transcript=tiny_whisper.TRANSCRIPT, *, windows=1, flexible=True, attends=True, **options):
        vocabulary, self.embedding, self.positions = recital(transcript, **options)
        self.sizes = Dimensions(**sizes(vocabulary))
        self.windows, self.flexible, self.attends = windows, flexible, attends
        self.frames: list[int] = []
        self.batches: list[int] = []
        self.steps: list[int] = []
        self.closed = False
        self._audio = self._transcript = 0
        self._past = self._rows = 0

    def encode(self, mel):
        assert mel.dtype == np.float32
        assert mel.shape[1] == 80
        assert mel.shape[0] <= self.windows
        self.frames.append(mel.shape[2])
        self.batches.append(len(mel))
        self._audio += 1
        self._rows = len(mel)
        return self._audio

    def start(self, audio):
        assert audio == self._audio, "the audio of an earlier batch was used"
        self._transcript, self._past = self._transcript + 1, 0
        return self._transcript

    def step(self, transcript, tokens):
        assert transcript == self._transcript, "an earlier transcript was used"
        assert tokens.shape[0] == self._rows
        assert tokens.dtype == np.int32
        self.steps.append(tokens.shape[1])
        self._past += tokens.shape[1]
        assert self._past <= self.sizes.n_text_ctx
        state = self.positions[self._past - 1] + self.embedding[tokens[:, -1]]
        state = (state - state.mean(1, keepdims=True)) / np.sqrt(state.var(1, keepdims=True) + 1e-5)
        return (state @ self.embedding.T).astype(np.float32)

    def align(self, audio, tokens):
        assert audio == self._audio
        if not self.attends:
            return None
        # Each token attends to a place ten positions behind the one before.
        scores = np.full((len(tokens), 1, tokens.shape[1], self.frames[-1] // 2), -20.0, np.float32)
        for place in range(tokens.shape[1]):
            scores[:, :, place, 10 * place : 10 * place + 10] = 20.0
        return scores

    def close(self):
        self.closed = True


class ReciterBackend(WhisperSTTBackend):
    runtime = "reciter"
    _options = ("network",)

    def _open(self, path, **options):
        if path.name != "reciter":
            raise LoadError(f"There is no network {path}.")
        return options["network"]


def backend(model, **options):
    return ReciterBackend("reciter", network=model, **options)


class TestContract(STTContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls):
        return lambda: backend(Reciter(windows=3), short_context=True)


@pytest.mark.parametrize("windows", [1, 2, 8])
def test_a_batch_says_what_each_window_says(windows):
    pause = np.zeros(6 * 16_000, np.float32)
    long = Audio(np.concatenate([part for _ in range(5) for part in (babble(2.5).samples, pause)]), 16_000)
    model = Reciter(windows=windows)
    with backend(model) as ears:
        made = ears.transcribe(long, word_times=True)
        assert ears.details["windows"] == windows
    assert [one.text for one in made.segments] == ["Hello brave world.", "Goodbye."] * 5
    starts = [one.start for one in made.segments[::2]]
    assert starts == pytest.approx([0.0, 8.3, 16.8, 25.3, 33.8], abs=0.03)  # 0.2 s before each sound
    assert model.batches == {1: [1] * 5, 2: [2, 2, 1], 8: [5]}[windows]
    assert set(model.frames) == {3000}
    assert model.closed


def test_a_batch_with_several_tokens_to_begin_with():
    model = Reciter(GERMAN, windows=2, language=2)
    whisper = Whisper(model)
    heard = whisper.listen([babble(2.0).samples] * 2, TranscribeOptions(prompt="Guten Tag"))
    assert [one.language for one in heard] == ["de", "de"]
    # To detect the language one token; then the prompt with the start, the rest of the opening, and token after token.
    prompt = len(whisper.vocabulary.encode(" Guten Tag")) + 1
    assert model.steps[:3] == [1, prompt + 1, 2]
    assert set(model.steps[3:]) <= {1, 2, prompt + 1}
    assert model.batches == [2]


def test_a_window_whose_language_was_asked_for_is_not_encoded_again():
    model = Reciter(GERMAN, language=2)
    whisper, said, other = Whisper(model), babble(2.0).samples, babble(2.5).samples
    for _ in range(2):
        assert whisper.detect_language(said) == "de"
    assert model.batches == [1]
    (heard,) = whisper.listen([said.copy()], TranscribeOptions(language="de", word_times=True))
    assert model.batches == [1]
    assert [heard] == whisper.listen([said], TranscribeOptions(language="de", word_times=True))
    assert model.batches == [1, 1]  # it is kept for the next question alone
    whisper.detect_language(said)
    whisper.listen([other], TranscribeOptions(language="de"))
    assert model.batches == [1, 1, 1, 1]


def test_only_doubtful_windows_are_asked_again():
    """The second window of three is doubtful until the third temperature."""

    class Wavering(Reciter):
        tries = 0

        def encode(self, mel):
            self.tries += 1
            return super().encode(mel)

        def step(self, transcript, tokens):
            logits = super().step(transcript, tokens)
            if self.tries == 1:
                logits[1] *= 0.1  # far from sure
            return logits

    model = Wavering(windows=3)
    heard = Whisper(model).listen([babble(2.0).samples] * 3, TranscribeOptions(word_times=True))
    assert model.batches == [3, 1]
    assert [one.temperature for one in heard] == [0.0, 0.2, 0.0]
    assert all(token.end is not None for one in heard for token in one.tokens if token.text)
    assert heard[0].tokens == heard[2].tokens


def test_all_windows_in_doubt_are_not_encoded_again():
    model = Reciter(windows=2, confidence=0.2)
    heard = Whisper(model).listen([babble(2.0).samples] * 2, TranscribeOptions())
    assert model.batches == [2]
    assert heard[0].temperature > 0
    assert heard[0] == heard[1]  # each row draws for itself
    alone = Whisper(Reciter(confidence=0.2)).listen([babble(2.0).samples], TranscribeOptions())
    assert [token.id for token in alone[0].tokens] == [token.id for token in heard[0].tokens]


def test_windows_that_break_off_are_listened_to_again_together():
    model = Reciter((((" One", "."), 0.0, 1.0), ((), 1.0, None)), windows=2)
    made = transcribe(Whisper(model), [babble(2.6).samples, babble(1.2).samples], TranscribeOptions())
    assert [[one.start for one in row] for row in made] == [[0.0, 1.0, 2.0], [0.0]]
    assert model.batches == [2, 1, 1]


def test_nothing_is_said_behind_the_end_of_the_audio():
    whisper = Whisper(Reciter(windows=2))
    heard = whisper.listen([babble(0.85).samples, babble(1.0).samples], TranscribeOptions())
    texts = [b"".join(token.text for token in one.tokens).decode() for one in heard]
    assert texts == [" Hello brave world.", " Hello brave world. Goodbye."]


def test_words_end_where_the_attention_says():
    model = Reciter()
    made = transcribe(Whisper(model), [babble(4.0).samples], TranscribeOptions(word_times=True))[0]
    # The opening is one token, and the first text token stands behind "no times": its end is where the next begins.
    ends = [word.end for segment in made for word in segment.words]
    assert ends[:2] == pytest.approx([0.4, 0.6], abs=0.021)
    model.attends = False
    untold = transcribe(Whisper(model), [babble(4.0).samples], TranscribeOptions(word_times=True))[0]
    assert [word.text for segment in untold for word in segment.words] == ["Hello", "brave", "world.", "Goodbye."]
    assert untold[0].words[-1].end == pytest.approx(0.8 * 18 / 19)  # the mark takes a share, and is no part of it


@pytest.mark.parametrize(("flexible", "frames"), [(True, 512), (False, 3000)])
def test_a_short_context_is_for_those_that_can(flexible, frames):
    model = Reciter(flexible=flexible)
    Whisper(model, short_context=True).listen([babble(2.0).samples], TranscribeOptions())
    assert model.frames == [frames]


def test_unknown_options_are_named():
    with pytest.raises(BadInput, match="threads.*network, short_context"):
        backend(Reciter(), threads=2)


def test_a_vocabulary_is_whispers():
    english, many = Vocabulary.of(51_864), Vocabulary.of(51_865)
    assert (english.end, english.first_time, english.no_times) == (50_256, 50_363, 50_362)
    assert (many.end, many.first_time, many.transcribe, many.language("de")) == (50_257, 50_364, 50_359, 50_261)
    assert Vocabulary.of(51_866).languages[-1] == "yue"


def test_sizes_under_both_names():
    theirs = {
        "num_mel_bins": 2, "max_source_positions": 2, "d_model": 4, "encoder_attention_heads": 2, "encoder_layers": 2,
        "vocab_size": 4, "max_target_positions": 4, "decoder_attention_heads": 4, "decoder_layers": 4,
    }  # fmt: skip
    made = Dimensions.of(theirs)
    assert made == Dimensions.of({"dimensions": TINY | {"n_audio_state": 4}})
    assert made.last_layers == tuple((layer, head) for layer in (2, 3) for head in range(4))
    assert alignment_heads([[3, 1], [0, 2]], made) == ((0, 2), (3, 1))
    assert alignment_heads(None, made) == made.last_layers


@pytest.mark.parametrize(
    ("config", "said"),
    [({}, "num_mel_bins"), (TINY | {"n_text_head": 3}, "n_text_head is 3"), (TINY | {"n_mels": 0}, "n_mels is 0")],
)
def test_senseless_sizes_are_named(config, said):
    with pytest.raises(LoadError, match=said):
        Dimensions.of(config)


@pytest.mark.parametrize("pairs", [[[4, 0]], [[0, 4]], [[1]], "heads"])
def test_senseless_heads_are_named(pairs):
    with pytest.raises(LoadError, match="alignment_heads"):
        alignment_heads(pairs, Dimensions(**TINY))


def test_places_in_a_cache():
    made = Places.of(past=1, count=2, room=4)
    assert made.positions.tolist() == [1, 2]
    assert made.write.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]
    assert made.mask.tolist() == [[0, 0, HIDDEN, HIDDEN], [0, 0, 0, HIDDEN]]
    with pytest.raises(ValueError, match="do not fit"):
        Places.of(past=3, count=2, room=4)


@pytest.mark.parametrize("temperature", [None, 0.7])
def test_a_network_that_overflows_is_an_error(temperature):
    class Overflowing(Reciter):
        def step(self, transcript, tokens):
            return np.full_like(super().step(transcript, tokens), np.nan)

    with backend(Overflowing()) as ears, pytest.raises(InferenceError, match="not numbers"):
        ears.transcribe(babble(2.0), temperature=temperature)


def test_a_vocabulary_that_is_none_of_whispers_is_refused_and_the_network_freed():
    model = Reciter()
    model.sizes = replace(model.sizes, n_vocab=32_000)
    with pytest.raises(LoadError, match="32000 tokens"):
        backend(model)
    assert model.closed
