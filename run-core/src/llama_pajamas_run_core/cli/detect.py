"""``llama-pajamas detect``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from llama_pajamas_run_core.cli.files import read
from llama_pajamas_run_core.codecs.image import decode_image
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.pipelines.describe import describe, detections_as_text
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_run_core.types.vision import DetectOptions


def detect(
    files: Annotated[list[Path], typer.Argument(help="Image files; - reads standard input.")],
    model: Annotated[str | None, typer.Option(help="Model id, or path of a model.")] = None,
    confidence: Annotated[float, typer.Option(help="Leave out what is less sure than this, 0 to 1.")] = 0.25,
    iou: Annotated[float, typer.Option(help="Boxes that overlap by more than this are one object.")] = 0.45,
    ask: Annotated[str | None, typer.Option(help="Have the language model answer this about each image.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    runtime: Annotated[str | None, typer.Option(help="Prefer this runtime.")] = None,
) -> None:
    """Find objects in images."""
    machine = Machine()
    options = DetectOptions(confidence=confidence, iou=iou)
    with machine.open(Task.VISION, model, ability="detect", runtime=runtime) as vision:
        for file in files:
            image = decode_image(read(file))
            if ask is not None:
                with machine.open(Task.LLM) as llm:
                    typer.echo(describe(vision, llm, image, question=ask, look=options).result().text)
                continue
            (found,) = vision.detect([image], options)
            if as_json:
                typer.echo(json.dumps({"file": str(file), "detections": json.loads(detections_as_text(found))}))
                continue
            for one in found:
                box = one.box
                typer.echo(
                    f"{file}: {one.label} {one.confidence:.2f}  {box.x1:.0f},{box.y1:.0f} {box.x2:.0f},{box.y2:.0f}"
                )
