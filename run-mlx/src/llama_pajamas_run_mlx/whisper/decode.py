"""From one window of audio to the tokens that a model hears in it.

After openai-whisper's ``decoding.py`` (https://github.com/openai/whisper, MIT licence).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.dsp.mel import HOP, N_SAMPLES, RATE, log_mel
from llama_pajamas_run_core.dsp.transcript import TIME_STEP, Token
from llama_pajamas_run_mlx.whisper.align import token_ends
from llama_pajamas_run_mlx.whisper.load import load_whisper
from llama_pajamas_run_mlx.whisper.vocabulary import Vocabulary

#: The latest time at which a window's first words may begin, in timestamp tokens.
_LATEST_START: Final = 50
#: With a short context, positions kept beyond the end of the audio, and what their number is a multiple of: as in
#: whisper.cpp, so that both hear the same.
_MARGIN, _MULTIPLE = 16, 256


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a model made of one window.

    Attributes:
        tokens: text and timestamps, in order.
        no_speech_prob: probability that there is no speech, 0 to 1.
        language: the language it was taken for.
    """

    tokens: tuple[Token, ...]
    no_speech_prob: float
    language: str


class Whisper:
    """A loaded model. Used from one thread.

    Args:
        path: the folder.
        dtype: what to compute in.
        short_context: encode only as much as there is audio, in place of always 30 seconds.

    Raises:
        LoadError: the folder is missing, damaged, or no MLX Whisper model.
    """

    def __init__(self, path: Path, *, dtype: str, short_context: bool) -> None:
        self._model, self.sizes, self.quantization = load_whisper(path, dtype)
        self.vocabulary = Vocabulary.of(self.sizes.n_vocab)
        self._short = short_context
        self._suppressed = [token for token in self.vocabulary.suppressed() if token < self.sizes.n_vocab]
        self._heads = [(int(layer), int(head)) for layer, head in np.array(self._model.alignment_heads)]

    def decode(
        self,
        samples: npt.NDArray[np.float32],
        *,
        language: str | None = None,
        translate: bool = False,
        prompt: str | None = None,
        temperature: float = 0.0,
        align: bool = False,
    ) -> Decoded:
        """Transcribe one window in one go.

        Args:
            samples: float32 at 16 kHz, at most 30 seconds.
            language: one of the vocabulary's, or None to detect it.
            translate: into English.
            prompt: text that precedes the audio.
            temperature: 0 takes the likeliest tokens; more draws them.
            align: whether tokens carry the time of their end.
        """
        audio = self._encode(samples)
        language = language or self._language(audio)
        opening = self.vocabulary.opening(language, translate=translate)
        tokens, silence = self._listen(audio, opening, self._previous(prompt), temperature)
        if align:
            tokens = self._align(audio, opening, tokens, len(samples) / RATE)
        return Decoded(tuple(tokens), silence, language)

    def detect_language(self, samples: npt.NDArray[np.float32]) -> str:
        """The language of a window."""
        return self._language(self._encode(samples))

    def _encode(self, samples: npt.NDArray[np.float32]) -> mx.array:
        pad_to = N_SAMPLES
        if self._short:
            positions = -(-len(samples) // (2 * HOP)) + _MARGIN
            pad_to = min(N_SAMPLES, 2 * HOP * (-(-positions // _MULTIPLE) * _MULTIPLE))
        mel = log_mel(samples, self.sizes.n_mels, pad_to)
        dtype = self._model.decoder.positional_embedding.dtype
        return self._model.encoder(mx.array(mel.T[None]).astype(dtype))

    def _language(self, audio: mx.array) -> str:
        vocabulary = self.vocabulary
        if not vocabulary.multilingual:
            return "en"
        logits, _, _ = self._model.decoder(mx.array([[vocabulary.start]]), audio)
        first = vocabulary.start + 1
        likely = logits[0, 0, first : first + len(vocabulary.languages)]
        return vocabulary.languages[int(mx.argmax(likely).item())]

    def _previous(self, prompt: str | None) -> list[int]:
        if not prompt or not prompt.strip():
            return []
        room = self.sizes.n_text_ctx // 2 - 1
        return [self.vocabulary.previous, *self.vocabulary.encode(f" {prompt.strip()}")[-room:]]

    def _listen(
        self, audio: mx.array, opening: list[int], previous: list[int], temperature: float
    ) -> tuple[list[Token], float]:
        """The tokens, and the probability that there is no speech."""
        vocabulary, said = self.vocabulary, [*previous, *opening]
        # The same audio gives the same words, also where they are drawn.
        random = np.random.default_rng(0)
        logits, cache, _ = self._model.decoder(mx.array([said]), audio)
        at_start = np.array(logits[0, len(previous)])
        silence = float(np.exp(at_start[vocabulary.no_speech] - _log_sum(at_start)))
        made: list[Token] = []
        for _ in range(min(self.sizes.n_text_ctx // 2, self.sizes.n_text_ctx - len(said))):
            scores = self._allow(np.array(logits[0, -1]), [token.id for token in made])
            logprobs = scores - _log_sum(scores)
            choice = int(scores.argmax()) if temperature == 0 else _draw(scores / temperature, random)
            if choice == vocabulary.end:
                break
            text = vocabulary.texts[choice] if choice < vocabulary.end else b""
            made.append(Token(choice, text, min(0.0, float(logprobs[choice]))))
            logits, cache, _ = self._model.decoder(mx.array([[choice]]), audio, cache)
        return made, silence

    def _allow(self, scores: npt.NDArray[np.float32], made: list[int]) -> npt.NDArray[np.float32]:
        """Logits [v] with -inf for what may not come next: Whisper's rules for times."""
        scores = scores.copy()
        first, end = self.vocabulary.first_time, self.vocabulary.end
        scores[self._suppressed] = -np.inf
        if not made:
            scores[:first] = -np.inf
            scores[first + _LATEST_START + 1 :] = -np.inf
            return scores
        last_is_time = made[-1] >= first
        pair = len(made) < 2 or made[-2] >= first
        if last_is_time and pair:
            scores[first:] = -np.inf
        elif last_is_time:
            scores[:end] = -np.inf
        times = [token for token in made if token >= first]
        # A segment's end may be the next one's beginning, but no segment is empty.
        earliest = times[-1] if last_is_time and not pair else times[-1] + 1
        scores[first:earliest] = -np.inf
        # Where times together are likelier than any word, a time comes next.
        if np.isfinite(scores[first:]).any() and _log_sum(scores[first:]) > scores[:first].max():
            scores[:first] = -np.inf
        return scores

    def _align(self, audio: mx.array, opening: list[int], tokens: list[Token], duration: float) -> list[Token]:
        """The tokens with their times; those of timestamps stay unknown."""
        said = [token.id for token in tokens if token.id < self.vocabulary.end]
        if not said:
            return tokens
        room = self.sizes.n_text_ctx - len(opening) - 2
        sequence = [*opening, self.vocabulary.no_times, *said[:room], self.vocabulary.end]
        _, _, seen = self._model.decoder(mx.array([sequence]), audio, scores=True)
        heard = mx.stack([seen[layer][0, head] for layer, head in self._heads]).astype(mx.float32)
        positions = max(1, min(heard.shape[-1], round(duration / TIME_STEP)))
        ends = token_ends(np.array(heard)[:, len(opening) : -1, :positions])
        times = iter(ends.tolist())
        return [
            replace(token, end=float(time) * TIME_STEP)
            if token.id < self.vocabulary.end and (time := next(times, None)) is not None
            else token
            for token in tokens
        ]


def _log_sum(scores: npt.NDArray[np.float32]) -> float:
    peak = scores.max()
    return float(peak + np.log(np.exp(scores - peak, dtype=np.float64).sum()))


def _draw(scores: npt.NDArray[np.float32], random: np.random.Generator) -> int:
    odds = np.exp(scores - scores.max(), dtype=np.float64)
    return int(random.choice(len(odds), p=odds / odds.sum()))
