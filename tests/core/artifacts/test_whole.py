"""Targets that are made whole or not at all."""

from pathlib import Path

import pytest

from llama_pajamas_run_core.artifacts.whole import check_target, made_whole
from llama_pajamas_run_core.errors import BadInput


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "a" / "made"
    with made_whole(target) as part:
        part.mkdir()
        (part / "one").touch()
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["made"]
    assert (target / "one").is_file()


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "made"
    target.mkdir()
    (target / "old").touch()

    def broken() -> None:
        with made_whole(target, overwrite=True) as part:
            part.mkdir()
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        broken()
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "old"]


@pytest.mark.parametrize("old", ["file", "folder"])
def test_what_was_there_is_replaced_where_that_is_asked_for(tmp_path: Path, old: str) -> None:
    target = tmp_path / "made"
    target.touch() if old == "file" else (target / "old").mkdir(parents=True)
    with made_whole(target, overwrite=True) as part:
        part.write_text("new") if old == "file" else part.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["made"]


def test_targets_that_cannot_be_are_refused_beforehand(tmp_path: Path) -> None:
    source, other = tmp_path / "model" / "source", tmp_path / "other"
    source.mkdir(parents=True)
    check_target(other, source=source)
    check_target(source / "inside", source=source)
    with pytest.raises(BadInput, match="exists already"):
        check_target(source, source=other)
    for target in (source, tmp_path / "model", tmp_path / "model" / ".." / "model"):
        with pytest.raises(BadInput, match="is to be made from"):
            check_target(target, source=source, overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written"), made_whole(tmp_path / "file" / "made"):
        pass
