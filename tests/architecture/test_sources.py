"""Habits that hold for every source file of every package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for member in ROOT.glob("*/src") for path in member.rglob("*.py"))
#: Where printing is what the code is for.
MAY_PRINT = ("run-core/src/llama_pajamas_run_core/cli/",)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_are_sources():
    assert len(SOURCES) > 50
    assert len({path.relative_to(ROOT).parts[0] for path in SOURCES}) == 8


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_prints_no_stubs_no_pictures(path):
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert "NotImplementedError" not in names
    if not name(path).startswith(MAY_PRINT):
        calls = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "print" not in calls
    pictures = [sign for sign in text if ord(sign) >= 0x1F000 or 0x2600 <= ord(sign) <= 0x27BF or ord(sign) == 0xFE0F]
    assert pictures == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_every_module_says_what_it_is(path):
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree) or not tree.body


def test_the_layers_hold():
    pytest.importorskip("importlinter")
    code = "import sys; from importlinter.cli import lint_imports_command as run; sys.argv[1:] = ['--no-cache']; run()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=55, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
