"""A Whisper checkpoint as two packages that are to be made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_pajamas_run_coreml.description import DECODER, ENCODER, WhisperDecoderDescription, WhisperEncoderDescription
from llama_pajamas_run_coreml.export.options import ExportOptions
from llama_pajamas_run_coreml.export.package import origin
from llama_pajamas_run_coreml.export.plan import Plan
from llama_pajamas_run_coreml.export.whisper.checkpoint import WhisperCheckpoint
from llama_pajamas_run_coreml.export.whisper.decoder import counts, decoder
from llama_pajamas_run_coreml.export.whisper.encoder import encoder


@dataclass(frozen=True, slots=True)
class WhisperPlans:
    """The two packages, and how their programs are made in another precision, to compare with."""

    encoder: Plan
    decoder: Plan


def plan_whisper(source: Path, options: ExportOptions) -> WhisperPlans:
    """Tell what is to be made of a checkpoint.

    Args:
        source: its folder.
        options: how it is exported.

    Raises:
        BadInput: there is no such folder, or it is no checkpoint.
        LoadError: a file is damaged.
        Unsupported: it is no Whisper model.
    """
    checkpoint = WhisperCheckpoint(source)
    about = origin(source, (source / "config.json", *checkpoint.files), options)
    sizes, stateful = checkpoint.sizes, options.keeps_state
    seconds = sizes.n_audio_ctx // 50

    def encode(precision: str) -> tuple[Any, list[Any]]:
        return encoder(checkpoint, options.target, precision)

    def decode(precision: str) -> tuple[Any, list[Any]]:
        return decoder(checkpoint, options.target, precision, stateful=stateful)

    return WhisperPlans(
        Plan(
            ENCODER,
            WhisperEncoderDescription(about, sizes),
            f"Whisper's encoder: {source.name}",
            {
                "mel": f"log-mel spectrogram of {seconds} seconds",
                "cross_keys": "for the decoder",
                "cross_values": "for the decoder",
            },
            encode,
        ),
        Plan(
            DECODER,
            WhisperDecoderDescription(about, sizes, checkpoint.alignment_heads, stateful, counts(sizes)),
            f"Whisper's decoder: {source.name}",
            {
                "tokens": "token ids",
                "position": "how many tokens were before these",
                "last": "which of these the logits are wanted of",
                "cross_keys": "of the encoder",
                "cross_values": "of the encoder",
                "logits": "how likely each token is next",
                "scores": "how much each token attends to each position of the audio",
            },
            decode,
        ),
    )
