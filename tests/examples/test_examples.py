"""The examples, run as a newcomer runs them."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments], cwd=cwd, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(120)
def test_the_unified_server_gives_the_right_answers(tmp_path: Path) -> None:
    shown = run("unified_server_demo.py", "--check", cwd=tmp_path)
    assert "WRONG" not in shown
    assert "Selection matrix" in shown


def test_a_spoken_question_is_answered_aloud(tmp_path: Path) -> None:
    shown = run("crossmodal_pipeline_demo.py", "--question", "What is seven times eight?", cwd=tmp_path)
    assert "it says: Seven times eight is fifty-six." in shown
    assert "first audio" in shown
    assert (tmp_path / "answer.wav").read_bytes().startswith(b"RIFF")


@pytest.mark.parametrize(
    "arguments",
    [
        ("crossmodal_pipeline_demo.py", "nowhere.wav"),
        ("edge_single_runtime.py", "nowhere.gguf"),
        ("unified_server_demo.py", "nowhere.gguf"),
    ],
)
def test_a_file_that_is_not_there_is_an_error_that_names_it(arguments: tuple[str, str], tmp_path: Path) -> None:
    name, file = arguments
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, file], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert file in done.stderr
    assert "Traceback" not in done.stderr


def test_one_runtime_alone_answers(tmp_path: Path) -> None:
    assert "forty-two" in run("edge_single_runtime.py", cwd=tmp_path)


def test_a_port_in_use_is_an_error_that_names_another(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, EXAMPLES / "unified_server_demo.py", "--port", str(port)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr
