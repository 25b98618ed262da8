import io
import random
import struct
import sys
import zlib

import numpy as np
import PIL.Image
import pytest

from llama_pajamas_run_core.codecs.image import IMAGE_TYPES, decode_image, encode_image
from llama_pajamas_run_core.codecs.limits import Limits
from llama_pajamas_run_core.errors import BadInput, MissingDependency, TooLarge
from llama_pajamas_run_core.types.vision import Image

RED, BLUE, GREEN, WHITE = (255, 0, 0), (0, 0, 255), (0, 128, 0), (255, 255, 255)


def quarters():
    """Red, white above blue, green; 60 wide, 40 high."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :30], pixels[:20, 30:], pixels[20:, :30], pixels[20:, 30:] = RED, WHITE, BLUE, GREEN
    return pixels


def saved(picture, format, **options):
    file = io.BytesIO()
    picture.save(file, format=format, **options)
    return file.getvalue()


def close(pixels, expected, within=6.0):
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < within


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height, extra=b""):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("format", IMAGE_TYPES)
def test_what_is_written_can_be_read(format):
    data = encode_image(Image(quarters()), format)
    close(decode_image(data).pixels, quarters(), 0.001 if format == "png" else 6)
    assert PIL.Image.MIME[PIL.Image.open(io.BytesIO(data)).format] == IMAGE_TYPES[format]


@pytest.mark.parametrize(
    ("mode", "format"),
    [("P", "GIF"), ("P", "PNG"), ("RGB", "BMP"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("RGB", "WEBP"), ("RGB", "JPEG")],
)
def test_modes(mode, format):
    close(decode_image(saved(PIL.Image.fromarray(quarters()).convert(mode), format)).pixels, quarters())


@pytest.mark.parametrize(("mode", "format"), [("L", "PNG"), ("LA", "PNG"), ("L", "JPEG"), ("L", "BMP"), ("1", "PNG")])
def test_gray(mode, format):
    gray = PIL.Image.fromarray(quarters()).convert(mode)
    close(decode_image(saved(gray, format)).pixels, np.array(gray.convert("RGB")))


def test_sixteen_bits_are_scaled():
    ramp = np.linspace(0, 65535, 2400).reshape(40, 60).astype(np.uint16)
    made = decode_image(saved(PIL.Image.fromarray(ramp), "PNG")).pixels
    close(made, np.repeat((ramp / 257).round()[..., None], 3, axis=2), 0.01)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_pictures_stand_upright(format, orientation):
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what a camera held that way does to the picture
    stored = PIL.Image.fromarray(quarters())
    if orientation in undo:
        stored = stored.transpose(PIL.Image.Transpose(undo[orientation]))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    close(decode_image(saved(stored, format, exif=exif)).pixels, quarters())


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_notes_do_not_spoil_a_picture():
    data = saved(PIL.Image.fromarray(quarters()), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    close(decode_image(data).pixels, quarters())
    exif = PIL.Image.Exif()
    exif[0x0112] = 77
    close(decode_image(saved(PIL.Image.fromarray(quarters()), "JPEG", exif=exif)).pixels, quarters())


def test_what_is_transparent_lies_on_white():
    pixels = np.zeros((10, 10, 4), np.uint8)
    pixels[:5, :, 3] = 128
    for format in ("PNG", "WEBP"):
        made = decode_image(saved(PIL.Image.fromarray(pixels), format, lossless=True)).pixels
        assert made[0, 0].tolist() == pytest.approx([127] * 3, abs=1)
        assert made[9, 9].tolist() == [255] * 3
    palette = PIL.Image.fromarray(quarters()).convert("P", palette=PIL.Image.Palette.ADAPTIVE, colors=4)
    for format in ("PNG", "GIF"):
        made = decode_image(saved(palette, format, transparency=palette.getpixel((0, 0)))).pixels
        assert made[0, 0].tolist() == [255] * 3
        assert made[39, 59].tolist() == list(GREEN)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(format):
    first, second = PIL.Image.new("RGB", (20, 10), RED), PIL.Image.new("RGB", (20, 10), BLUE)
    options = {"lossless": True} if format == "WEBP" else {}
    data = saved(first, format, save_all=True, append_images=[second], duration=100, **options)
    assert PIL.Image.open(io.BytesIO(data)).n_frames == 2
    assert decode_image(data).pixels[5, 5].tolist() == list(RED)


def bmp_of(width, height):
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def gif_of(screen, frame):
    head = b"GIF89a" + struct.pack("<HH", *screen) + b"\0\0\0"
    return head + b"," + struct.pack("<HHHH", 0, 0, *frame) + b"\0\x08\x01\0\0;"


@pytest.mark.parametrize(
    "data",
    [
        png_of(9000, 9000),
        png_of(20_000, 20_000),
        png_of(2**31 - 1, 2**31 - 1),
        png_of(16_385, 1),
        bmp_of(60_000, 60_000),
        gif_of((65_535, 65_535), (1, 1)),
        gif_of((1, 1), (60_000, 60_000)),
    ],
)
def test_bombs_are_not_unfolded(data):
    with pytest.raises(TooLarge, match="64 megapixels or 16384 pixels"):
        decode_image(data)


def test_limits_can_be_set():
    data = encode_image(Image(quarters()))
    assert decode_image(data, Limits(image_pixels=2400, image_side=60)).width == 60
    with pytest.raises(TooLarge):
        decode_image(data, Limits(image_pixels=2399))
    with pytest.raises(TooLarge):
        decode_image(data, Limits(image_side=59))


def test_bombs_within_the_notes():
    squeezed = zlib.compress(b"a" * 100_000_000)
    for extra in (chunk(b"zTXt", b"k\0\0" + squeezed), chunk(b"iCCP", b"k\0\0" + squeezed)):
        with pytest.raises(BadInput, match="damaged"):
            decode_image(png_of(10, 10, extra))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"just some text", "not an image"),
        (b"\0" * 1000, "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not an image"),
        (png_of(30, 30), "damaged"),
    ],
)
def test_what_is_no_picture_is_told_apart(data, message):
    with pytest.raises(BadInput, match=message) as caught:
        decode_image(data)
    assert "0x" not in str(caught.value)
    assert "BytesIO" not in str(caught.value)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_half_a_picture_is_none(format):
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    data = saved(PIL.Image.fromarray(noise), format)
    with pytest.raises(BadInput):
        decode_image(data[: len(data) // 2])


def test_damaged_files_fail_cleanly():
    rng = random.Random(0)
    picture = PIL.Image.fromarray(quarters())
    outcomes: set[object] = set()
    messages: set[str] = set()
    for data in [saved(picture, format) for format in ("PNG", "JPEG", "WEBP", "BMP", "GIF")]:
        for _ in range(80):
            damaged = bytearray(data)
            for _ in range(rng.choice([1, 5, 50])):
                damaged[rng.randrange(min(len(damaged), rng.choice([60, 1000])))] = rng.randrange(256)
            try:
                outcomes.add(decode_image(bytes(damaged)).pixels.ndim)
            except BadInput as caught:
                outcomes.add(type(caught))
                messages.add(str(caught))
    assert {3, BadInput} <= outcomes
    assert not any("0x" in message or "Errno" in message for message in messages)
    for _ in range(300):
        with pytest.raises(BadInput):
            decode_image(rng.randbytes(rng.randrange(1, 3000)))


def test_formats_that_cannot_be_written():
    with pytest.raises(BadInput, match="png, jpeg, webp"):
        encode_image(Image(quarters()), "tiff")
    with pytest.raises(BadInput, match="does not fit webp"):
        encode_image(Image(np.zeros((1, 20_000, 3), np.uint8)), "webp")


def test_without_the_package(monkeypatch):
    for module in [name for name in sys.modules if name == "PIL" or name.startswith("PIL.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependency, match=r'pip install "llama-pajamas-run-core\[codecs\]"'):
        decode_image(b"GIF89a")
