"""What importing costs, looked at in processes of their own: discovery touches no SDK, an edge import no server."""

import json
import subprocess
import sys

import pytest

from llama_pajamas_run_core.runtimes.discovery import discover

SDKS = {
    "llama_cpp", "pywhispercpp", "onnxruntime", "piper", "kokoro_onnx", "mlx", "mlx_lm", "coremltools", "tensorrt",
    "pycuda", "torch", "transformers", "tokenizers", "espeakng_loader", "AVFoundation",
}  # fmt: skip
SERVER = {"fastapi", "starlette", "uvicorn", "pydantic", "multipart", "typer", "rich", "httpx", "huggingface_hub"}
CODECS = {"PIL", "av", "soundfile"}
PACKAGES = {f"llama_pajamas_run_{info.name}" for info in discover()}


def loaded_by(code: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after running code."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_discovery_and_selection_import_no_sdk():
    loaded = loaded_by(
        """
from llama_pajamas_run_core.hardware.detect import detect
from llama_pajamas_run_core.runtimes.discovery import discover, installed
from llama_pajamas_run_core.selection.select import select
from llama_pajamas_run_core.types.tasks import Task
assert len(discover()) >= 6
for task in Task:
    assert select(detect(), task, installed()).candidates
"""
    )
    assert not loaded & (SDKS | SERVER | CODECS)


def test_the_catalogue_imports_no_sdk():
    loaded = loaded_by(
        "from llama_pajamas_run_core.artifacts.catalogue import Catalogue\nassert Catalogue().get('system-voice')"
    )
    assert not loaded & (SDKS | SERVER | CODECS)


@pytest.mark.parametrize("info", discover(), ids=lambda info: info.name)
def test_a_runtimes_package_imports_nothing_until_used(info):
    package = f"llama_pajamas_run_{info.name}"
    loaded = loaded_by(f"import {package}")
    assert not loaded & (SDKS | SERVER | CODECS)
    assert not loaded & (PACKAGES - {package})


def test_an_edge_device_loads_one_runtime_and_no_server():
    pytest.importorskip("llama_cpp")
    loaded = loaded_by("from llama_pajamas_run_gguf import GGUFLLMBackend\nassert GGUFLLMBackend.runtime == 'gguf'")
    assert "llama_cpp" in loaded
    assert not loaded & (SERVER | CODECS | (SDKS - {"llama_cpp"}))
    assert not loaded & (PACKAGES - {"llama_pajamas_run_gguf"})


def test_without_the_sdk_the_install_line_is_the_error():
    code = """
import sys
sys.modules["llama_cpp"] = None
from llama_pajamas_run_core.errors import MissingDependency
try:
    from llama_pajamas_run_gguf import GGUFLLMBackend
except MissingDependency as error:
    assert "GGUFLLMBackend needs the package llama_cpp" in str(error), error
    assert "uv pip install llama-cpp-python" in str(error), error
else:
    raise SystemExit("no error")
"""
    loaded_by(code)
