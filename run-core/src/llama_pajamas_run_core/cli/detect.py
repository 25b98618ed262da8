"""``llama-pajamas detect``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.cli.files import read, write
from llama_pajamas_run_core.codecs.image import decode_image, encode_image
from llama_pajamas_run_core.dsp.outlines import coco_rle
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.pipelines.describe import describe, detections_as_text
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_run_core.types.vision import Detection, DetectOptions, Image

#: A colour for each class, by turns.
_COLOURS = ((230, 60, 60), (60, 160, 75), (60, 100, 220), (240, 170, 40), (150, 60, 180), (70, 200, 200))


def detect(
    files: Annotated[list[Path], typer.Argument(help="Image files; - reads standard input.")],
    model: Annotated[str | None, typer.Option(help="Model id, or path of a model.")] = None,
    confidence: Annotated[float, typer.Option(help="Leave out what is less sure than this, 0 to 1.")] = 0.25,
    iou: Annotated[float, typer.Option(help="Boxes that overlap by more than this are one object.")] = 0.45,
    masks: Annotated[bool, typer.Option("--masks", help="Find the pixels of each object too.")] = False,
    draw: Annotated[Path | None, typer.Option(help="Folder for the images with what was found drawn in, PNG.")] = None,
    ask: Annotated[str | None, typer.Option(help="Have the language model answer this about each image.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; masks in COCO's form.")] = False,
    runtime: Annotated[str | None, typer.Option(help="Prefer this runtime.")] = None,
) -> None:
    """Find objects in images."""
    if ask is not None and (masks or as_json or draw is not None):
        raise BadInput("--ask prints the language model's answer; it does not go with --masks, --draw or --json.")
    if draw is not None and len(set(map(_name, files))) < len(files):
        raise BadInput("Two of the images would be drawn into the same file.", hint="Draw them one after the other.")
    machine = Machine()
    options = DetectOptions(confidence=confidence, iou=iou)
    with machine.open(Task.VISION, model, ability="segment" if masks else "detect", runtime=runtime) as vision:
        if ask is not None:
            _answer(machine, vision, files, ask, options)
            return
        for file in files:
            image = decode_image(read(file))
            (found,) = vision.segment([image], options) if masks else vision.detect([image], options)
            if draw is not None:
                _write(draw / _name(file), drawn(image, found))
            if as_json:
                typer.echo(json.dumps({"file": str(file), "detections": _as_json(found)}))
                continue
            for one in found:
                box, area = one.box, "" if one.mask is None else f"  {one.mask.area} pixels"
                place = f"{box.x1:.0f},{box.y1:.0f} {box.x2:.0f},{box.y2:.0f}"
                typer.echo(f"{file}: {one.label} {one.confidence:.2f}  {place}{area}")


def _answer(machine: Machine, vision: VisionBackend, files: Sequence[Path], ask: str, options: DetectOptions) -> None:
    with machine.open(Task.LLM) as llm:
        for file in files:
            answer = describe(vision, llm, decode_image(read(file)), question=ask, look=options)
            typer.echo(answer.result().text)


def drawn(image: Image, found: Sequence[Detection]) -> Image:
    """An image with a frame for each box, and its mask as a tint."""
    pixels = image.pixels.copy()
    line = max(1, round(min(image.width, image.height) / 240))
    for one in found:
        colour = np.array(_COLOURS[one.class_id % len(_COLOURS)], np.uint8)
        if one.mask is not None:
            height, width = one.mask.part.shape
            part = pixels[one.mask.top : one.mask.top + height, one.mask.left : one.mask.left + width]
            part[one.mask.part] = part[one.mask.part] // 2 + colour // 2
        left, top = int(one.box.x1), int(one.box.y1)
        right, bottom = max(left + 1, round(one.box.x2)), max(top + 1, round(one.box.y2))
        inside = np.zeros(pixels.shape[:2], np.bool_)
        inside[top:bottom, left:right] = True
        inside[top + line : max(bottom - line, 0), left + line : max(right - line, 0)] = False
        pixels[inside] = colour
    return Image(pixels)


def _name(file: Path) -> str:
    """What the drawn image of a file is called."""
    return f"{'stdin' if str(file) == '-' else file.stem}.png"


def _write(path: Path, image: Image) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{path.parent} cannot be made: {error.strerror or error}.", param="draw") from error
    write(path, encode_image(image))


def _as_json(found: Sequence[Detection]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = json.loads(detections_as_text(found))
    for item, one in zip(made, found, strict=True):
        if one.mask is not None:
            item |= {"segmentation": coco_rle(one.mask), "area": one.mask.area}
    return made
