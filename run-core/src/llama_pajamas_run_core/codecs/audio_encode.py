"""Samples to sound files, whole or while they are made."""

import io
import struct
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.codecs._packages import load_av
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.audio import Audio

#: The formats that can be written, with their media types. ``pcm`` is bare samples: 16-bit little-endian, 24 kHz.
MEDIA_TYPES: Final = MappingProxyType(
    {
        "mp3": "audio/mpeg",
        "opus": "audio/ogg",
        "aac": "audio/aac",
        "flac": "audio/flac",
        "wav": "audio/wav",
        "pcm": "audio/pcm",
    }
)
_PCM_RATE: Final = 24_000
#: What a WAV header says of a length that is not known yet; players then read to the end.
_UNKNOWN_SIZE: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class _Codec:
    """How FFmpeg writes a format.

    Attributes:
        container: the muxer.
        codec: the encoder.
        rates: samples per second that the encoder takes, rising; empty where it takes any.
        bits: bits per second for speech up to 24 kHz, and above; 0 where nothing is lost.
        options: of the muxer.
    """

    container: str
    codec: str
    rates: tuple[int, ...]
    bits: tuple[int, int]
    options: dict[str, str] = field(default_factory=dict)


_CODECS: Final = {
    "mp3": _Codec(
        "mp3",
        "libmp3lame",
        (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
        (64_000, 96_000),
    ),
    # A page is what a player gets at once: a fifth of a second instead of Ogg's whole one.
    "opus": _Codec(
        "ogg", "libopus", (8000, 12_000, 16_000, 24_000, 48_000), (48_000, 64_000), {"page_duration": "200000"}
    ),
    "aac": _Codec(
        "adts",
        "aac",
        (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000),
        (64_000, 96_000),
    ),
    "flac": _Codec("flac", "flac", (), (0, 0)),
}


def encode_audio(audio: Audio, format: str) -> bytes:
    """Write a sound file.

    Args:
        audio: the sound.
        format: one of ``MEDIA_TYPES``.

    Returns:
        The file; its header tells its length.

    Raises:
        BadInput: there is no such format.
        MissingDependency: PyAV is not installed, which "wav" does without.
    """
    _check(format)
    if format == "wav":
        pcm = _tidy(audio).to_pcm16()
        return _wav_header(audio.rate, len(pcm)) + pcm
    if format == "pcm":
        encoder = AudioEncoder(format, audio.rate)
        return encoder.push(audio) + encoder.finish()
    file = io.BytesIO()
    writer = _Writer(_CODECS[format], audio.rate, file)
    writer.write(_tidy(audio).samples)
    writer.close()
    return file.getvalue()


class AudioEncoder:
    """Writes a sound file piece by piece, each piece as soon as the format allows.

    The bytes of all calls, joined, are the file. Its length is not in its header, where the format has such a field:
    it is not known when the header goes out.
    """

    def __init__(self, format: str, rate: int) -> None:
        """Begin a file.

        Args:
            format: one of ``MEDIA_TYPES``.
            rate: samples per second of what will be pushed. A codec that does not know the rate gets the next higher
                one that it does; ``pcm`` is always 24 kHz.

        Raises:
            BadInput: there is no such format.
            MissingDependency: PyAV is not installed, which "wav" and, at 24 kHz, "pcm" do without.
        """
        _check(format)
        self._rate = rate
        self._output: _Wav | _Pcm | _Stream
        if format == "wav":
            self._output = _Wav(rate)
        elif format == "pcm":
            self._output = _Pcm(rate)
        else:
            self._output = _Stream(_CODECS[format], rate)
        self._finished = False

    def push(self, audio: Audio) -> bytes:
        """Add sound.

        Args:
            audio: the next piece, of any length, at the encoder's rate.

        Returns:
            The bytes that are ready; may be none.

        Raises:
            ValueError: the piece is at another rate, or the file is finished.
        """
        if self._finished:
            raise ValueError("the file is finished")
        if audio.rate != self._rate:
            raise ValueError(f"the encoder takes {self._rate} Hz, not {audio.rate}")
        return self._output.push(_tidy(audio))

    def finish(self) -> bytes:
        """The rest of the file; nothing when called again."""
        if self._finished:
            return b""
        self._finished = True
        return self._output.finish()


def _check(format: str) -> None:
    if format not in MEDIA_TYPES:
        raise BadInput(f"'{format}' is no audio format that is written.", hint=f"Use one of: {', '.join(MEDIA_TYPES)}.")


def _tidy(audio: Audio) -> Audio:
    """The sound without what no format can hold: NaN, and louder than full scale."""
    return Audio(np.clip(np.nan_to_num(audio.samples), -1.0, 1.0), audio.rate)


def _wav_header(rate: int, size: int) -> bytes:
    """The header of a WAV file of 16-bit mono samples, `size` bytes of them."""
    whole = min(size + 36, _UNKNOWN_SIZE)
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s4sI16s4sI", b"RIFF", whole, b"WAVE", b"fmt ", len(form), form, b"data", size)


class _Wav:
    def __init__(self, rate: int) -> None:
        self._header = _wav_header(rate, _UNKNOWN_SIZE)

    def push(self, audio: Audio) -> bytes:
        header, self._header = self._header, b""
        return header + audio.to_pcm16()

    def finish(self) -> bytes:
        return self._header


class _Pcm:
    """Samples at 24 kHz; FFmpeg's resampler keeps its state from piece to piece."""

    def __init__(self, rate: int) -> None:
        self._resampler: Any = None
        if rate != _PCM_RATE:
            self._av = load_av("Resampling audio")
            self._resampler = self._av.AudioResampler(format="flt", layout="mono", rate=_PCM_RATE)
        self._pushed = False

    def push(self, audio: Audio) -> bytes:
        if self._resampler is None:
            return audio.to_pcm16()
        if not len(audio.samples):
            return b""
        self._pushed = True
        return self._resampled(_frame(self._av, audio.samples, audio.rate))

    def finish(self) -> bytes:
        return self._resampled(None) if self._pushed else b""

    def _resampled(self, frame: Any) -> bytes:
        return b"".join(
            Audio(made.to_ndarray().reshape(-1), _PCM_RATE).to_pcm16() for made in self._resampler.resample(frame)
        )


class _Stream:
    """A file that FFmpeg writes to somewhere without a way back."""

    def __init__(self, codec: _Codec, rate: int) -> None:
        self._sink = _Sink()
        self._writer = _Writer(codec, rate, self._sink)

    def push(self, audio: Audio) -> bytes:
        self._writer.write(audio.samples)
        return self._sink.take()

    def finish(self) -> bytes:
        self._writer.close()
        return self._sink.take()


class _Sink:
    """A file that can only be written to, so that no muxer goes back to fill in lengths."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def take(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


class _Writer:
    """FFmpeg's encoder and muxer."""

    def __init__(self, codec: _Codec, rate: int, file: Any) -> None:
        self._av = load_av("Encoding audio")
        self._rate = rate
        own = next((known for known in codec.rates if known >= rate), codec.rates[-1]) if codec.rates else rate
        # Every packet goes out at once, and equal sound gives equal files (an Ogg stream's number is random else).
        options = {"flush_packets": "1", "fflags": "+bitexact", **codec.options}
        if codec.container == "mp3" and isinstance(file, _Sink):
            options["write_xing"] = "0"  # the frame that tells an MP3's length cannot be filled in
        self._container = self._av.open(file, "w", format=codec.container, container_options=options)
        self._stream = self._container.add_stream(codec.codec, rate=own, layout="mono")
        if bits := codec.bits[own > 24_000]:
            self._stream.bit_rate = bits
        self._container.start_encoding()

    def write(self, samples: npt.NDArray[np.float32]) -> None:
        if len(samples):
            self._container.mux(self._stream.encode(_frame(self._av, samples, self._rate)))

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()


def _frame(av: Any, samples: npt.NDArray[np.float32], rate: int) -> Any:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples)[None], format="flt", layout="mono")
    frame.sample_rate = rate
    return frame
