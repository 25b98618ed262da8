"""The engines of a Whisper model: a folder of them, or a folder of ONNX graphs of which they are built."""

from pathlib import Path
from typing import Final

from llama_pajamas_run_core.artifacts.folder import read_json
from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_run_tensorrt._device import GPU
from llama_pajamas_run_tensorrt.derive import engine_for, is_onnx
from llama_pajamas_run_tensorrt.export.options import BuildOptions, Range, parse_precision

#: Windows that an engine computes together where nothing else is asked for.
WINDOWS: Final = 8


def find_engines(
    path: Path,
    *,
    device: GPU | int | str | None = None,
    precision: str | None = None,
    windows: int | None = None,
    level: int | None = None,
) -> tuple[Path, Path, Dimensions]:
    """Encoder, decoder and sizes of a model.

    Args:
        path: a folder with encoder.engine, decoder.engine and config.json, or with the ONNX graphs that
            ``llama-pajamas export onnx`` writes: engines of those are built when they are first asked for.
        device: the GPU to build for.
        precision: "fp16" or "fp32" to build in; None for FP16.
        windows: how many windows the engines take together; None for 8.
        level: how long TensorRT searches, 0 to 5; None for 3.

    Raises:
        BadInput: there is no such folder, it holds no Whisper model, or it holds engines, and only a build could do
            what is asked for.
        LoadError: config.json is missing or damaged, or TensorRT cannot build the engines.
    """
    if not path.exists():
        raise BadInput(f"There is no folder {path}.", param="model")
    folder = path if path.is_dir() else path.parent
    sizes = whisper_sizes(folder)
    if sizes is None:
        raise LoadError(f"{folder} has no config.json of a Whisper model.", hint="It belongs to the graphs or engines.")
    if not is_onnx(folder):
        engines = [folder / f"{name}.engine" for name in ("encoder", "decoder")]
        if missing := [engine.name for engine in engines if not engine.is_file()]:
            raise BadInput(f"{folder} holds no Whisper model: it has no {missing[0]}.", param="model")
        asked = {"precision": precision, "windows": windows, "level": level}
        if given := [name for name, value in asked.items() if value is not None]:
            raise BadInput(
                f"{folder} holds engines already: {' and '.join(given)} would have to be known when they are built.",
                param=given[0],
            )
        return engines[0], engines[1], sizes
    graphs = [folder / f"{name}.onnx" for name in ("encoder", "decoder")]
    if missing := [graph.name for graph in graphs if not graph.is_file()]:
        raise BadInput(
            f"{folder} has no {missing[0]}.",
            hint="Engines are built of the graphs that llama-pajamas export onnx CHECKPOINT FOLDER writes.",
            param="model",
        )
    options = BuildOptions(
        precision=parse_precision(precision or "fp16"),
        batch=whisper_batch(windows),
        dims=whisper_dims(sizes),
        level=3 if level is None else level,
    )
    about = read_json(folder / "config.json")
    encoder, decoder = (engine_for(one, options, device=device, task="stt", description=about) for one in graphs)
    return encoder, decoder, sizes


def whisper_sizes(folder: Path) -> Dimensions | None:
    """The dimensions of the Whisper model in a folder; None where it is none.

    Raises:
        LoadError: config.json is damaged.
    """
    config = read_json(folder / "config.json")
    if config.get("model_type") != "whisper":
        return None
    return Dimensions.of(config)


def whisper_batch(windows: int | None = None) -> Range:
    """From one window to all.

    Raises:
        BadInput: fewer than one.
    """
    windows = WINDOWS if windows is None else windows
    if windows < 1:
        raise BadInput(f"windows must be at least 1, not {windows}.", param="windows")
    return 1, windows, windows


def whisper_dims(sizes: Dimensions) -> dict[str, Range]:
    """The free sizes of the graphs by their names: always 30 seconds of audio, and a cache with room for all tokens,
    so that no step differs from the one before.
    """
    positions, tokens = sizes.n_audio_ctx, sizes.n_text_ctx
    return {
        "frames": (2 * positions,) * 3,
        "positions": (positions,) * 3,
        "room": (tokens,) * 3,
        "n": (1, 1, tokens),
    }
