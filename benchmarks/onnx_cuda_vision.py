"""The models of vision_models.py through ONNX Runtime's CUDA provider: a peer for speed and outputs.

    python benchmarks/onnx_cuda_vision.py --models FOLDER --out onnx.json
    python benchmarks/onnx_cuda_vision.py --serve            # for gpu_vision.py

Needs onnxruntime-gpu and the onnx package, and imports nothing of this project. Inputs and outputs stay on the GPU (IO
binding). Where the CUDA provider does not load it says why and ends.

    onnxruntime-fp32       as the file is
    onnxruntime-fp16       weights and everything between in half precision
    onnxruntime-fp16-nhwc  the same, with images in channels-last order and a CUDA graph
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common.worker import alone, alone_options, serve
from onnx import TensorProto, numpy_helper

_CUDA = "CUDAExecutionProvider"


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in half precision, inputs and outputs too; scales of a Resize stay as they have to be."""
    graph = model.graph
    scales = {name for node in graph.node if node.op_type == "Resize" for name in node.input[1:]}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in scales:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(values.clip(-65504, 65504).astype(np.float16), tensor.name))
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    del graph.value_info[:]
    return model


def cuda() -> Any:
    """ONNX Runtime with its CUDA provider.

    Raises:
        RuntimeError: there is none; the message says why.
    """
    import onnxruntime

    if _CUDA not in onnxruntime.get_available_providers():
        raise RuntimeError(f"onnxruntime {onnxruntime.__version__} has no {_CUDA}: it is not onnxruntime-gpu")
    # Finds CUDA and cuDNN where they came with PyTorch or as packages.
    onnxruntime.preload_dlls()
    return onnxruntime


class Prepared:
    """A session with its inputs and outputs bound to memory on the GPU."""

    def __init__(self, session: Any, images: Any) -> None:
        runtime = cuda()
        self._session, self._binding = session, session.io_binding()
        self._held = [runtime.OrtValue.ortvalue_from_numpy(images, "cuda", 0)]
        self._binding.bind_ortvalue_input(session.get_inputs()[0].name, self._held[0])
        for output in session.get_outputs():
            shape = [len(images), *output.shape[1:]]
            self._held.append(runtime.OrtValue.ortvalue_from_shape_and_type(shape, images.dtype.type, "cuda", 0))
            self._binding.bind_ortvalue_output(output.name, self._held[-1])
        self._options = runtime.RunOptions()
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def start(self) -> None:
        self._session.run_with_iobinding(self._binding, self._options)

    def wait(self) -> None:
        self._binding.synchronize_outputs()

    def once(self) -> None:
        self.start()
        self.wait()

    def outputs(self) -> list[Any]:
        self.once()
        return [value.numpy() for value in self._held[1:]]


class OnnxSubject:
    """ONNX Runtime on the GPU.

    Args:
        half: whether in half precision.
        nhwc: whether images lie in channels-last order and the work is captured as a CUDA graph.
    """

    def __init__(self, half: bool, nhwc: bool = False) -> None:
        self._half, self._nhwc = half, nhwc
        self._sessions: dict[tuple[str, int], Any] = {}

    def prepare(self, model: str, folder: Path, batch: int) -> Prepared:
        session = self._session(model, folder, batch)
        size = session.get_inputs()[0].shape[2]
        images = np.random.default_rng(0).random((batch, 3, size, size), np.float32)
        return Prepared(session, images.astype(self._dtype))

    def outputs(self, model: str, folder: Path, inputs: Path, to: Path) -> None:
        images = np.load(inputs).astype(self._dtype)
        # A session that has captured a CUDA graph replays it on the buffers of then.
        session = OnnxSubject(self._half, self._nhwc)._session(model, folder, len(images))
        made = Prepared(session, images).outputs()
        np.savez(to, *(one.astype(np.float32) for one in made))

    @property
    def _dtype(self) -> type:
        return np.float16 if self._half else np.float32

    def _session(self, model: str, folder: Path, batch: int) -> Any:
        # A CUDA graph belongs to one batch size; without one all sizes share a session.
        key = (model, batch if self._nhwc else 0)
        if key not in self._sessions:
            runtime = cuda()
            options = runtime.SessionOptions()
            options.log_severity_level = 3
            settings = {"cudnn_conv_algo_search": "EXHAUSTIVE", "cudnn_conv_use_max_workspace": "1"}
            if self._nhwc:
                settings |= {"prefer_nhwc": "1", "enable_cuda_graph": "1"}
            path = folder / "model.onnx"
            with tempfile.TemporaryDirectory() as part:
                if self._half:
                    path = Path(part) / "model.onnx"
                    onnx.save(halved(onnx.load(folder / "model.onnx")), path)
                session = runtime.InferenceSession(str(path), options, providers=[(_CUDA, settings)])
            if session.get_providers()[0] != _CUDA:
                raise RuntimeError("the CUDA provider did not start: see that CUDA 13 and cuDNN 9 are found")
            self._sessions[key] = session
        return self._sessions[key]


class ProcessorRun:
    """A session on the processor with a batch; there is nothing to wait for."""

    def __init__(self, session: Any, images: Any) -> None:
        self._session, self._feeds = session, {session.get_inputs()[0].name: images}

    def start(self) -> None:
        self.outputs()

    def wait(self) -> None:
        pass

    def once(self) -> None:
        self.outputs()

    def outputs(self) -> list[Any]:
        made: list[Any] = self._session.run(None, self._feeds)
        return made


class Processor:
    """ONNX Runtime on the processor: what the others' outputs are compared with."""

    def __init__(self) -> None:
        self._sessions: dict[str, Any] = {}

    def prepare(self, model: str, folder: Path, batch: int) -> ProcessorRun:
        session = self._session(model, folder)
        size = session.get_inputs()[0].shape[2]
        return ProcessorRun(session, np.random.default_rng(0).random((batch, 3, size, size), np.float32))

    def outputs(self, model: str, folder: Path, inputs: Path, to: Path) -> None:
        np.savez(to, *ProcessorRun(self._session(model, folder), np.load(inputs)).outputs())

    def _session(self, model: str, folder: Path) -> Any:
        if model not in self._sessions:
            import onnxruntime

            providers = ["CPUExecutionProvider"]
            self._sessions[model] = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=providers)
        return self._sessions[model]


SUBJECTS = {
    "onnxruntime-fp32": lambda: OnnxSubject(False),
    "onnxruntime-fp16": lambda: OnnxSubject(True),
    "onnxruntime-fp16-nhwc": lambda: OnnxSubject(True, nhwc=True),
}


def about() -> dict[str, Any]:
    """The version."""
    import onnxruntime

    return {"versions": {"onnxruntime": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}}


def main() -> int:
    """Measure by itself, or serve."""
    given = alone_options(__doc__)
    if given.serve:
        serve({**SUBJECTS, "onnxruntime-cpu": Processor}, about)
        return 0
    try:
        cuda()
    except (ImportError, RuntimeError) as error:
        print(f"skipped: {error}")
        return 0
    batches = list(map(int, given.batches.split(",")))
    found = alone(SUBJECTS, given.models, given.only.split(","), batches, given.rounds)
    if given.out:
        given.out.write_text(json.dumps({**about(), **found}, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
