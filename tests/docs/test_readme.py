"""What the READMEs show is run, and the table of runtimes is what the runtimes say."""

import re
import sys
from pathlib import Path

import pytest

from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.types.tasks import Task

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from readme_table import rewritten  # noqa: E402  # a script beside the packages, not one of them


def blocks(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL)


def test_the_table_of_runtimes_is_up_to_date() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert "run-gguf" in text
    assert rewritten(text) == text


def test_the_readme_reads_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every Python block of the README runs as it stands, beside a file called model.gguf."""
    machine = Machine()
    model = machine.find("starter-chat", Task.LLM).artifact("gguf").materialize()
    (tmp_path / "model.gguf").symlink_to(model)
    monkeypatch.chdir(tmp_path)
    streamed, edge = blocks(ROOT / "README.md")
    exec(compile(streamed, "README.md", "exec"), {})
    assert capsys.readouterr().out == "Twenty-three plus nineteen is forty-two."
    scope: dict[str, object] = {}
    exec(compile(edge, "README.md", "exec"), scope)
    scope["backend"].close()  # type: ignore[attr-defined]
    hello, joke = capsys.readouterr().out.strip().splitlines()
    assert "Pajama" in hello
    assert "llama" in joke


def test_a_backend_of_ones_own_is_one_method(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks(ROOT / "run-core" / "README.md")
    exec(compile(block, "run-core/README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out == "Hello!\n"


def test_run_systems_readme_reads_as_shown(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("espeakng_loader", reason="espeak is not installed")
    (block,) = blocks(ROOT / "run-system" / "README.md")
    exec(compile(block, "run-system/README.md", "exec"), {})
    assert re.fullmatch(r"[0-9.]+ seconds at 22050 Hz\n", capsys.readouterr().out)


def test_run_onnxs_readme_reads_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both Python blocks run as they stand, beside models and files of the names they have."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    from PIL import Image as Picture
    from support import onnx_graphs, whisper_checkpoint

    from llama_pajamas_run_core.codecs.audio import encode_audio
    from llama_pajamas_run_core.testing.stt import babble
    from llama_pajamas_run_onnx.export import export

    facts = {"names": repr(dict(enumerate(onnx_graphs.COLOURS))), "task": "detect", "imgsz": "[64, 64]"}
    onnx_graphs.detector(tmp_path / "yolov8n.onnx", metadata=facts)
    Picture.fromarray(onnx_graphs.scene(top_left="green")).save(tmp_path / "street.jpg")
    export(whisper_checkpoint.write(tmp_path / "checkpoint"), tmp_path / "whisper-base-onnx")
    (tmp_path / "speech.mp3").write_bytes(encode_audio(babble(2.5), "mp3"))
    monkeypatch.chdir(tmp_path)
    seen, heard = blocks(ROOT / "run-onnx" / "README.md")
    exec(compile(seen, "run-onnx/README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("green 0.99 Box(x1=2.0, y1=2.0, x2=30.0, y2=30.0)")
    exec(compile(heard, "run-onnx/README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("Hello brave world. Goodbye. [('Hello', ")


@pytest.mark.parametrize(
    "path",
    [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("*/README.md")), *sorted(ROOT.glob("starter/*/**/README.md"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", path.read_text("utf-8")):
        assert (path.parent / link).exists(), f"{path.name} links to {link}"
