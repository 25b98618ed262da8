"""Text to speech with neural voices in ONNX: Piper's and Kokoro's."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.backends.tts import TTSBackend
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.audio import Audio, SpeakOptions, Voice
from llama_pajamas_run_onnx._voices import VoiceModel

_OPTIONS: Final = ("device", "providers", "threads")


class ONNXTTSBackend(TTSBackend):
    """Neural voices.

    Args:
        model: a Piper voice (the .onnx file; its .onnx.json lies beside it), a folder of Piper voices, or Kokoro's
            graph or the folder with it (its file of voices, "voices-v1.0.bin", lies beside it).
        options: ``device``, ``providers`` and ``threads`` as in :class:`~llama_pajamas_run_onnx._session.Session`.

    Raises:
        BadInput: there is no such file, or no voice in the folder.
        LoadError: a file is damaged or missing.
        MissingDependency: the family's library is not installed.
    """

    runtime = "onnx"

    _model: VoiceModel

    def _load(self, path: Path, **options: Any) -> None:
        if unknown := sorted(set(options) - set(_OPTIONS)):
            raise BadInput(f"Unknown options: {', '.join(unknown)}.", hint=f"There are: {', '.join(_OPTIONS)}.")
        self._model = _open(path, options)

    def _unload(self) -> None:
        del self._model

    @property
    def rate(self) -> int:
        """Samples per second of the audio it makes."""
        self._ready()
        return self._model.rate

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The voices of the loaded model, the default one first."""
        self._ready()
        return self._model.voices

    @property
    def details(self) -> Mapping[str, Any]:
        """The family, the device it runs on, and how many voices there are."""
        if not self.loaded:
            return {}
        model = self._model
        return {"family": model.family, "device": model.device, "rate": model.rate, "voices": len(model.voices)}

    def _speak(self, text: str, options: SpeakOptions) -> Iterator[Audio]:
        assert options.voice is not None
        for samples in self._model.speak(text, options.voice, options.speed, options.language):
            if len(samples):
                yield Audio(samples.clip(-1.0, 1.0), self._model.rate)


def _open(path: Path, options: Mapping[str, Any]) -> VoiceModel:
    """The voices in a file or folder; which family they are is told by what lies beside the graphs."""
    if not path.exists():
        raise BadInput(f"There is no file {path}.", param="model")
    folder = path if path.is_dir() else path.parent
    graphs = sorted([*path.glob("*.onnx"), *path.glob("onnx/*.onnx")]) if path.is_dir() else [path]
    if not graphs:
        raise BadInput(f"{path} holds no .onnx file.", param="model")
    piper = [graph for graph in graphs if graph.with_name(f"{graph.name}.json").is_file()]
    if piper:
        from llama_pajamas_run_onnx._piper import PiperModel

        return PiperModel(piper, options)
    voices = [*sorted(folder.glob("voices*.bin")), *sorted(folder.glob("voices*.npz"))]
    if voices:
        from llama_pajamas_run_onnx._kokoro import KokoroModel

        if len(graphs) > 1:
            names = ", ".join(graph.name for graph in graphs)
            raise BadInput(f"{path} holds several graphs: {names}.", hint="Name the one to load.", param="model")
        return KokoroModel(graphs[0], voices[-1], options)
    name = graphs[0].name
    raise BadInput(
        f"{path} is no voice: beside {name} lies neither {name}.json (Piper) nor voices*.bin (Kokoro).",
        hint="Fetch that file too.",
        param="model",
    )
