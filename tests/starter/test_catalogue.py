"""What the package brings to the catalogue, and how it is derived: once, whole, and by one process at a time."""

import threading
from pathlib import Path

import pytest

from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_starter import catalogue


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLAMA_PAJAMAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text("weights")
    return path


def _write(folder: Path) -> None:
    folder.mkdir()
    (folder / "model").touch()


def test_it_is_made_once_for_many_who_ask(source: Path) -> None:
    made: list[Path] = []

    def write(target: Path) -> None:
        made.append(target)
        _write(target)

    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(catalogue._derived("m.d", [source], write))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(set(found)) == 1
    assert (found[0] / "model").is_file()


def test_other_sources_make_another(source: Path) -> None:
    first = catalogue._derived("m.d", [source], _write)
    source.write_text("other weights")
    assert catalogue._derived("m.d", [source], _write) != first


def test_another_process_may_be_faster(source: Path, home: Path) -> None:
    """Two that start at once both write; the second finds a folder in its place."""

    def slowly(target: Path) -> None:
        _write(target)
        place = home / "cache" / "starter" / target.name
        place.mkdir()
        (place / "theirs").touch()

    made = catalogue._derived("m.d", [source], slowly)
    assert [file.name for file in made.iterdir()] == ["theirs"]
    assert [file.name for file in made.parent.iterdir()] == [made.name]


def test_what_fails_leaves_nothing(source: Path, home: Path) -> None:
    def half(target: Path) -> None:
        _write(target)
        raise OSError(28, "No space left on device")

    with pytest.raises(LoadError, match="No space left"):
        catalogue._derived("m.d", [source], half)
    assert list((home / "cache" / "starter").iterdir()) == []


def test_only_what_can_be_made_here_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None if name in ("onnx", "coremltools") else name)
    offered = {entry.id: entry.formats for entry in catalogue.entries()}
    assert offered == {
        "starter-chat": {"gguf", "mlx"},
        "starter-speech": {"ggml-whisper", "mlx-whisper"},
        "starter-detect": {"onnx-vision"},
        "starter-classify": {"onnx-vision"},
        "starter-embed": {"onnx-vision"},
    }
    monkeypatch.setattr(catalogue, "find_spec", lambda name: name)
    assert {entry.id: entry.formats for entry in catalogue.entries()}["starter-speech"] == {
        "ggml-whisper", "mlx-whisper", "onnx-whisper", "coreml-whisper",
    }  # fmt: skip
