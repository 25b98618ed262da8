"""Sound files to samples."""

import io
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.codecs._packages import load_av
from llama_pajamas_run_core.codecs.limits import DEFAULT_LIMITS, Limits
from llama_pajamas_run_core.codecs.sniff import sniff
from llama_pajamas_run_core.dsp.resample import resample
from llama_pajamas_run_core.errors import BadInput, TooLarge
from llama_pajamas_run_core.types.audio import Audio

_READABLE: Final = "Send wav, mp3, flac, ogg, opus, m4a, mp4, webm or aac."
#: Decoders that a file may call for; keeps FFmpeg from looking into a file's video while it probes.
_CODECS: Final = (
    "aac aac_fixed aac_latm ac3 eac3 alac flac mp1 mp1float mp2 mp2float mp3 mp3float opus libopus vorbis libvorbis "
    "speex libspeex amrnb amrwb wmav1 wmav2 wmapro gsm gsm_ms adpcm_ima_wav adpcm_ima_qt adpcm_ms pcm_alaw pcm_mulaw "
    "pcm_u8 pcm_s8 pcm_s16le pcm_s16be pcm_s24le pcm_s24be pcm_s32le pcm_s32be pcm_f32le pcm_f32be pcm_f64le pcm_f64be"
).split()
_RATES: Final = (1000, 768_000)
#: Samples that come out of an AAC decoder before the sound (ISO/IEC 14496-3); only containers can say so themselves.
_AAC_PRIMING: Final = 1024
#: Samples that are joined to one block; blocks of this size return to the system as soon as they are copied.
_BLOCK: Final = 1 << 20
#: A float file may hold anything; 12 dB above full scale is kept.
_LOUDEST: Final = 4.0


def decode_audio(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Audio:
    """Read a sound file: wav, mp3, flac, ogg (Opus, Vorbis), m4a, mp4, webm, aac and what else is common.

    What the file is shows in its bytes; of a video, the sound is taken. Nothing but the bytes is read: a file that
    names another file or an address is refused. A file that breaks off gives what came before.

    Args:
        data: the whole file.
        limits: how much sound there may be; held while decoding.

    Returns:
        The sound at its own rate, all channels averaged.

    Raises:
        BadInput: it is empty, no sound file, damaged, or without sound.
        TooLarge: there is more sound than ``limits`` allow.
        MissingDependency: PyAV is not installed.
    """
    if not data:
        raise BadInput("The audio file is empty (0 bytes).")
    format = sniff(data)
    if format is None:
        raise BadInput("The file is not audio, or of a kind that is not read.", hint=_READABLE)
    av = load_av("Decoding audio")
    gathered = _Gathered(limits)
    try:
        with av.open(
            io.BytesIO(data),
            "r",
            format=format,
            container_options={"protocol_whitelist": "none", "codec_whitelist": ",".join(_CODECS)},
            metadata_errors="ignore",
            io_open=_refuse,
        ) as container:
            _decode(av, container, gathered)
    except (av.error.FFmpegError, ValueError, ArithmeticError, LookupError):
        # Damaged so that the container cannot be followed further; the libraries' own words name addresses.
        pass
    audio = gathered.finish()
    if audio is None:
        raise BadInput("The audio file is damaged or cut off: no sound can be read from it.", hint=_READABLE)
    return audio


def _refuse(*_: object) -> NoReturn:
    raise PermissionError("a file of sound opens no other file")


def _decode(av: Any, container: Any, gathered: "_Gathered") -> None:
    """Gather the samples of the container's sound.

    Raises:
        BadInput: there is no sound in it, or of a kind that is not read.
    """
    stream = container.streams.best("audio")
    if stream is None:
        raise BadInput("The file has no audio track.")
    if stream.codec_context is None or stream.codec_context.name not in _CODECS:
        raise BadInput("The file's audio is of a kind that is not read.", hint=_READABLE)
    skip = _AAC_PRIMING if container.format.name == "aac" else 0
    for frame in _frames(av, container, stream):
        samples = _mono(frame)
        if skip:
            skip, samples = max(0, skip - len(samples)), samples[skip:]
        gathered.add(samples, int(frame.sample_rate))


def _frames(av: Any, container: Any, stream: Any) -> Iterator[Any]:
    """The frames; packets that are damaged are left out, as players do."""
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue


def _mono(frame: Any) -> npt.NDArray[np.float32]:
    """The mean of a frame's channels."""
    raw: npt.NDArray[Any] = frame.to_ndarray()  # [channels, n], or [1, n * channels] where they are interleaved
    if not frame.format.is_planar:
        raw = raw.reshape(-1, frame.layout.nb_channels).T
    kind = raw.dtype
    if kind.kind == "f":
        raw = np.clip(np.nan_to_num(raw), -_LOUDEST, _LOUDEST)
    mixed: npt.NDArray[np.floating[Any]] = raw.mean(axis=0, dtype=np.float64 if kind.itemsize > 2 else np.float32)
    if kind == np.uint8:
        mixed = (mixed - 128) / 128
    elif kind.kind == "i":
        mixed = mixed / float(2 ** (8 * kind.itemsize - 1))
    return mixed.astype(np.float32)


class _Gathered:
    """Samples as they come, within the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._blocks: list[tuple[int, npt.NDArray[np.float32]]] = []  # with their rates
        self._pending: list[npt.NDArray[np.float32]] = []
        self._count = 0  # of samples pending
        self._rate = 0  # of those
        self._seconds = 0.0

    def add(self, samples: npt.NDArray[np.float32], rate: int) -> None:
        """Append samples.

        Raises:
            BadInput: the rate is out of range.
            TooLarge: this is past the limits.
        """
        if not _RATES[0] <= rate <= _RATES[1]:
            raise BadInput(f"The audio has a sample rate of {rate} Hz; {_RATES[0]} to {_RATES[1]} are read.")
        if rate != self._rate or self._count >= _BLOCK:
            self._join()
            self._rate = rate
        self._pending.append(samples)
        self._count += len(samples)
        self._seconds += len(samples) / rate
        first = self._blocks[0][0] if self._blocks else rate
        most = min(self._limits.audio_seconds, self._limits.audio_samples / max(first, rate))
        if self._seconds > most:
            raise TooLarge(
                f"The audio is longer than {most:g} seconds.", hint="Split it, or bring it to a lower sample rate."
            )

    def finish(self) -> Audio | None:
        """All of it at the rate of its beginning, or None where there is nothing."""
        self._join()
        if not self._blocks:
            return None
        rate = self._blocks[0][0]
        # Ogg files may be chained, each link at a rate of its own.
        blocks = [resample(block, own, rate) for own, block in self._blocks]
        self._blocks.clear()
        whole = np.empty(sum(map(len, blocks)), np.float32)
        end = len(whole)
        while blocks:  # from the end, so that each block is free once it is copied: half the memory of concatenate
            block = blocks.pop()
            whole[end - len(block) : end] = block
            end -= len(block)
        return Audio(whole, rate)

    def _join(self) -> None:
        if self._count:
            self._blocks.append((self._rate, np.concatenate(self._pending)))
        self._pending.clear()
        self._count = 0
