"""From windows of audio to the tokens that a model hears in them.

After openai-whisper's ``decoding.py`` and ``transcribe.py`` (https://github.com/openai/whisper, MIT licence).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.dsp.mel import HOP, N_SAMPLES, RATE, log_mel
from llama_pajamas_run_core.dsp.transcript import TIME_STEP, Token, compression_ratio, decode, mean_logprob
from llama_pajamas_run_core.types.audio import TranscribeOptions
from llama_pajamas_run_core.whisper.align import token_ends
from llama_pajamas_run_core.whisper.model import WhisperModel
from llama_pajamas_run_core.whisper.rules import Rules, choose, log_sum
from llama_pajamas_run_core.whisper.vocabulary import Vocabulary

#: Tried one after the other until the result looks like speech, as OpenAI's implementation does.
_TEMPERATURES: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
#: A text that compresses better than this is the model repeating itself.
_MOST_COMPRESSION: Final = 2.4
#: A text that is less likely than this (mean log probability) is a guess.
_LEAST_LOGPROB: Final = -1.0
#: A guess at audio that is silence with this probability is made up.
_SILENCE: Final = 0.6
#: With a short context, positions kept beyond the end of the audio, and what their number is a multiple of: as in
#: whisper.cpp, so that both hear the same.
_MARGIN, _MULTIPLE = 16, 256

#: A time within this many seconds of the audio's end is the last: what a model says behind it is made up. whisper.cpp
#: stops there as well.
_LAST: Final = 0.1

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Heard:
    """What a model made of one window.

    Attributes:
        tokens: text and timestamps, in order.
        no_speech_prob: probability that there is no speech, 0 to 1.
        language: the language it was taken for.
        temperature: what it was decoded with.
    """

    tokens: tuple[Token, ...]
    no_speech_prob: float
    language: str
    temperature: float

    @property
    def is_silence(self) -> bool:
        """Whether it is a guess at audio without speech."""
        return self.no_speech_prob > _SILENCE and mean_logprob(self.tokens) < _LEAST_LOGPROB

    @property
    def is_doubtful(self) -> bool:
        """Whether it is worth another try at a higher temperature."""
        text = decode(self.tokens)
        repeats = bool(text) and compression_ratio(text) > _MOST_COMPRESSION
        return mean_logprob(self.tokens) < _LEAST_LOGPROB or repeats


class Whisper:
    """A model with what surrounds it. Used from one thread.

    Args:
        model: the loaded model.
        short_context: encode only as much as there is audio, in place of always 30 seconds, where the model can.
    """

    def __init__(self, model: WhisperModel, *, short_context: bool = False) -> None:
        self.model, self.vocabulary = model, Vocabulary.of(model.sizes.n_vocab)
        self._short = short_context and model.flexible
        self._asked: tuple[Samples, Any] | None = None  # whose language was asked for, and what it is encoded as
        self._rules = Rules(self.vocabulary, model.sizes.n_vocab)

    @property
    def first_time(self) -> int:
        """The token of the time 0.00."""
        return self.vocabulary.first_time

    def listen(self, windows: Sequence[Samples], options: TranscribeOptions) -> list[Heard]:
        """Transcribe windows in one go each.

        Args:
            windows: float32 at 16 kHz, at most 30 seconds each, at most ``model.windows`` of them.
            options: ``language`` is one of the vocabulary's, or None to detect it for each window.

        Returns:
            for each window the first result that looks like speech.
        """
        heard: dict[int, Heard] = {}
        waiting, audio, languages = list(range(len(windows))), None, [options.language] * len(windows)
        for temperature in temperatures(options):
            rows = [index for index in waiting if index not in heard]
            if not rows:
                break
            if audio is None or len(rows) < len(waiting):  # the others are done: what was encoded has their rows too
                audio, waiting = self._encode([windows[index] for index in rows]), rows
            self._detect(audio, rows, languages)
            said = [languages[index] or "en" for index in rows]
            durations = [len(windows[index]) / RATE for index in rows]
            found = self._decode(audio, said, durations, options, temperature)
            last = temperature == temperatures(options)[-1]
            good = [last or one.is_silence or not one.is_doubtful for one in found]
            if options.word_times:
                found = self._timed(audio, found, good, durations)
            heard |= {index: one for index, one, fine in zip(rows, found, good, strict=True) if fine}
        return [heard[index] for index in range(len(windows))]

    def detect_language(self, samples: Samples) -> str:
        """The language of a window."""
        languages: list[str | None] = [None]
        audio = self._encode([samples])
        self._detect(audio, [0], languages)
        self._asked = samples, audio
        return languages[0] or "en"

    def _encode(self, windows: Sequence[Samples]) -> Any:
        asked, self._asked = self._asked, None
        if asked is not None and len(windows) == 1 and np.array_equal(asked[0], windows[0]):
            return asked[1]  # who asks for the language is about to transcribe
        pad_to = N_SAMPLES
        if self._short:
            positions = -(-max(map(len, windows)) // (2 * HOP)) + _MARGIN
            pad_to = min(N_SAMPLES, 2 * HOP * (-(-positions // _MULTIPLE) * _MULTIPLE))
        return self.model.encode(np.stack([log_mel(one, self.model.sizes.n_mels, pad_to) for one in windows]))

    def _detect(self, audio: Any, rows: Sequence[int], languages: list[str | None]) -> None:
        """Fill in the languages that are not known."""
        vocabulary = self.vocabulary
        if all(languages[index] for index in rows):
            return
        if not vocabulary.multilingual:
            languages[:] = ["en"] * len(languages)
            return
        first = np.full((len(rows), 1), vocabulary.start, np.int32)
        logits = self.model.step(self.model.start(audio), first)
        likely = logits[:, vocabulary.start + 1 :][:, : len(vocabulary.languages)].argmax(1)
        for index, best in zip(rows, likely.tolist(), strict=True):
            languages[index] = languages[index] or vocabulary.languages[best]

    def _previous(self, prompt: str | None) -> list[int]:
        if not prompt or not prompt.strip():
            return []
        room = self.model.sizes.n_text_ctx // 2 - 1
        return [self.vocabulary.previous, *self.vocabulary.encode(f" {prompt.strip()}")[-room:]]

    def _decode(
        self,
        audio: Any,
        languages: Sequence[str],
        durations: Sequence[float],
        options: TranscribeOptions,
        temperature: float,
    ) -> list[Heard]:
        """What all rows of encoded audio say, decoded together."""
        vocabulary, model = self.vocabulary, self.model
        previous = self._previous(options.prompt)
        openings = [vocabulary.opening(one, translate=options.task == "translate") for one in languages]
        transcript = model.start(audio)
        begin = np.array([[*previous, opening[0]] for opening in openings], np.int32)
        logits = model.step(transcript, begin)
        silence = [float(np.exp(row[vocabulary.no_speech] - log_sum(row))) for row in logits]
        if len(openings[0]) > 1:
            logits = model.step(transcript, np.array([opening[1:] for opening in openings], np.int32))
        begun = len(previous) + len(openings[0])
        made = self._choose(transcript, logits, begun, durations, temperature)
        return [
            Heard(tuple(tokens), quiet, language, temperature)
            for tokens, quiet, language in zip(made, silence, languages, strict=True)
        ]

    def _choose(
        self,
        transcript: Any,
        logits: npt.NDArray[np.float32],
        begun: int,
        durations: Sequence[float],
        temperature: float,
    ) -> list[list[Token]]:
        """Token after token, for all rows, until each has ended."""
        sizes, end, texts = self.model.sizes, self.vocabulary.end, self.vocabulary.texts
        # The same audio gives the same words, also where they are drawn, and whatever it is batched with.
        randoms = [np.random.default_rng(0) for _ in logits]
        made: list[list[Token]] = [[] for _ in logits]
        ids: list[list[int]] = [[] for _ in logits]
        going = list(range(len(logits)))
        room = min(sizes.n_text_ctx // 2, sizes.n_text_ctx - begun)
        for place in range(room):
            chosen = np.full((len(logits), 1), end, np.int32)
            for row in list(going):
                self._rules.apply(logits[row], ids[row])
                choice, logprob = choose(logits[row], temperature, randoms[row])
                last = self._at_end(choice, ids[row], durations[row])
                if choice == end or last:
                    going.remove(row)
                if choice == end or (last and ids[row][-1] > end):  # no segment begins at the end
                    continue
                chosen[row] = choice
                ids[row].append(choice)
                made[row].append(Token(choice, texts[choice] if choice < end else b"", logprob))
            if not going or place == room - 1:
                break
            logits = self.model.step(transcript, chosen)
        return made

    def _at_end(self, choice: int, made: Sequence[int], duration: float) -> bool:
        """Whether a token is a time at the end of the audio, with something said before it."""
        first = self.vocabulary.first_time
        return len(made) > 1 and choice >= first and (choice - first) * TIME_STEP >= duration - _LAST

    def _timed(self, audio: Any, found: list[Heard], wanted: Sequence[bool], durations: Sequence[float]) -> list[Heard]:
        """The results, those wanted with the times of their tokens; the times of timestamps stay unknown."""
        vocabulary = self.vocabulary
        openings = [vocabulary.opening(one.language, translate=False) for one in found]
        begun = len(openings[0])
        room = self.model.sizes.n_text_ctx - begun - 2
        said = [
            [token.id for token in one.tokens if token.id < vocabulary.end][:room] if want else []
            for one, want in zip(found, wanted, strict=True)
        ]
        if not any(said):
            return found
        longest = max(map(len, said))
        tokens = np.full((len(found), begun + longest + 2), vocabulary.end, np.int32)
        for row, (opening, text) in enumerate(zip(openings, said, strict=True)):
            tokens[row, : begun + 1 + len(text)] = [*opening, vocabulary.no_times, *text]
        scores = self.model.align(audio, tokens)
        if scores is None:
            return found
        timed = []
        for row, (one, text, duration) in enumerate(zip(found, said, durations, strict=True)):
            positions = max(1, min(scores.shape[-1], round(duration / TIME_STEP)))
            ends = token_ends(scores[row, :, begun : begun + 1 + len(text), :positions]) if text else ()
            timed.append(replace(one, tokens=tuple(_with_ends(one.tokens, vocabulary.end, iter(ends)))))
        return timed


def temperatures(options: TranscribeOptions) -> tuple[float, ...]:
    """What is tried one after the other until the result looks like speech."""
    # 0 is what clients send who have no wish, and OpenAI's API takes it for "start with 0".
    return _TEMPERATURES if not options.temperature else (options.temperature,)


def _with_ends(tokens: Sequence[Token], end: int, places: Iterator[np.integer[Any]]) -> Iterator[Token]:
    for token in tokens:
        place = next(places, None) if token.id < end else None
        yield token if place is None else replace(token, end=float(place) * TIME_STEP)
