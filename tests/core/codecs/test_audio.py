import io
import random
import struct
import sys

import av
import numpy as np
import pytest

from llama_pajamas_run_core.codecs.audio import MEDIA_TYPES, AudioEncoder, decode_audio, encode_audio
from llama_pajamas_run_core.codecs.limits import Limits
from llama_pajamas_run_core.errors import BadInput, MissingDependency, TooLarge
from llama_pajamas_run_core.types.audio import Audio

RATE = 24_000
FILES = [format for format in MEDIA_TYPES if format != "pcm"]


def chirp(seconds=2.0, rate=RATE):
    """A rising tone: no stretch of it is like another, so that shifts show."""
    t = np.arange(int(seconds * rate)) / rate
    return Audio((0.3 * np.sin(2 * np.pi * (300 * t + 200 * t * t))).astype(np.float32), rate)


def streamed(audio, format, step=0.25):
    encoder = AudioEncoder(format, audio.rate)
    size = int(step * audio.rate)
    pieces = [encoder.push(Audio(audio.samples[i : i + size], audio.rate)) for i in range(0, len(audio.samples), size)]
    return [*pieces, encoder.finish()]


def error(audio, expected):
    """Mean difference of a second from its middle."""
    here = slice(audio.rate // 2, audio.rate * 3 // 2)
    return float(np.abs(audio.samples[here] - expected.samples[here]).mean())


class Pipe:
    """A file without a way back, as a browser's recorder has it."""

    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += bytes(data)
        return len(data)


def written(container, codec, *, rate=RATE, layout="mono", video=False, pipe=False, audio=None, sound=True):
    file = Pipe() if pipe else io.BytesIO()
    audio = audio or chirp()
    channels = np.stack([audio.samples, audio.samples / 2])[: 2 if layout == "stereo" else 1]
    with av.open(file, "w", format=container) as output:
        if video:
            picture = output.add_stream("mpeg4", rate=10)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        track = output.add_stream(codec, rate=rate, layout=layout) if sound else None
        if video:
            for i in range(20):
                pixels = np.full((48, 64, 3), i * 10, np.uint8)
                output.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            output.mux(picture.encode(None))
        if track is not None:
            frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout=layout)
            frame.sample_rate = audio.rate
            output.mux(track.encode(frame))
            output.mux(track.encode(None))
    return file.data if pipe else file.getvalue()


@pytest.mark.parametrize("format", FILES)
def test_what_is_written_can_be_read(format):
    audio = chirp()
    made = decode_audio(encode_audio(audio, format))
    assert made.rate == (48_000 if format == "opus" else RATE)
    assert made.duration == pytest.approx(2.0, abs=0.04 if format == "aac" else 1e-3)
    expected = chirp(rate=made.rate)
    assert error(made, expected) < {"flac": 2e-5, "wav": 2e-5}.get(format, 0.01)


@pytest.mark.parametrize("format", FILES)
def test_what_is_streamed_can_be_read(format):
    audio = chirp(3.0)
    pieces = streamed(audio, format)
    assert sum(map(len, pieces[:4])) > 0.5 * sum(map(len, pieces)) / 3, "a second that goes in soon comes out"
    made = decode_audio(b"".join(pieces))
    delay = 1105 if format == "mp3" else 0  # which an MP3 tells in a frame that a stream cannot have
    assert made.duration == pytest.approx(3.0, abs=0.08)
    shifted = Audio(made.samples[delay:], made.rate)
    assert error(shifted, chirp(3.0, made.rate)) < 0.01


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 17_000, 22_050, 44_100, 96_000])
@pytest.mark.parametrize("format", FILES)
def test_every_rate_finds_a_codec(format, rate):
    audio = chirp(1.0, rate)
    made = decode_audio(encode_audio(audio, format))
    assert made.duration == pytest.approx(1.0, abs=0.13)
    spectrum = np.abs(np.fft.rfft(made.samples[: made.rate // 10]))
    assert spectrum.argmax() * 10 == pytest.approx(320, abs=30)


def test_the_first_bytes_say_what_it_is():
    audio = chirp(0.5)
    mp3, opus, aac, flac, wav = (encode_audio(audio, format) for format in FILES)
    assert mp3[:3] == b"ID3"
    assert opus[:4] == b"OggS"
    assert opus[28:36] == b"OpusHead"
    assert aac[0] == 0xFF
    assert aac[1] & 0xF6 == 0xF0
    assert flac[:4] == b"fLaC"
    assert (wav[:4], wav[8:12]) == (b"RIFF", b"WAVE")


def test_wav_headers():
    audio = chirp(1.0)
    whole = encode_audio(audio, "wav")
    assert struct.unpack("<I", whole[4:8]) == (len(whole) - 8,)
    assert struct.unpack("<HHIIHH", whole[20:36]) == (1, 1, RATE, 2 * RATE, 2, 16)
    assert struct.unpack("<I", whole[40:44]) == (2 * RATE,)
    piecewise = b"".join(streamed(audio, "wav"))
    assert piecewise[4:8] == piecewise[40:44] == b"\xff\xff\xff\xff"
    assert piecewise[44:] == whole[44:]


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000])
def test_pcm_is_always_at_24_khz(rate):
    audio = chirp(2.0, rate)
    whole = encode_audio(audio, "pcm")
    assert len(whole) == 2 * 2 * 24_000
    assert error(Audio.from_pcm16(whole, 24_000), chirp()) < 2e-3
    assert b"".join(streamed(audio, "pcm", step=0.1)) == whole


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_equal_sound_gives_equal_files(format):
    assert encode_audio(chirp(0.5), format) == encode_audio(chirp(0.5), format)


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_an_encoder_takes_nothing_and_nan(format):
    nothing = Audio(np.zeros(0, np.float32), RATE)
    assert isinstance(encode_audio(nothing, format), bytes)
    encoder = AudioEncoder(format, RATE)
    encoder.push(nothing)
    encoder.push(Audio(np.array([np.nan, np.inf, -np.inf, 9] * 3000, np.float32), RATE))
    encoder.finish()
    assert encoder.finish() == b""
    with pytest.raises(ValueError, match="finished"):
        encoder.push(nothing)


def test_an_encoder_refuses_another_rate_and_format():
    with pytest.raises(ValueError, match="24000 Hz, not 16000"):
        AudioEncoder("wav", RATE).push(chirp(rate=16_000))
    with pytest.raises(BadInput, match="mp3, opus, aac"):
        encode_audio(chirp(), "m4a")
    with pytest.raises(BadInput, match="'../x'"):
        AudioEncoder("../x", RATE)


CONTAINERS = {
    "m4a": {"container": "ipod", "codec": "aac"},
    "mp4 with video": {"container": "mp4", "codec": "aac", "video": True},
    "webm": {"container": "webm", "codec": "libopus", "rate": 48_000},
    "webm of a browser": {"container": "webm", "codec": "libopus", "rate": 48_000, "pipe": True},
    "stereo matroska with video": {
        "container": "matroska",
        "codec": "libopus",
        "rate": 48_000,
        "layout": "stereo",
        "video": True,
    },
    "alac": {"container": "ipod", "codec": "alac"},
    "mpeg program stream": {"container": "vob", "codec": "mp2", "rate": 48_000},
    "mpeg transport stream": {"container": "mpegts", "codec": "aac"},
    "mp2": {"container": "mp2", "codec": "mp2"},
    "aiff": {"container": "aiff", "codec": "pcm_s16be"},
    "24-bit stereo wav": {"container": "wav", "codec": "pcm_s24le", "layout": "stereo"},
    "float wav": {"container": "wav", "codec": "pcm_f32le"},
    "8-bit wav": {"container": "wav", "codec": "pcm_u8"},
    "32-bit wav": {"container": "wav", "codec": "pcm_s32le"},
    "mu-law wav": {"container": "wav", "codec": "pcm_mulaw", "rate": 8000},
    "avi": {"container": "avi", "codec": "libmp3lame", "video": True},
    "caf": {"container": "caf", "codec": "pcm_s16be"},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_what_others_write_can_be_read(name):
    options = CONTAINERS[name]
    made = decode_audio(written(**options))
    assert made.rate == options.get("rate", RATE)
    assert made.duration == pytest.approx(2.0, abs=0.07)
    second = made.samples[made.rate // 2 : made.rate * 3 // 2]
    assert np.abs(second).max() == pytest.approx(0.225 if "stereo" in name else 0.3, abs=0.05)
    spectrum = np.abs(np.fft.rfft(second * np.hanning(len(second))))
    assert 450 < spectrum.argmax() < 950


def test_channels_are_averaged():
    pcm = np.frombuffer(chirp().to_pcm16(), "<i2")
    stereo = np.stack([pcm, np.zeros_like(pcm)], axis=1).tobytes()
    header = b"RIFF" + struct.pack("<I", 36 + len(stereo)) + b"WAVEfmt " + struct.pack("<I", 16)
    data = header + struct.pack("<HHIIHH", 1, 2, RATE, 4 * RATE, 4, 16) + b"data" + struct.pack("<I", len(stereo))
    made = decode_audio(data + stereo)
    np.testing.assert_allclose(made.samples, pcm / 65536, atol=1e-6)


def test_chained_ogg_files_come_at_the_rate_of_the_first():
    two = encode_audio(chirp(1.0), "opus") * 2
    assert decode_audio(two).duration == pytest.approx(2.0, abs=0.05)


def test_a_file_that_breaks_off_gives_what_there_is():
    for format in FILES:
        data = encode_audio(chirp(), format)
        made = decode_audio(data[: len(data) // 2])
        assert 0.3 < made.duration < 1.5, format


def test_limits_hold_while_decoding():
    for format in FILES:
        data = encode_audio(chirp(3.0), format)
        with pytest.raises(TooLarge, match="longer than 2 seconds"):
            decode_audio(data, Limits(audio_seconds=2.0))
        with pytest.raises(TooLarge, match="longer than"):
            decode_audio(data, Limits(audio_samples=RATE))
        assert decode_audio(data, Limits(audio_seconds=4.0)).duration > 2.9


def test_a_file_that_claims_a_long_sound_is_not_believed():
    wav = bytearray(encode_audio(chirp(), "wav"))
    wav[4:8] = wav[40:44] = struct.pack("<I", 0xFFFF_FFF0)
    assert decode_audio(bytes(wav)).duration == 2.0
    wav[24:28] = struct.pack("<I", 1)  # one sample a second, so that it lasts half a day
    with pytest.raises(BadInput, match="rate of 1 Hz"):
        decode_audio(bytes(wav))


def png():
    return b"\x89PNG\r\n\x1a\n" + b"\0" * 200


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"just some text " * 100, "not audio"),
        ("\ufeffsome text".encode("utf-16"), "not audio"),
        (b"\0" * 5000, "not audio"),
        (b"\xff" * 5000, "not audio"),
        (png(), "not audio"),
        (b"%PDF-1.7\n" * 100, "not audio"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "not audio"),
        (b"RIFF\xff\xff\xff\xffWAVE", "no sound"),
        (b"fLaC", "no sound"),
        (b"OggS", "no sound"),
        (b"ID3", "not audio"),
        (b"ID3\x04\0\0\0\0\0\x0a" + b"\0" * 20, "no sound"),
        (b"\x1aE\xdf\xa3" + b"\0" * 100, "no sound"),
        (b"\0\0\0\x18ftypM4A \0\0\0\0", "no sound"),
    ],
)
def test_what_is_no_sound_is_told_apart(data, message):
    with pytest.raises(BadInput, match=message) as caught:
        decode_audio(data)
    shown = str(caught.value)
    assert "av." not in shown
    assert "Errno" not in shown
    assert "0x" not in shown


def test_headers_without_sound():
    for format in FILES:
        data = encode_audio(Audio(np.zeros(0, np.float32), RATE), format)
        with pytest.raises(BadInput):
            decode_audio(data)
    wav = encode_audio(chirp(), "wav")
    for size in (20, 43, 44):
        with pytest.raises(BadInput, match="damaged or cut off"):
            decode_audio(wav[:size])


def test_a_video_without_sound():
    with pytest.raises(BadInput, match="no audio track"):
        decode_audio(written("mp4", "aac", video=True, sound=False))


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{url}'\n",
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nc=IN IP4 127.0.0.1\r\nm=audio 5004 RTP/AVP 0\r\n",
        "<?xml version='1.0'?><MPD><BaseURL>{url}</BaseURL></MPD>",
    ],
)
def test_no_file_opens_another(text, tmp_path):
    secret = tmp_path / "secret.wav"
    secret.write_bytes(encode_audio(chirp(), "wav"))
    for url in (secret.as_uri(), str(secret), "http://127.0.0.1:9/secret.wav"):
        with pytest.raises(BadInput, match="not audio"):
            decode_audio(text.format(url=url).encode())


def test_damaged_files_fail_cleanly():
    rng = random.Random(0)
    sources = [encode_audio(chirp(0.5), format) for format in FILES]
    sources += [written("ipod", "aac", audio=chirp(0.5)), written("webm", "libopus", rate=48_000, audio=chirp(0.5))]
    sources.append(written("wav", "pcm_f32le", audio=chirp(0.5)))
    outcomes: set[object] = set()
    messages: set[str] = set()
    for data in sources:
        for _ in range(25):
            damaged = bytearray(data)
            for _ in range(rng.choice([1, 5, 50, 500])):
                damaged[rng.randrange(min(len(damaged), rng.choice([100, 1000, 10**9])))] = rng.randrange(256)
            at = rng.randrange(len(damaged))
            damaged[at:at] = rng.randbytes(rng.choice([0, 0, 300]))
            try:
                made = decode_audio(bytes(damaged), Limits(audio_seconds=60))
            except BadInput as caught:
                outcomes.add(type(caught))
                messages.add(str(caught))
            else:
                outcomes.add(Audio)
                assert np.isfinite(made.samples).all()
                assert made.duration <= 60
    assert {Audio, BadInput} <= outcomes
    assert not any("0x" in message or "Errno" in message for message in messages)


def test_random_bytes_are_no_audio():
    rng = random.Random(1)
    for _ in range(500):
        with pytest.raises(BadInput):
            decode_audio(rng.randbytes(rng.randrange(1, 4000)))


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependency, match=r'pip install "llama-pajamas-run-core\[codecs\]"'):
        decode_audio(b"fLaC")
    with pytest.raises(MissingDependency, match="Encoding audio"):
        AudioEncoder("mp3", RATE)
    assert len(encode_audio(chirp(1.0), "wav")) == 44 + 2 * RATE
