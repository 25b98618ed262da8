"""Speech to text with Whisper models in whisper.cpp's format."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.backends.stt import STTBackend
from llama_pajamas_run_core.dsp.transcript import Stretch, compression_ratio, cut, decode, mean_logprob, words
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.audio import Audio, Segment, TranscribeOptions, Word
from llama_pajamas_run_gguf._whisper import Decoded, Whisper

#: Tried one after the other until the result looks like speech, as OpenAI's implementation does.
_TEMPERATURES: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
#: A text that compresses better than this is the model repeating itself.
_MOST_COMPRESSION: Final = 2.4
#: A text that is less likely than this (mean log probability) is a guess.
_LEAST_LOGPROB: Final = -1.0
#: A guess at audio that is silence with this probability is made up.
_SILENCE: Final = 0.6
#: Seconds of audio that are not worth listening to again.
_REST: Final = 0.5

_OPTIONS: Final = ("threads", "gpu", "beam_size", "short_context")


class GGUFSTTBackend(STTBackend):
    """A Whisper model in whisper.cpp's ggml format: OpenAI's, distilled or fine-tuned ones, also quantized.

    Args:
        model: the .bin file.
        options: ``threads`` (default: the physical cores), ``gpu`` (default True: use one where whisper.cpp was built
            for it), ``beam_size`` (default 1: greedy), ``short_context`` (default False; True encodes only as much as
            there is audio, not always 30 seconds: several times faster for short audio, but some models then repeat
            themselves).

    Raises:
        BadInput: there is no such file, it is none of whisper.cpp's, or an option is unknown.
        LoadError: the file is damaged.
    """

    runtime = "gguf"

    _whisper: Whisper

    def _load(self, path: Path, **options: Any) -> None:
        if unknown := sorted(set(options) - set(_OPTIONS)):
            raise BadInput(f"Unknown options: {', '.join(unknown)}.", hint=f"There are: {', '.join(_OPTIONS)}.")
        for name in ("threads", "beam_size"):
            if options.get(name) is not None and options[name] < 1:
                raise BadInput(f"{name} must be at least 1, not {options[name]}.", param=name)
        self._whisper = Whisper(path, **options)

    def _unload(self) -> None:
        self._whisper.close()

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes of the languages that the loaded model understands."""
        self._ready()
        return self._whisper.languages

    @property
    def translates(self) -> bool:
        """Whether the loaded model translates into English; one that knows English alone trivially does."""
        return True

    @property
    def details(self) -> Mapping[str, Any]:
        """The device it runs on and the model's size."""
        if not self.loaded:
            return {}
        whisper, header = self._whisper, self._whisper.header
        return {
            "device": whisper.device,
            "threads": whisper.threads,
            "precision": whisper.precision,
            "multilingual": whisper.multilingual,
            "encoder_layers": header.n_audio_layer,
            "decoder_layers": header.n_text_layer,
        }

    def _language(self, audio: Audio) -> str:
        return self._whisper.detect_language(audio.samples)

    def _transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        start = 0.0
        while (left := audio.duration - start) > _REST or start == 0.0:
            heard, temperature = self._decode(Audio(audio.samples[round(start * audio.rate) :], audio.rate), options)
            stretches, again = cut(heard.tokens, self._whisper.first_time, left)
            if _is_silence(heard):
                stretches = []
            for stretch in stretches:
                timed = words(stretch, heard.language) if options.word_times else ()
                yield _segment(stretch, timed, start, heard, temperature)
            if again is None or again < _REST:
                return
            start += again

    def _decode(self, audio: Audio, options: TranscribeOptions) -> tuple[Decoded, float]:
        """The first result that looks like speech, and the temperature that made it."""
        asked = options.temperature
        # 0 is what clients send who have no wish, and OpenAI's API takes it for "start with 0".
        temperatures = _TEMPERATURES if asked is None or asked == 0 else (asked,)
        for temperature in temperatures:
            heard = self._whisper.decode(
                audio.samples,
                language=options.language,
                translate=options.task == "translate",
                prompt=options.prompt,
                temperature=temperature,
                align=options.word_times,
            )
            if _is_silence(heard) or not _is_doubtful(heard):
                break
        return heard, temperature


def _is_doubtful(heard: Decoded) -> bool:
    text = decode(heard.tokens)
    return mean_logprob(heard.tokens) < _LEAST_LOGPROB or (bool(text) and compression_ratio(text) > _MOST_COMPRESSION)


def _is_silence(heard: Decoded) -> bool:
    return heard.no_speech_prob > _SILENCE and mean_logprob(heard.tokens) < _LEAST_LOGPROB


def _segment(stretch: Stretch, timed: tuple[Word, ...], offset: float, heard: Decoded, temperature: float) -> Segment:
    return Segment(
        text=stretch.text,
        start=stretch.start + offset,
        end=stretch.end + offset,
        words=tuple(Word(word.text, word.start + offset, word.end + offset, word.probability) for word in timed),
        tokens=tuple(token.id for token in stretch.tokens),
        avg_logprob=mean_logprob(heard.tokens),
        no_speech_prob=heard.no_speech_prob,
        compression_ratio=compression_ratio(decode(heard.tokens)),
        temperature=temperature,
    )
