"""Sound files: :func:`decode_audio` reads them, :func:`encode_audio` and :class:`AudioEncoder` write them."""

from llama_pajamas_run_core.codecs.audio_decode import decode_audio
from llama_pajamas_run_core.codecs.audio_encode import MEDIA_TYPES, AudioEncoder, encode_audio

__all__ = ["MEDIA_TYPES", "AudioEncoder", "decode_audio", "encode_audio"]
