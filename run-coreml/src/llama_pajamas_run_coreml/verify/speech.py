"""Whisper packages, beside the checkpoint that they were made from."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.whisper.vocabulary import Vocabulary
from llama_pajamas_run_coreml.description import DECODER, ENCODER
from llama_pajamas_run_coreml.files import SUFFIXES
from llama_pajamas_run_coreml.samples import spectrogram
from llama_pajamas_run_coreml.verify.findings import COSINE, SHARE, Finding, cosine
from llama_pajamas_run_coreml.whisper import CoreMLWhisper

if TYPE_CHECKING:  # it reads checkpoints, for which the export's packages are needed
    from llama_pajamas_run_coreml.verify.network import WhisperNetwork

#: Tokens whose successors are compared.
_TOKENS: Final = 24


def is_whisper(package: Path) -> bool:
    """Whether a folder holds an encoder and a decoder."""
    return all(any((package / f"{name}{suffix}").exists() for suffix in SUFFIXES) for name in (ENCODER, DECODER))


def verify(package: Path, source: Path | None, compute_units: str) -> list[Finding]:
    """As :func:`llama_pajamas_run_coreml.verify.verify`."""
    model = CoreMLWhisper(package, compute_units=compute_units, quick_start=False)
    try:
        sizes = model.sizes
        mel = spectrogram(sizes)
        heard = model.encode(mel[None])
        if source is None:
            findings = [Finding(name, note=str(value)) for name, value in model.details.items()]
            logits = model.step(model.start(heard), np.array([[Vocabulary.of(sizes.n_vocab).start]], np.int32))
            finite = all(np.isfinite(one).all() for one in (*heard.values(), logits))
            return [*findings, Finding("outputs are numbers", float(finite), 1.0)]
        return _compared(model, source, mel, heard)
    finally:
        model.close()


def _compared(
    model: CoreMLWhisper, source: Path, mel: npt.NDArray[np.float32], heard: dict[str, npt.NDArray[np.float32]]
) -> list[Finding]:
    from llama_pajamas_run_coreml.export.whisper.checkpoint import WhisperCheckpoint
    from llama_pajamas_run_coreml.verify.network import WhisperNetwork

    checkpoint = WhisperCheckpoint(source)
    if checkpoint.sizes != model.sizes:
        raise BadInput(f"{source} is another model than the package: {checkpoint.sizes}.", param="against")
    network = WhisperNetwork(checkpoint)
    cross = network.cross(network.encode(mel))
    findings = [
        Finding(f"cosine of the audio's {name}", cosine(expected, heard[f"cross_{name}"]), COSINE)
        for name, expected in zip(("keys", "values"), cross, strict=True)
    ]
    tokens = _greedy(network, cross, Vocabulary.of(model.sizes.n_vocab))
    expected = network.decode(tokens, cross)
    transcript = model.start(heard)
    given = np.concatenate([model.step(transcript, tokens[None, at : at + 1]) for at in range(len(tokens))])
    together = model.step(model.start(heard), tokens[None])[0]
    same = expected.argmax(1) == given.argmax(1)
    return [
        *findings,
        Finding("likeliest next token the same", float(same.mean()), SHARE, f"behind {len(tokens)} tokens"),
        Finding("cosine of logits", cosine(expected, given), COSINE),
        Finding("cosine of logits, tokens taken up together", cosine(expected[-1], together), COSINE),
    ]


def _greedy(
    network: "WhisperNetwork", cross: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]], vocabulary: Vocabulary
) -> npt.NDArray[np.int32]:
    """The tokens that the source itself would say, text alone."""
    tokens = [*vocabulary.opening("en", translate=False), vocabulary.no_times]
    for _ in range(_TOKENS - len(tokens)):
        logits = network.decode(np.array(tokens, np.int32), cross, last=True)[0]
        tokens.append(int(logits[: vocabulary.end].argmax()))
    return np.array(tokens, np.int32)
