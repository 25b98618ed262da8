"""Packages that look at images, beside their ONNX graphs in ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.vision.files import find_files
from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.dsp.boxes import iou_matrix
from llama_pajamas_run_core.errors import BadInput, InferenceError, MissingDependency
from llama_pajamas_run_core.types.vision import Box, Detection, DetectOptions, Image, VisionSpec
from llama_pajamas_run_coreml import samples
from llama_pajamas_run_coreml._session import Session
from llama_pajamas_run_coreml.description import TEXT, TextDescription, from_metadata
from llama_pajamas_run_coreml.files import find_package
from llama_pajamas_run_coreml.verify.findings import COSINE, IOU, SHARE, Finding, cosine
from llama_pajamas_run_coreml.vision import CoreMLVisionBackend

#: Pictures, and rows of tokens, that are compared where none are given.
_PICTURES, _ROWS = 8, 16
#: Boxes of one object overlap by more than this.
_SAME = 0.5
#: Objects that are compared: those that would be shown to people.
_OPTIONS = DetectOptions(confidence=0.25)


def verify(package: Path, source: Path | None, pictures: Path | None, compute_units: str) -> list[Finding]:
    """As :func:`llama_pajamas_run_coreml.verify.verify`."""
    shown = samples.pictures(_PICTURES) if pictures is None else samples.read_pictures(pictures)
    with CoreMLVisionBackend(package, compute_units=compute_units, quick_start=False) as backend:
        if source is None:
            return _alone(backend, shown)
        with OnnxBackend(source, spec=backend.spec, outputs=backend.outputs) as reference:
            findings = [*_outputs(backend, reference, shown), *compared(backend, reference, shown)]
        if "embed_text" in backend.spec.tasks:
            findings += texts(package, source, compute_units)
        return findings


def compared(backend: VisionBackend, reference: VisionBackend, shown: Sequence[Image]) -> list[Finding]:
    """Compare the answers of two backends of one model.

    Args:
        backend: the one that is judged.
        reference: the one that is right.
        shown: pictures, at least one.
    """
    tasks = backend.spec.tasks
    if "detect" in tasks:
        return detections(reference.detect(shown, _OPTIONS), backend.detect(shown, _OPTIONS))
    if "classify" in tasks:
        pairs = zip(reference.classify(shown, top=1), backend.classify(shown, top=1), strict=True)
        same = [one[0].class_id == other[0].class_id for one, other in pairs]
        return [Finding("likeliest class the same", float(np.mean(same)), SHARE, f"in {len(same)} pictures")]
    return vectors("picture", reference.embed(shown), backend.embed(shown))


def detections(reference: Sequence[Sequence[Detection]], found: Sequence[Sequence[Detection]]) -> list[Finding]:
    """Compare what two detectors find in the same pictures: each object with the nearest one of its class."""
    overlaps, back = _overlaps(reference, found), _overlaps(found, reference)
    if not overlaps and not back:
        return [Finding("boxes", note="nothing is found in these pictures, by neither; give others with --pictures")]
    hits = np.array([one for one in overlaps if one > _SAME])
    right = [one > _SAME for one in back]
    note = f"of {len(overlaps)} objects in {len(reference)} pictures"
    return [
        Finding("objects found again", len(hits) / len(overlaps) if overlaps else 1.0, SHARE, note),
        Finding("intersection over union of their boxes", float(hits.mean()) if len(hits) else 0.0, IOU,
                f"least {hits.min():.4f}" if len(hits) else ""),
        Finding("objects that the source finds too", float(np.mean(right)) if right else 1.0, SHARE,
                f"of {len(back)} that the package finds"),
    ]  # fmt: skip


def _overlaps(wanted: Sequence[Sequence[Detection]], among: Sequence[Sequence[Detection]]) -> list[float]:
    """For each object how far the nearest one of its class, among those of the same picture, covers it."""
    made = []
    for expected, given in zip(wanted, among, strict=True):
        for one in expected:
            alike = [_overlap(one.box, other.box) for other in given if other.class_id == one.class_id]
            made.append(max(alike, default=0.0))
    return made


def vectors(what: str, reference: npt.NDArray[np.float32], given: npt.NDArray[np.float32]) -> list[Finding]:
    """Compare embeddings [n, d]."""
    each = [cosine(one, other) for one, other in zip(reference, given, strict=True)]
    return [Finding(f"cosine of {what} embeddings", float(np.mean(each)), COSINE, f"least {min(each):.6f}")]


def texts(package: Path, source: Path, compute_units: str) -> list[Finding]:
    """Compare the text encoder beside an image encoder with its graph, on rows of tokens drawn at random."""
    graph = find_files(source).text
    if graph is None:
        raise BadInput(f"{source} has no graph of a text encoder.", hint="Give the folder of both.", param="against")
    reference = _open(graph)
    session = Session(find_package(package, TEXT), compute_units=compute_units, quick_start=False)
    try:
        about = from_metadata(session.metadata, str(session.path))
        assert isinstance(about, TextDescription)  # the backend was loaded with it
        expected, given = [], []
        for feeds in samples.rows_of_tokens(about, _ROWS):
            given.append(session.predict(feeds)[about.output][0])
            wanted = {one.name: feeds[_plain(one.name)][:1].astype(np.int64) for one in reference.get_inputs()}
            names = {_plain(one.name): one.name for one in reference.get_outputs()}
            expected.append(reference.run([names[about.output]], wanted)[0][0])
        return vectors("text", np.stack(expected), np.stack(given))
    finally:
        session.close()


class OnnxBackend(VisionBackend):
    """An ONNX graph in ONNX Runtime, used as a package says that it is used.

    Args:
        model: the graph, or the folder it lies in.
        options: ``spec`` of the package and ``outputs``, the names that its head reads.
    """

    runtime = "onnxruntime"

    def _load(self, path: Path, **options: Any) -> None:
        self._spec: VisionSpec = options["spec"]
        graph = find_files(path).image
        self._session = _open(graph)
        given = {one.name: one.name for one in self._session.get_outputs()}
        plain = {_plain(name): name for name in given}
        missing = [name for name in options["outputs"] if name not in given and name not in plain]
        if missing:
            raise BadInput(
                f"{graph} has no output '{missing[0]}': the package was not made from it.",
                hint=f"It has: {', '.join(given)}.",
                param="against",
            )
        self._outputs = [name if name in given else plain[name] for name in options["outputs"]]

    def _unload(self) -> None:
        del self._session

    @property
    def spec(self) -> VisionSpec:
        """What the package says of itself."""
        return self._spec

    def _infer(self, batch: npt.NDArray[np.float32]) -> Sequence[npt.NDArray[Any]]:
        inputs = self._session.get_inputs()
        pixels = next((one for one in inputs if len(one.shape) == 4), inputs[0])
        channels_last = pixels.shape[-1] == 3 and pixels.shape[1] != 3
        feeds: dict[str, npt.NDArray[Any]] = {one.name: np.ones((1, 2), np.int64) for one in inputs}
        made = []
        for picture in batch:  # one by one: also where the graph fixes their number
            plain = picture[None].transpose(0, 2, 3, 1) if channels_last else picture[None]
            count = pixels.shape[0] if isinstance(pixels.shape[0], int) else 1
            kind = np.float16 if pixels.type == "tensor(float16)" else np.float32
            feeds[pixels.name] = np.repeat(np.ascontiguousarray(plain, kind), count, axis=0)
            try:
                made.append([one[:1] for one in self._session.run(self._outputs, feeds)])
            except Exception as error:  # ONNX Runtime's errors share no base
                raise InferenceError(f"The ONNX model failed: {' '.join(str(error).split())[:300]}.") from error
        return [np.concatenate(parts) for parts in zip(*made, strict=True)]


def _open(graph: Path) -> Any:
    """ONNX Runtime's session of a graph."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency(
            "Verifying against ONNX", package="onnxruntime", install="uv pip install onnxruntime"
        ) from error
    try:
        return onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base
        text = " ".join(str(error).split())[:200]
        raise BadInput(f"{graph} is no ONNX model: {text}.", param="against") from error


def _plain(name: str) -> str:
    """A name as packages have it: letters, digits and underscores, no digit first."""
    made = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
    return f"_{made}" if made[:1].isdigit() else made


def _alone(backend: CoreMLVisionBackend, shown: Sequence[Image]) -> list[Finding]:
    findings = [Finding(name, note=str(value)) for name, value in backend.details.items()]
    outputs = _raw(backend, shown[:2])
    finite = all(np.isfinite(output).all() for output in outputs)
    return [*findings, Finding("outputs are numbers", float(finite), 1.0, str([list(one.shape) for one in outputs]))]


def _outputs(backend: VisionBackend, reference: VisionBackend, shown: Sequence[Image]) -> list[Finding]:
    """The raw outputs, as one vector each."""
    pairs = zip(_raw(reference, shown), _raw(backend, shown), strict=True)
    return [
        Finding(f"cosine of output {index}", cosine(one, other), COSINE,
                f"greatest difference {float(np.abs(one - other).max()):.4g}")
        for index, (one, other) in enumerate(pairs)
    ]  # fmt: skip


def _raw(backend: VisionBackend, shown: Sequence[Image]) -> list[npt.NDArray[Any]]:
    parts = [outputs for outputs, _ in backend._run(shown)]
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def _overlap(one: Box, other: Box) -> float:
    left, right = (np.array([[box.x1, box.y1, box.x2, box.y2]], np.float32) for box in (one, other))
    return float(iou_matrix(left, right)[0, 0])
