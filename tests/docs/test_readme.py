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


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("*/README.md")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", path.read_text("utf-8")):
        assert (path.parent / link).exists(), f"{path.name} links to {link}"
