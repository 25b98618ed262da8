"""The one file that talks to whisper.cpp, through the bindings of pywhispercpp."""

import atexit
import ctypes
import logging
import re
from collections import deque
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.ggml import check_ggml_whisper
from llama_pajamas_run_core.dsp.transcript import Token
from llama_pajamas_run_core.errors import InferenceError, LoadError, MissingDependency, OutOfMemory
from llama_pajamas_run_core.types.audio import TranscribeOptions
from llama_pajamas_run_core.whisper.decode import Heard, temperatures
from llama_pajamas_run_gguf.threads import default_threads

try:
    import _pywhispercpp as native
except ImportError as error:
    raise MissingDependency(
        "Whisper models", package="pywhispercpp", install="uv pip install 'llama-pajamas-run-gguf[stt]'"
    ) from error

logger = logging.getLogger(__name__)

RATE: Final = 16_000
#: Seconds that whisper.cpp is given at least: it refuses less than 0.1, and aligning words ends the process (by an
#: assertion on the width of its median filter) where there is almost nothing to align.
_SHORTEST: Final = 1.2
#: Encoder positions for each second of audio, and how many are kept beyond its end.
_POSITIONS, _MARGIN = 50, 16
#: Flash attention fills the encoder's positions up to a multiple of this with what was there before, and attends to it.
_ALIGNMENT: Final = 256
#: Whether these are the bindings whose objects :func:`_address` looks into.
_KNOWN_BINDINGS: Final = version("pywhispercpp") == "1.5.1"
#: ggml's log levels. Its "info" is a page for each model, so it is debug here.
_LEVELS: Final = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.INFO, 4: logging.WARNING}
#: Attention heads that follow the speech, which whisper.cpp knows for OpenAI's models, by decoder layers and width.
_HEADS: Final = {
    (4, 384): "TINY",
    (6, 512): "BASE",
    (12, 768): "SMALL",
    (24, 1024): "MEDIUM",
    (32, 1280): "LARGE_V2",
    (4, 1280): "LARGE_V3_TURBO",
}
_PRECISIONS: Final = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1"}

_lines: deque[str] = deque(maxlen=64)


def _receive(level: int, text: str) -> None:
    line = text.rstrip()
    if line:
        _lines.append(line)
        logger.log(_LEVELS.get(level, logging.DEBUG), "%s", line)


native.whisper_log_set(_receive)
# The library logs once more while the process ends, when there is no interpreter left to call.
atexit.register(native.whisper_log_set)


class Whisper:
    """A loaded model. Used from one thread.

    Args:
        path: a ggml file.
        threads: threads to compute with; None uses the physical cores this process may use.
        gpu: whether to use a GPU, where the installed whisper.cpp is built for one.
        beam_size: hypotheses kept side by side; 1 decodes greedily.
        short_context: encode only as much as there is audio, in place of always 30 seconds.

    Raises:
        BadInput: the file is none of whisper.cpp's.
        LoadError: the file is damaged, or cannot be loaded.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        gpu: bool = True,
        beam_size: int = 1,
        short_context: bool = False,
    ) -> None:
        self.header = check_ggml_whisper(path)  # what is damaged must not reach native code
        self.path, self.threads = path, threads if threads is not None else default_threads()
        self._gpu, self._beam_size, self._short = gpu, beam_size, short_context
        self._contexts: dict[bool, Any] = {}
        _lines.clear()
        context = self._context(aligned=False)
        used = [found[1] for line in _lines if (found := re.search(r"using (\S+) backend", line))]
        self.device: str = used[-1].lower() if used else "cpu"
        self.first_time = int(native.whisper_token_beg(context))
        self._end = int(native.whisper_token_eot(context))

    @property
    def multilingual(self) -> bool:
        """Whether it knows languages other than English."""
        return self.header.multilingual

    @property
    def precision(self) -> str:
        """The type of its matrices."""
        return _PRECISIONS.get(self.header.ftype % 1000, str(self.header.ftype))

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes of its languages."""
        if not self.multilingual:
            return ("en",)
        count = self.header.n_vocab - 51_766  # as whisper.cpp counts them: 99, and 100 since large-v3
        return tuple(str(native.whisper_lang_str(index)) for index in range(count))

    def listen(self, windows: Sequence[npt.NDArray[np.float32]], options: TranscribeOptions) -> list[Heard]:
        """For each window the first result that looks like speech; arguments and errors as :meth:`decode`."""
        return [self._listen(samples, options) for samples in windows]

    def _listen(self, samples: npt.NDArray[np.float32], options: TranscribeOptions) -> Heard:
        for temperature in temperatures(options):
            heard = self.decode(samples, options, temperature)
            if heard.is_silence or not heard.is_doubtful:
                break
        return heard

    def decode(self, samples: npt.NDArray[np.float32], options: TranscribeOptions, temperature: float) -> Heard:
        """Transcribe one window in one go.

        Args:
            samples: float32 at 16 kHz, at most 30 seconds.
            options: ``language`` is one of :attr:`languages`, or None to detect it.
            temperature: 0 takes the likeliest tokens; more draws them.

        Raises:
            InferenceError: whisper.cpp failed.
        """
        align = options.word_times
        context = self._context(aligned=align)
        padded = np.pad(samples, (0, max(0, round(_SHORTEST * RATE) - len(samples))))
        params = self._params(options.language, options.task == "translate", options.prompt, temperature)
        if self._short:
            needed = len(padded) * _POSITIONS // RATE + _MARGIN
            params.audio_ctx = min(self.header.n_audio_ctx, -(-needed // _ALIGNMENT) * _ALIGNMENT)
        if native.whisper_full(context, params, padded, len(padded)):
            raise InferenceError(f"{self.path.name} failed: {_reason()}")
        count = int(native.whisper_full_n_segments(context))
        tokens = [token for segment in range(count) for token in self._tokens(context, segment, align)]
        silence = _no_speech(context) if count else 1.0
        spoken = str(native.whisper_lang_str(native.whisper_full_lang_id(context))) if self.multilingual else "en"
        return Heard(tuple(tokens), silence, spoken, temperature)

    def detect_language(self, samples: npt.NDArray[np.float32]) -> str:
        """The language of a window. Raises InferenceError where whisper.cpp failed."""
        context = self._context(aligned=False)
        padded = np.pad(samples, (0, max(0, round(_SHORTEST * RATE) - len(samples))))
        native.whisper_pcm_to_mel(context, padded, len(padded), self.threads)
        probabilities = np.zeros(native.whisper_lang_max_id() + 1, np.float32)
        index = int(native.whisper_lang_auto_detect(context, 0, self.threads, probabilities))
        if index < 0:
            raise InferenceError(f"{self.path.name} could not tell the language: {_reason()}")
        return str(native.whisper_lang_str(index))

    def close(self) -> None:
        """Free the model."""
        while self._contexts:
            native.whisper_free(self._contexts.popitem()[1])

    def _context(self, *, aligned: bool) -> Any:
        """The native model; the one that aligns words is made when it is first needed.

        Aligning reads the attention weights, which flash attention never writes down, and doing without flash attention
        takes almost twice as long. So there are two of them: each is small beside its activations, except for the
        largest models.
        """
        if aligned not in self._contexts:
            params = native.whisper_context_default_params()
            params.use_gpu = self._gpu
            params.flash_attn = not aligned
            if aligned:
                params.dtw_token_timestamps = True
                params.dtw_aheads_preset = self._heads()
                params.dtw_n_top = 1
            context = native.whisper_init_from_file_with_params(str(self.path), params)
            if _KNOWN_BINDINGS and not _address(context):
                if any("alloc" in line for line in _lines):
                    raise OutOfMemory(f"{self.path} does not fit into memory.")
                raise LoadError(f"{self.path} could not be loaded: {_reason()}")
            self._contexts[aligned] = context
        return self._contexts[aligned]

    def _heads(self) -> Any:
        header = self.header
        name = _HEADS.get((header.n_text_layer, header.n_text_state))
        if name == "LARGE_V2" and header.n_mels == 128:
            name = "LARGE_V3"
        if name is not None and not self.multilingual:
            name += "_EN"
        # For other models those of the last layer do: it is where Whisper settles on the next word.
        return getattr(native, f"WHISPER_AHEADS_{name}", native.WHISPER_AHEADS_N_TOP_MOST)

    def _params(self, language: str | None, translate: bool, prompt: str | None, temperature: float) -> Any:
        strategy = native.whisper_sampling_strategy
        beam = self._beam_size > 1 and temperature == 0
        params = native.whisper_full_default_params(
            strategy.WHISPER_SAMPLING_BEAM_SEARCH if beam else strategy.WHISPER_SAMPLING_GREEDY
        )
        if beam:
            params.beam_search = {"beam_size": self._beam_size, "patience": -1.0}
        params.n_threads = self.threads
        params.print_progress = params.print_realtime = params.print_timestamps = params.print_special = False
        params.language = (language or "auto") if self.multilingual else "en"
        params.translate = translate and self.multilingual
        params.suppress_nst = True  # as OpenAI's own implementation does
        if prompt:
            params.initial_prompt = prompt
        # In one go: the caller cuts at the timestamps and listens again where the model broke off, and so knows the
        # temperature and the probabilities of each piece.
        params.single_segment = True
        params.temperature = temperature
        params.temperature_inc = 0.0
        return params

    def _tokens(self, context: Any, segment: int, align: bool) -> list[Token]:
        made = []
        for index in range(native.whisper_full_n_tokens(context, segment)):
            data = native.whisper_full_get_token_data(context, segment, index)
            number = int(data.id)
            is_text = number < self._end
            if not is_text and number < self.first_time:
                continue
            end = data.t_dtw / 100 if align and data.t_dtw >= 0 else None
            text = bytes(native.whisper_token_to_bytes(context, number)) if is_text else b""
            made.append(Token(number, text, float(data.plog), end))
        return made


def _reason() -> str:
    """What whisper.cpp said last: its functions return no reasons."""
    told = [line for line in _lines if re.search("fail|error|invalid|unable|too", line, re.IGNORECASE)]
    return (told or list(_lines) or ["no reason was given."])[-1]


def _address(context: Any) -> int | None:
    """The address of whisper.cpp's own context behind a binding's object.

    The bindings leave out a few of whisper.cpp's functions, and return an object even where the library returned none.
    pybind11 keeps a pointer to the wrapper behind the object's head, and the wrapper holds nothing but the address.
    """
    wrapper = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    return ctypes.c_void_p.from_address(wrapper).value if wrapper else None


def _no_speech_function() -> Callable[[int, int], float] | None:
    """whisper_full_get_segment_no_speech_prob, which the bindings leave out."""
    if not _KNOWN_BINDINGS:
        return None
    try:
        function = ctypes.CDLL(native.__file__).whisper_full_get_segment_no_speech_prob
    except (OSError, AttributeError):  # Windows does not look into the libraries that a library depends on
        return None
    function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_int), ctypes.c_float
    return lambda address, segment: float(function(address, segment))


_no_speech_of: Final = _no_speech_function()


def _no_speech(context: Any) -> float:
    """Probability that a window has no speech; 0 where it cannot be told."""
    if _no_speech_of is None or not (address := _address(context)):
        return 0.0
    return _no_speech_of(address, 0)
