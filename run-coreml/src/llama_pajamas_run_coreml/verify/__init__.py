"""Is a package what it was made from? It is run, and its answers are compared with the source's.

The source is computed without anything of this package's export: ONNX graphs by ONNX Runtime, Whisper checkpoints by a
plain implementation of the network in numpy.
"""

from pathlib import Path

from llama_pajamas_run_coreml.verify.findings import Finding


def verify(
    package: Path, against: Path | None = None, *, pictures: Path | None = None, compute_units: str = "reference"
) -> list[Finding]:
    """Verify a package.

    Args:
        package: an .mlpackage, or the folder of a model of two.
        against: what it was made from, an ONNX vision model (file or folder) or a Whisper checkpoint (folder); None
            only sees that the package runs and gives numbers.
        pictures: a .npy file of uint8 [n, height, width, 3] to compare on; None takes made-up ones.
        compute_units: as in :class:`~llama_pajamas_run_coreml._session.Session`.

    Returns:
        what was found; :attr:`~.findings.Finding.good` tells whether it is as it should be.

    Raises:
        BadInput: there is no such file, or the source does not go with the package.
        LoadError: a file is damaged.
        MissingDependency: a package that verifying needs is not installed.
        Unsupported: the package uses an operation that the reference evaluator does not know, or this is no Mac.
    """
    from llama_pajamas_run_coreml.verify import speech, vision

    package = package.expanduser()
    source = None if against is None else against.expanduser()
    if speech.is_whisper(package):
        return speech.verify(package, source, compute_units)
    return vision.verify(package, source, pictures, compute_units)
