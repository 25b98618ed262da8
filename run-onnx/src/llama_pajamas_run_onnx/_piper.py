"""Piper voices, through the library piper-tts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.folder import read_json
from llama_pajamas_run_core.artifacts.onnx import check_onnx
from llama_pajamas_run_core.dsp.resample import resample
from llama_pajamas_run_core.errors import InferenceError, LoadError, MissingDependency
from llama_pajamas_run_core.types.audio import Voice
from llama_pajamas_run_onnx._session import Session, mapped

try:
    from piper import PiperVoice
    from piper.config import PiperConfig, SynthesisConfig
except ImportError as error:
    raise MissingDependency(
        "Piper voices", package="piper-tts", install="uv pip install 'llama-pajamas-run-onnx[tts]'"
    ) from error


class PiperModel:
    """One or more Piper voices: a graph each, with its configuration beside it.

    A voice's id is the name of its file ("en_US-lessac-medium"); a speaker of a voice with several follows a colon
    ("en_US-vctk-medium:p239"). The first voice is loaded at once, the others when they first speak.

    Args:
        graphs: the .onnx files, the default voice first; each has a .onnx.json beside it.
        options: how a :class:`Session` runs.

    Raises:
        LoadError: a graph or its configuration is damaged.
    """

    family = "Piper"

    def __init__(self, graphs: Sequence[Path], options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._graphs = {graph.stem: graph for graph in graphs}
        self._configs: dict[str, Any] = {}
        self._loaded: dict[str, Any] = {}
        self._sessions: dict[str, Session] = {}
        self._speakers: dict[str, tuple[str, int | None]] = {}
        voices: list[Voice] = []
        for stem, graph in self._graphs.items():
            check_onnx(graph)
            given = _read(graph)
            self._configs[stem] = _config(graph, given)
            for voice, speaker in _voices(stem, given, self._configs[stem]):
                self._speakers[voice.id] = (stem, speaker)
                voices.append(voice)
        self._voices = tuple(voices)
        self._rate = max(config.sample_rate for config in self._configs.values())
        self._load(next(iter(self._graphs)))

    @property
    def rate(self) -> int:
        return int(self._rate)

    @property
    def voices(self) -> tuple[Voice, ...]:
        return self._voices

    @property
    def device(self) -> str:
        return next(iter(self._sessions.values())).device

    def speak(self, text: str, voice: str, speed: float, language: str | None) -> Iterator[npt.NDArray[np.float32]]:
        stem, speaker = self._speakers[voice]
        config = self._configs[stem]
        how = SynthesisConfig(speaker_id=speaker, length_scale=config.length_scale / speed)
        # Piper takes what stands in double brackets for phonemes, but who wrote the text meant brackets. A zero byte
        # would end the text in the C library that it goes to.
        plain = text.replace("[[", "[ [").replace("\0", " ")
        with mapped(InferenceError, f"The voice {stem} failed"):
            for chunk in self._load(stem).synthesize(plain, how):
                yield resample(
                    np.asarray(chunk.audio_float_array, np.float32).reshape(-1), chunk.sample_rate, self._rate
                )

    def _load(self, stem: str) -> Any:
        if stem not in self._loaded:
            session = Session(self._graphs[stem], **self._options)
            wanted = {"input", "input_lengths", "scales"}
            if not wanted <= {one.name for one in session.inputs}:
                raise LoadError(f"{session.path} is no Piper voice: it lacks the inputs {', '.join(sorted(wanted))}.")
            self._sessions[stem] = session
            self._loaded[stem] = PiperVoice(session=session.raw, config=self._configs[stem])
        return self._loaded[stem]


def _read(graph: Path) -> dict[str, Any]:
    path = graph.with_name(f"{graph.name}.json")
    if not path.is_file():
        raise LoadError(f"{path} is missing.", hint="A Piper voice has two files: fetch the .onnx.json too.")
    return read_json(path)


def _config(graph: Path, given: dict[str, Any]) -> Any:
    try:
        config = PiperConfig.from_dict(given)
        if not (config.sample_rate > 0 and config.length_scale > 0):
            raise ValueError("sample_rate and length_scale must be positive")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LoadError(f"{graph}.json is no configuration of a Piper voice: {error!r}.") from error
    return config


def _voices(stem: str, given: Mapping[str, Any], config: Any) -> list[tuple[Voice, int | None]]:
    told = given.get("language")
    code = str(told.get("code") if isinstance(told, dict) else config.espeak_voice or "").replace("_", "-")
    languages = (code,) if code else ()
    if config.num_speakers <= 1:
        return [(Voice(stem, stem.replace("_", " ").replace("-", " "), languages), None)]
    names = {number: name for name, number in config.speaker_id_map.items()}
    order = sorted(range(config.num_speakers), key=lambda number: (number != config.default_speaker_id, number))
    return [(_speaker(stem, str(names.get(number, number)), languages), number) for number in order]


def _speaker(stem: str, name: str, languages: tuple[str, ...]) -> Voice:
    return Voice(f"{stem}:{name}", f"{stem.replace('_', ' ').replace('-', ' ')}, {name}", languages)
