"""``llama-pajamas detect``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from llama_pajamas_run_core.cli.files import read
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
    machine = Machine()
    options = DetectOptions(confidence=confidence, iou=iou)
    with machine.open(Task.VISION, model, ability="segment" if masks else "detect", runtime=runtime) as vision:
        for file in files:
            image = decode_image(read(file))
            if ask is not None:
                with machine.open(Task.LLM) as llm:
                    typer.echo(describe(vision, llm, image, question=ask, look=options).result().text)
                continue
            (found,) = vision.segment([image], options) if masks else vision.detect([image], options)
            if draw is not None:
                _write(draw, file, drawn(image, found))
            if as_json:
                typer.echo(json.dumps({"file": str(file), "detections": _as_json(found)}))
                continue
            for one in found:
                box, area = one.box, "" if one.mask is None else f"  {one.mask.area} pixels"
                place = f"{box.x1:.0f},{box.y1:.0f} {box.x2:.0f},{box.y2:.0f}"
                typer.echo(f"{file}: {one.label} {one.confidence:.2f}  {place}{area}")


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


def _write(folder: Path, file: Path, image: Image) -> None:
    path = folder / f"{'stdin' if str(file) == '-' else file.stem}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_image(image))
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror or error}.", param="draw") from error


def _as_json(found: Sequence[Detection]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = json.loads(detections_as_text(found))
    for item, one in zip(made, found, strict=True):
        if one.mask is not None:
            item |= {"segmentation": coco_rle(one.mask), "area": one.mask.area}
    return made
