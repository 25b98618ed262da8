"""Which files of a hub repository make up one model."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from llama_pajamas_run_core.artifacts.formats import (
    GGML_WHISPER,
    GGUF,
    HUGGING_FACE_LLM,
    KOKORO,
    MLX,
    MLX_WHISPER,
    ONNX_VISION,
    ONNX_WHISPER,
    PIPER,
    Format,
)
from llama_pajamas_run_core.errors import BadInput, Unsupported

#: The quantizations taken where none is asked for, the best compromise of size and quality first.
DEFAULT_QUANTIZATIONS: Final = (
    "Q4_K_M", "Q4_K_S", "Q4_K_XL", "IQ4_XS", "IQ4_NL", "Q4_K_L", "Q4_0", "Q4_1", "MXFP4", "Q5_K_M", "Q5_K_S", "Q5_0",
    "Q5_1", "Q6_K", "Q8_0", "Q3_K_L", "Q3_K_M", "F16", "BF16", "F32",
)  # fmt: skip

_QUANTIZATION = re.compile(
    r"""(?:^|[-_./])
    (
        (?:UD-)?  # Unsloth's dynamic quantizations
        (?:
            (?:IQ|TQ|Q)\d (?:_(?:K|\d|XXS|XS|S|M|L|XL|NL))*
            | MXFP4 (?:_MOE)? | NVFP4 | BF16 | FP16 | F16 | FP32 | F32
        )
    )
    (?=$|[-_.])""",
    re.IGNORECASE | re.VERBOSE,
)
_PART = re.compile(r"-(\d{5})-of-(\d{5})$")
_SIDE_FILES: Final = (".json", ".txt", ".model", ".jinja", ".yaml")


@dataclass(frozen=True, slots=True)
class Choice:
    """The files to fetch.

    Attributes:
        format: what they are, by their names.
        variant: which of the repository's variants ("Q4_K_M"), or None where there is only one.
        files: their paths in the repository.
        main: the path that a backend loads, or "." for the folder.
    """

    format: Format
    variant: str | None
    files: tuple[str, ...]
    main: str


def choose(repo: str, names: Sequence[str], variant: str | None = None, tags: Iterable[str] = ()) -> Choice:
    """Choose one model among the files of a repository.

    Args:
        repo: the repository, for messages.
        names: its files.
        variant: which one: a quantization ("Q8_0"), a voice, a model size, a precision or a file's name; None for the
            default.
        tags: the repository's tags on the hub.

    Raises:
        BadInput: there is no such variant; the message lists those there are.
        Unsupported: nothing in the repository is in a format that a runtime loads.
    """
    for chooser in (_gguf, _whisper, _piper, _kokoro, _onnx_whisper, _onnx):
        if (choice := chooser(repo, names, variant)) is not None:
            return choice
    if variant is None and (choice := _mlx(names, tags)) is not None:
        return choice
    hint = "Look for a GGUF, ONNX or MLX version of the model."
    if any(name.endswith((".safetensors", ".bin", ".pt", ".pth")) for name in names):
        owner, _, short = repo.partition("/")
        hint = f"It holds a training checkpoint. {hint} Often it is called {owner}/{short}-GGUF or the like."
    raise Unsupported(f"{repo} holds no model in a format that a runtime here loads.", hint=hint, param="model")


def quantization_of(name: str) -> str | None:
    """The quantization that a file's name tells ("Q4_K_M"), or None."""
    found = _QUANTIZATION.findall(_PART.sub("", PurePosixPath(name).stem)) or _QUANTIZATION.findall(
        PurePosixPath(name).parent.as_posix()
    )
    return found[-1].upper().replace("FP16", "F16").replace("FP32", "F32") if found else None


def _pick(repo: str, variants: Sequence[str], wanted: str | None, defaults: Sequence[str], what: str) -> str:
    if wanted is None:
        folded = {variant.casefold(): variant for variant in reversed(variants)}
        return next((folded[name.casefold()] for name in defaults if name.casefold() in folded), variants[0])
    for variant in variants:
        if variant.casefold() == wanted.casefold():
            return variant
    shown = ", ".join(variants[:30]) + (", ..." if len(variants) > 30 else "")
    raise BadInput(f"{repo} has no {what} '{wanted}'.", hint=f"It has: {shown}.", param="model")


def _gguf(repo: str, names: Sequence[str], variant: str | None) -> Choice | None:
    models: dict[str, list[str]] = {}
    projectors = []
    for name in sorted(names, key=lambda name: (len(name), name)):
        if not name.lower().endswith(".gguf"):
            continue
        if "mmproj" in PurePosixPath(name).name.lower():
            projectors.append(name)
            continue
        models.setdefault(_PART.sub("", name[:-5]), []).append(name)
    if not models:
        return None
    named: dict[str, str] = {}
    for stem in models:  # the shortest name first: a repository's plain model before its variations
        named.setdefault(quantization_of(stem + ".gguf") or PurePosixPath(stem).name, stem)
    if variant is not None and (asked := _by_file(models, variant)) is not None:
        chosen, stem = PurePosixPath(asked).name, asked
    else:
        chosen = _pick(repo, tuple(named), variant, DEFAULT_QUANTIZATIONS, "quantization")
        stem = named[chosen]
    parts = sorted(models[stem])
    files = (*parts, *_projector(projectors))
    return Choice(GGUF, chosen if len(models) > 1 or variant else None, files, parts[0])


def _by_file(models: dict[str, list[str]], wanted: str) -> str | None:
    """The model that a file's name asks for."""
    for stem, parts in models.items():
        if wanted in (stem, PurePosixPath(stem).name, *parts, *(PurePosixPath(part).name for part in parts)):
            return stem
    return None


def _projector(names: Sequence[str]) -> tuple[str, ...]:
    """The vision part that belongs to a language model; F16 is what llama.cpp runs best."""
    order = ("F16", "BF16", "Q8_0", "F32")
    ranked = sorted(
        names, key=lambda name: order.index(kind) if (kind := quantization_of(name)) in order else len(order)
    )
    return tuple(ranked[:1])


def _whisper(repo: str, names: Sequence[str], variant: str | None) -> Choice | None:
    sizes = {
        PurePosixPath(name).stem.removeprefix("ggml-"): name
        for name in names
        if re.search(r"(^|/)ggml-[^/]+\.bin$", name)
    }
    if not sizes:
        return None
    wanted = None if variant is None else variant.removeprefix("ggml-").removesuffix(".bin")
    chosen = _pick(repo, tuple(sizes), wanted, ("base", "base.en", "small", "tiny"), "model")
    return Choice(GGML_WHISPER, chosen if len(sizes) > 1 else None, (sizes[chosen],), sizes[chosen])


def _piper(repo: str, names: Sequence[str], variant: str | None) -> Choice | None:
    present = set(names)
    voices = {PurePosixPath(name).stem: name for name in names if name.endswith(".onnx") and f"{name}.json" in present}
    if not voices:
        return None
    chosen = _pick(repo, tuple(sorted(voices)), variant, ("en_US-lessac-medium", "en_US-amy-medium"), "voice")
    files = (voices[chosen], f"{voices[chosen]}.json")
    return Choice(PIPER, chosen if len(voices) > 1 else None, files, voices[chosen])


def _kokoro(repo: str, names: Sequence[str], variant: str | None) -> Choice | None:
    voices = [name for name in names if re.search(r"(^|/)voices[^/]*\.(bin|npz)$", name)]
    graphs = {PurePosixPath(name).stem: name for name in names if name.endswith(".onnx")}
    if not voices or not graphs:
        return None
    ordered = sorted(graphs, key=lambda stem: (len(stem), stem))
    chosen = _pick(repo, ordered, _without(variant, ".onnx"), (), "model")
    folder = PurePosixPath(graphs[chosen]).parent
    beside = sorted(voices, key=lambda name: (PurePosixPath(name).parent != folder, name))[0]
    return Choice(KOKORO, chosen if len(graphs) > 1 else None, (graphs[chosen], beside), ".")


def _onnx_whisper(repo: str, names: Sequence[str], variant: str | None) -> Choice | None:
    """Whisper as Hugging Face's optimum exports it, an encoder and a decoder that is one graph or two, or as this
    project does. Graphs of other models with encoder and decoder have the same names: the repository's has to tell.
    """
    if "whisper" not in repo.casefold():
        return None
    found: dict[str, list[str]] = {}
    if {"encoder.onnx", "decoder.onnx"} <= set(names):
        found["fp32"] = ["encoder.onnx", "decoder.onnx"]
    for name in names:
        if match := re.fullmatch(r"(?:onnx/)?encoder_model(?:_(\w+))?\.onnx", name):
            place, ending = name.partition("encoder_model")[0], f"_{match[1]}" if match[1] else ""
            for decoders in (("decoder_model_merged",), ("decoder_model", "decoder_with_past_model")):
                graphs = [f"{place}{decoder}{ending}.onnx" for decoder in decoders]
                if set(graphs) <= set(names):
                    found.setdefault(match[1] or "fp32", [name, *graphs])
    if not found:
        return None
    chosen = _pick(repo, tuple(sorted(found)), variant, ("fp32",), "precision")
    taken = found[chosen]
    weights = [name for name in names if any(name.startswith((f"{graph}_data", f"{graph}.data")) for graph in taken)]
    side = [name for name in names if name.endswith(_SIDE_FILES) and "/" not in name]
    return Choice(ONNX_WHISPER, chosen if len(found) > 1 else None, (*taken, *weights, *side), ".")


def _onnx(repo: str, names: Sequence[str], variant: str | None) -> Choice | None:
    graphs = [name for name in names if name.endswith(".onnx")]
    if not graphs:
        return None
    stems = {
        PurePosixPath(name).stem: name for name in sorted(graphs, key=lambda name: (len(name), name), reverse=True)
    }
    wanted = _without(variant, ".onnx")
    if (
        wanted is not None and f"model_{wanted}" in stems
    ):  # the hub's naming: model.onnx, model_fp16.onnx, model_int8.onnx
        wanted = f"model_{wanted}"
    # A model in two graphs (image and text encoder) comes whole; precisions of one graph do not.
    pair = [
        name
        for name in graphs
        if PurePosixPath(name).stem in ("vision_model", "text_model", "image_encoder", "text_encoder")
    ]
    if wanted is None and len(pair) == 2:
        chosen, taken = None, pair
    else:
        chosen = _pick(repo, tuple(sorted(stems, key=lambda stem: (len(stem), stem))), wanted, ("model",), "model")
        taken = [stems[chosen]]
    weights = [name for name in names if any(name.startswith((f"{graph}_data", f"{graph}.data")) for graph in taken)]
    side = [name for name in names if name.endswith(_SIDE_FILES) and name.count("/") <= 1]
    files = tuple(dict.fromkeys((*taken, *weights, *side)))
    return Choice(ONNX_VISION, chosen if len(graphs) > 1 else None, files, ".")


def _mlx(names: Sequence[str], tags: Iterable[str]) -> Choice | None:
    """A folder of safetensors that MLX loads as it is: made for it, or the checkpoint of a language model."""
    tagged = set(tags)
    present = {name for name in names if "/" not in name}
    if "config.json" not in present:
        return None
    side = sorted(name for name in present if name.endswith((*_SIDE_FILES, ".tiktoken")))
    whisper = sorted(present & {"weights.npz", "weights.safetensors"})
    if whisper and "mlx" in tagged:
        return Choice(MLX_WHISPER, None, (*whisper, *side), ".")
    # Some repositories hold the same weights a second time, for other programs: consolidated.safetensors.
    weights = sorted(name for name in present if name.startswith("model") and name.endswith(".safetensors"))
    if not weights or not ("mlx" in tagged or ("text-generation" in tagged and "tokenizer.json" in present)):
        return None
    return Choice(MLX if "mlx" in tagged else HUGGING_FACE_LLM, None, (*weights, *side), ".")


def _without(variant: str | None, ending: str) -> str | None:
    return None if variant is None else variant.removesuffix(ending)
