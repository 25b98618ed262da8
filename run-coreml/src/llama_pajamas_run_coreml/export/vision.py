"""ONNX vision models as packages."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from llama_pajamas_run_core.artifacts.onnx import check_onnx
from llama_pajamas_run_core.artifacts.vision.files import VisionFiles, find_files
from llama_pajamas_run_core.artifacts.vision.graph import Tensor as CoreTensor
from llama_pajamas_run_core.artifacts.vision.graph import VisionGraph, section
from llama_pajamas_run_core.artifacts.vision.spec import Options, Reading, read_spec, vector_output
from llama_pajamas_run_core.errors import BadInput, LoadError, Unsupported
from llama_pajamas_run_coreml.description import IMAGE, TEXT, TextDescription, VisionDescription
from llama_pajamas_run_coreml.export._mil import mb
from llama_pajamas_run_coreml.export.convert import Conversion, Input, program
from llama_pajamas_run_coreml.export.graph import Graph, Tensor, read_graph
from llama_pajamas_run_coreml.export.options import ExportOptions
from llama_pajamas_run_coreml.export.package import origin
from llama_pajamas_run_coreml.export.plan import Plan

#: Tokens that a text encoder takes where nothing tells: as many as CLIP's.
_CLIP_TOKENS: Final = 77


@dataclass(frozen=True, slots=True)
class VisionPlans:
    """All that is to be made of a model.

    Attributes:
        image: what looks at images.
        text: the text encoder beside it, or None.
        tokenizer: that encoder's tokenizer.json, or None.
    """

    image: Plan
    text: Plan | None
    tokenizer: Path | None


def plan_vision(source: Path, options: ExportOptions, described: Options) -> VisionPlans:
    """Tell what is to be made of an ONNX model.

    Args:
        source: the .onnx file, or the folder it lies in.
        options: how it is exported.
        described: what the caller says about the model.

    Raises:
        BadInput: there is no such model, or nothing tells how to use it.
        LoadError: a file is damaged.
        Unsupported: a kind of model that is not understood.
    """
    files = find_files(source)
    graph = read_graph(files.image)
    both = any(one.name == "input_ids" for one in graph.inputs)
    texts = files.tokenizer is not None and (files.text is not None or both)
    reading = read_spec(_presented(files, graph), described, texts=texts)
    image = _plan_image(files, graph, reading, options)
    if "embed_text" not in reading.spec.tasks:
        return VisionPlans(image, None, None)
    return VisionPlans(
        image, _plan_text(files, graph if files.text is None else read_graph(files.text), options), files.tokenizer
    )


def _presented(files: VisionFiles, graph: Graph) -> VisionGraph:
    return VisionGraph(
        files.image, _tensors(graph.inputs), _tensors(graph.outputs), graph.metadata, files.config, files.preprocessor
    )


def _tensors(tensors: Sequence[Tensor]) -> tuple[CoreTensor, ...]:
    return tuple(CoreTensor(one.name, one.shape, np.dtype(one.dtype).type) for one in tensors)


def _plan_image(files: VisionFiles, graph: Graph, reading: Reading, options: ExportOptions) -> Plan:
    spec = reading.spec
    fixed = reading.batch if reading.batch is not None else 1 if options.image_input else None
    if options.image_input and fixed != 1:
        raise BadInput(
            f"{files.image} takes {fixed} images at once, and an image input one.",
            hint="Leave --image-input out, or export the graph for one image.",
            param="image_input",
        )
    if spec.head in ("boxes", "efficient-nms"):
        raise Unsupported(
            f"{files.image} gives boxes whose number only the model itself knows, which Core ML cannot.",
            hint="Export the model without suppression of doubles: the runtime does that itself.",
            param="model",
        )
    graph = graph.restricted([graph.outputs[index].name for index in reading.outputs])
    inputs = [_input(reading, options, fixed)]
    names = {output.name: plain_name(output.name) for output in graph.outputs}
    description = VisionDescription(
        origin(files.image, _sources(graph), options),
        replace(spec, dynamic_batch=fixed is None and len(options.counts) > 1),
        inputs[0].name,
        tuple(names.values()),
        options.image_input,
        (fixed,) if fixed is not None else options.counts,
    )

    def build(given: Mapping[str, Any], sizes: Any) -> Mapping[str, Any]:
        pixels = _shown(given[inputs[0].name], reading, options.image_input)
        values = {reading.pixels.name: pixels, **_unused(graph, reading.pixels.name)}
        made = Conversion(graph, sizes, values).run()
        return {names[name]: _trimmed(value, reading) for name, value in made.items()}

    what = "an RGB image" if options.image_input else "float32 [n, 3, height, width], RGB, normalized"
    return Plan(
        IMAGE,
        description,
        f"{'/'.join(sorted(spec.tasks))}: {files.image.name}",
        {inputs[0].name: f"{what}, {spec.width} x {spec.height} pixels"},
        lambda _: program(inputs, options.target, build),
    )


def _input(reading: Reading, options: ExportOptions, fixed: int | None) -> Input:
    spec = reading.spec
    name = plain_name(reading.pixels.name)
    if fixed is not None or len(options.counts) == 1:
        count = fixed if fixed is not None else options.counts[0]
        return Input(name, (count, 3, spec.height, spec.width), image=options.image_input)
    shape = (options.batches[0], 3, spec.height, spec.width)
    return Input(name, shape, flexible=0, sizes=options.batches, ranged=options.ranged)


def _shown(x: Any, reading: Reading, image: bool) -> Any:
    """The graph's input, made of the package's."""
    if image:
        mean, std = (np.array(three, np.float32).reshape(1, 3, 1, 1) for three in (reading.spec.mean, reading.spec.std))
        x = mb.mul(x=x, y=(1 / (255 * std)).astype(np.float32))
        if mean.any():
            x = mb.sub(x=x, y=(mean / std).astype(np.float32))
    if reading.channels_last:
        x = mb.transpose(x=x, perm=[0, 2, 3, 1])
    return x if reading.batched else mb.squeeze(x=x, axes=[0])


def _unused(graph: Graph, pixels: str) -> dict[str, Any]:
    """Other inputs that what is wanted still hangs on: the text half of a graph that holds both."""
    return {one.name: _filler(one, np.ones) for one in graph.inputs if one.name != pixels}


def _filler(one: Tensor, make: Callable[..., Any]) -> Any:
    return make([one.size(axis) or (1, 2)[axis > 0] for axis in range(len(one.shape))], one.dtype)


def _trimmed(x: Any, reading: Reading) -> Any:
    """The part of an output that the head reads, as the runtimes of whole graphs cut it out."""
    rank, head = x.rank, reading.spec.head
    if head == "embedding" and rank == 3:  # the class token
        return _part(x, 1, 0, 1, squeeze=True)
    if head == "nms" and rank == 3 and x.shape[2] != 6:
        return _part(x, 2, 0, 6)
    if reading.channels is not None and rank == 3 and reading.channels not in x.shape[1:]:
        axis = 1 if x.shape[1] < x.shape[2] else 2
        return _part(x, axis, 0, reading.channels)
    return x


def _part(x: Any, axis: int, begin: int, end: int, *, squeeze: bool = False) -> Any:
    others = [place != axis for place in range(x.rank)]
    places = [0 if other else 1 for other in others]
    return mb.slice_by_index(
        x=x,
        begin=[begin * place for place in places],
        end=[end * place for place in places],
        begin_mask=others,
        end_mask=others,
        squeeze_mask=[squeeze and not other for other in others],
    )


def _plan_text(files: VisionFiles, graph: Graph, options: ExportOptions) -> Plan:
    outputs = _tensors(graph.outputs)
    known = [output.name for output in outputs]
    output = "text_embeds" if "text_embeds" in known else known[vector_output(outputs)]
    graph = graph.restricted([output])
    ids = next((one for one in graph.inputs if one.name == "input_ids"), None) or next(iter(graph.inputs), None)
    if ids is None:
        raise LoadError(f"{graph.path} takes no tokens.")
    mask = next((one.name for one in graph.inputs if one.name == "attention_mask"), None)
    own, sizes = section(files.config, "text"), section(files.config, "text_config")
    length = int(ids.size(1) or own.get("length") or sizes.get("max_position_embeddings") or _CLIP_TOKENS)
    fixed = ids.size(0)
    counts = (fixed,) if fixed is not None else options.counts
    flexible: dict[str, Any] = (
        {"flexible": 0, "sizes": options.batches, "ranged": options.ranged} if len(counts) > 1 else {}
    )
    taken = [name for name in (ids.name, mask) if name is not None]
    if len(taken) > 1 and flexible and not options.is_new:  # older systems list the shapes of one input alone
        flexible["ranged"] = True
        counts = tuple(range(options.batches[0], options.batches[-1] + 1))
    inputs = [Input(plain_name(name), (counts[0], length), "int32", **flexible) for name in taken]
    description = TextDescription(
        origin(graph.path, _sources(graph), options),
        plain_name(ids.name),
        None if mask is None else plain_name(mask),
        plain_name(output),
        length,
        _pad_id(files, sizes),
        counts,
        _entries(graph, ids.name),
    )

    def build(given: Mapping[str, Any], symbols: Any) -> Mapping[str, Any]:
        values: dict[str, Any] = {name: given[plain_name(name)] for name in taken}
        for one in graph.inputs:
            if one.name not in values:
                image = len(one.shape) == 4  # the image half of a graph that holds both
                shape = [one.size(axis) or (1, 3, 224, 224)[axis] for axis in range(4)] if image else [1, length]
                values[one.name] = np.zeros(shape, one.dtype)
        made = Conversion(graph, symbols, values).run()[output]
        return {plain_name(output): _part(made, 1, 0, 1, squeeze=True) if made.rank == 3 else made}

    return Plan(
        TEXT,
        description,
        f"text encoder: {graph.path.name}",
        {plain_name(ids.name): f"token ids, int32 [n, {length}]"},
        lambda _: program(inputs, options.target, build),
    )


def _entries(graph: Graph, ids: str) -> int:
    """How many tokens there are: rows of the table that they are looked up in, through whatever casts lie between."""
    names = {ids}
    for node in graph.nodes:
        if node.op == "Gather" and node.inputs[1] in names and node.inputs[0] in graph.constants:
            return len(graph.constants[node.inputs[0]])
        if node.op == "Gather" and node.inputs[1] in names:
            made = next((one for one in graph.nodes if node.inputs[0] in one.outputs), None)
            if made is not None and made.op == "Cast" and made.inputs[0] in graph.constants:
                return len(graph.constants[made.inputs[0]])
        if node.op in ("Cast", "Identity", "Reshape") and node.inputs[0] in names:
            names.update(node.outputs)
    return 1


def plain_name(name: str) -> str:
    """A name as Core ML allows it: letters, digits and underscores, no digit first."""
    made = "".join(letter if letter.isascii() and (letter.isalnum() or letter == "_") else "_" for letter in name)
    return f"_{made}" if made[:1].isdigit() else made


def _pad_id(files: VisionFiles, sizes: Mapping[str, Any]) -> int:
    """The token that fills short rows: CLIP fills them with its end token."""
    own = section(files.config, "text").get("pad_id")
    if own is not None:
        return int(own)
    tokenizer = _json(files.tokenizer)
    if isinstance(tokenizer.get("padding"), dict):
        return int(tokenizer["padding"]["pad_id"])
    for key in ("pad_token", "eos_token"):
        token = files.tokenizer_config.get(key)
        text = token.get("content") if isinstance(token, dict) else token
        added = {one.get("content"): one.get("id") for one in tokenizer.get("added_tokens") or ()}
        number = added.get(text, section(section(tokenizer, "model"), "vocab").get(str(text)))
        if text is not None and number is not None:
            return int(number)
    return int(sizes.get("pad_token_id") or 0)


def _json(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} is no tokenizer: {error}.", hint="Fetch it again.") from error
    if not isinstance(value, dict):
        raise LoadError(f"{path} is no tokenizer.", hint="Fetch it again.")
    return value


def _sources(graph: Graph) -> list[Path]:
    """The graph's file and those of its weights."""
    return [graph.path, *sorted(check_onnx(graph.path).external)]
