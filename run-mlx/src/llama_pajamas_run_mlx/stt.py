"""Speech to text with Whisper models in MLX's format."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import mlx.core as mx

from llama_pajamas_run_core.backends.owner import OwnerThread
from llama_pajamas_run_core.backends.stt import STTBackend
from llama_pajamas_run_core.dsp.transcript import Stretch, compression_ratio, cut, decode, mean_logprob, words
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.audio import Audio, Segment, TranscribeOptions, Word
from llama_pajamas_run_mlx._session import DTYPES, SharedThread, as_fault
from llama_pajamas_run_mlx.whisper.decode import Decoded, Whisper

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

_OPTIONS: Final = ("dtype", "short_context")


class MLXSTTBackend(STTBackend):
    """A Whisper model in mlx-whisper's format: OpenAI's, distilled or fine-tuned ones, also quantized.

    Args:
        model: the folder, with config.json and weights.safetensors or weights.npz.
        options: ``dtype`` ("float16", "float32" or "bfloat16"; default: float16 on a GPU, float32 on a CPU),
            ``short_context`` (default False; True encodes only as much as there is audio, not always 30 seconds:
            several times faster for short audio, but some models then repeat themselves).

    Raises:
        BadInput: an option is unknown.
        LoadError: the folder is missing, damaged, or no MLX Whisper model.
    """

    runtime: ClassVar[str] = "mlx"

    _whisper: Whisper

    def _open_thread(self) -> OwnerThread:
        return SharedThread()

    def _load(self, path: Path, **options: Any) -> None:
        if unknown := sorted(set(options) - set(_OPTIONS)):
            raise BadInput(f"Unknown options: {', '.join(unknown)}.", hint=f"There are: {', '.join(_OPTIONS)}.")
        self._device = "gpu" if mx.default_device() == mx.gpu else "cpu"
        self._dtype = options.get("dtype") or ("float16" if self._device == "gpu" else "float32")
        if self._dtype not in DTYPES:
            raise BadInput(f"dtype is one of {', '.join(DTYPES)}, not {self._dtype!r}.", param="dtype")
        self._whisper = Whisper(path, dtype=self._dtype, short_context=bool(options.get("short_context")))

    def _unload(self) -> None:
        del self._whisper
        mx.clear_cache()

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes of the languages that the loaded model understands."""
        self._ready()
        vocabulary = self._whisper.vocabulary
        return vocabulary.languages if vocabulary.multilingual else ("en",)

    @property
    def translates(self) -> bool:
        """Whether the loaded model translates into English; one that knows English alone trivially does."""
        return True

    @property
    def details(self) -> Mapping[str, Any]:
        """The device it runs on and the model's size."""
        if not self.loaded:
            return {}
        whisper = self._whisper
        return {
            "device": self._device,
            "dtype": self._dtype,
            "bits": whisper.quantization.get("bits"),
            "multilingual": whisper.vocabulary.multilingual,
            "encoder_layers": whisper.sizes.n_audio_layer,
            "decoder_layers": whisper.sizes.n_text_layer,
        }

    def _language(self, audio: Audio) -> str:
        return self._whisper.detect_language(audio.samples)

    def _transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        start = 0.0
        while (left := audio.duration - start) > _REST or start == 0.0:
            heard, temperature = self._decode(Audio(audio.samples[round(start * audio.rate) :], audio.rate), options)
            stretches, again = cut(heard.tokens, self._whisper.vocabulary.first_time, left)
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
            try:
                heard = self._whisper.decode(
                    audio.samples,
                    language=options.language,
                    translate=options.task == "translate",
                    prompt=options.prompt,
                    temperature=temperature,
                    align=options.word_times,
                )
            except (RuntimeError, ValueError, MemoryError) as error:
                raise as_fault(error) from error
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
