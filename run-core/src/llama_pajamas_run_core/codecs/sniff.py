"""Which container a file of sound is, by its first bytes; names and declared types are often wrong."""

from collections.abc import Callable

#: (offset, bytes there, FFmpeg's demuxer). Only these are ever opened: FFmpeg also knows playlists and session
#: descriptions, which make it open other files and addresses.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (8, b"WAVE", "wav"),  # after RIFF, RIFX or RF64 and a size
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (0, b"\x1aE\xdf\xa3", "matroska"),  # webm is matroska
    (4, b"ftyp", "mov"),  # mov is m4a, mp4 and 3gp too
    (4, b"moov", "mov"),
    (4, b"mdat", "mov"),
    (4, b"free", "mov"),
    (4, b"wide", "mov"),
    (4, b"styp", "mov"),
    (8, b"AIFF", "aiff"),
    (8, b"AIFC", "aiff"),
    (8, b"AVI ", "avi"),
    (0, b".snd", "au"),
    (0, b"caff", "caf"),
    (0, b"#!AMR", "amr"),
    (0, b"FLV\x01", "flv"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "asf"),  # wma
    (0, b"\0\0\x01\xba", "mpeg"),
)

#: Kilobits per second by MPEG's bitrate index 1 to 14: of version 1's layers I, II and III, of the later versions'
#: layer I, and of their layers II and III (ISO/IEC 11172-3 and 13818-3).
_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)


def sniff(data: bytes) -> str | None:
    """The name of FFmpeg's demuxer for a file.

    Args:
        data: the whole file.

    Returns:
        The name, or None where the file is none that holds sound.
    """
    for offset, signature, name in _SIGNATURES:
        if data.startswith(signature, offset):
            return name if name != "wav" or data[:4] in (b"RIFF", b"RIFX", b"RF64") else None
    if data[:1] == b"G" and data[188:189] == b"G" and data[376:377] in (b"G", b""):
        return "mpegts"
    start = _after_tag(data)
    if data.startswith(b"fLaC", start):
        return "flac"
    for name, length in (("aac", _adts_length), ("mp3", _mpeg_length)):
        if _repeats(data, start, length):
            return name
    return "mp3" if start else None  # a tag with something odd behind it is an MP3 more often than not


def _after_tag(data: bytes) -> int:
    """Where the sound begins behind an ID3v2 tag, or 0."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _repeats(data: bytes, start: int, length: Callable[[bytes], int]) -> bool:
    """Whether a frame stands there, and another behind it unless the file ends."""
    step = length(data[start : start + 6])
    return step > 0 and (start + step + 6 > len(data) or length(data[start + step : start + step + 6]) > 0)


def _adts_length(head: bytes) -> int:
    """Bytes of the AAC frame with this ADTS header (ISO/IEC 14496-3, 1.A.2.2), or 0 where it is none."""
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length > 7 else 0


def _mpeg_length(head: bytes) -> int:
    """Bytes of the MPEG audio frame with this header, or 0 where it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return 0
    bits = _BITRATES[1 if version == 3 else 2, layer][bitrate - 1] * 1000
    hertz = _RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    if layer == 1:
        return (12 * bits // hertz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // hertz + padding
