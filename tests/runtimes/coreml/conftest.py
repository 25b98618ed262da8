"""The starter models as packages, each exported once for all tests."""

from collections.abc import Callable

import pytest

from llama_pajamas_run_coreml.export import Made, export
from llama_pajamas_run_coreml.export.options import ExportOptions
from llama_pajamas_starter.catalogue import MODELS
from llama_pajamas_starter.speech import hugging_face
from llama_pajamas_starter.speech.checkpoint import Checkpoint


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Made]]:
    """Exports a starter model once for each way of storing its weights, and says what was made."""
    folder, known = tmp_path_factory.mktemp("starter"), {}

    def make(name: str, compression: str = "none", target: str = "macos14", *, measure: bool = False) -> list[Made]:
        key = f"{name}-{compression}-{target}-{measure}"
        if key not in known:
            source = MODELS / name
            if name == "speech" and not (source := folder / "checkpoint").exists():
                hugging_face.write(source, Checkpoint.load(MODELS / "speech"))
            ends = "" if name in ("embed", "speech") else ".mlpackage"
            options = ExportOptions(target=target, compression=compression, measure=measure)
            known[key] = export(source, folder / f"{key}{ends}", options)
        return known[key]

    return make
