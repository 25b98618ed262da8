"""Picture files: :func:`decode_image` reads them, :func:`encode_image` writes them."""

import io
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from llama_pajamas_run_core.codecs._packages import load_pillow
from llama_pajamas_run_core.codecs.limits import DEFAULT_LIMITS, Limits
from llama_pajamas_run_core.errors import BadInput, TooLarge
from llama_pajamas_run_core.types.vision import Image

#: The formats that can be written, with their media types.
IMAGE_TYPES: Final = MappingProxyType({"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"})
_READABLE: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_HINT: Final = "Send png, jpeg, webp, gif or bmp."
_ORIENTATION: Final = 0x0112  # EXIF
#: EXIF's orientations 2 to 8 as Pillow's transpositions that undo them.
_UPRIGHT: Final = (
    "FLIP_LEFT_RIGHT",
    "ROTATE_180",
    "FLIP_TOP_BOTTOM",
    "TRANSPOSE",
    "ROTATE_270",
    "TRANSVERSE",
    "ROTATE_90",
)


def decode_image(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Image:
    """Read a picture file: png, jpeg, webp, gif or bmp.

    The picture is turned as its EXIF orientation asks, laid on white where it is transparent, and brought to 8 bits
    and RGB; of an animation, the first frame is taken.

    Args:
        data: the whole file; what it is shows in its bytes.
        limits: how large the picture may be; looked at before it is unfolded.

    Raises:
        BadInput: it is empty, no picture, or damaged.
        TooLarge: it has more pixels than ``limits`` allow.
        MissingDependency: Pillow is not installed.
    """
    if not data:
        raise BadInput("The image file is empty (0 bytes).")
    pillow = load_pillow("Decoding images")
    try:
        with pillow.open(io.BytesIO(data), formats=_READABLE) as picture:
            _check(picture.width, picture.height, limits)
            picture.load()
            # A frame may turn out larger than the file's header says.
            _check(picture.width, picture.height, limits)
            pixels = np.array(_flat(pillow, _upright(pillow, picture)), np.uint8)
    except (BadInput, MemoryError):
        raise
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning):
        raise _too_large(limits) from None
    except _unidentified():
        raise BadInput("The file is not an image, or of a kind that is not read.", hint=_HINT) from None
    except Exception:
        # A parser of hostile bytes may raise anything (OSError, SyntaxError, struct.error, ...), with addresses in it.
        raise BadInput("The image file is damaged or cut off.") from None
    return Image(pixels)


def encode_image(image: Image, format: str = "png") -> bytes:
    """Write a picture file.

    Args:
        image: the picture.
        format: one of ``IMAGE_TYPES``; "jpeg" and "webp" lose detail.

    Raises:
        BadInput: there is no such format, or it cannot hold a picture of this size.
        MissingDependency: Pillow is not installed.
    """
    if format not in IMAGE_TYPES:
        raise BadInput(f"'{format}' is no image format that is written.", hint=f"Use one of: {', '.join(IMAGE_TYPES)}.")
    pillow = load_pillow("Encoding images")
    file = io.BytesIO()
    options = {} if format == "png" else {"quality": 90}
    try:
        pillow.fromarray(np.ascontiguousarray(image.pixels)).save(file, format=format.upper(), **options)
    except (OSError, ValueError):
        raise BadInput(f"A picture of {image.width}x{image.height} pixels does not fit {format}.") from None
    return file.getvalue()


def _unidentified() -> type[Exception]:
    """Pillow's error for a file that it does not know."""
    error: type[Exception] = load_pillow("Decoding images", "PIL").UnidentifiedImageError
    return error


def _check(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.image_pixels or max(width, height) > limits.image_side:
        raise _too_large(limits)


def _too_large(limits: Limits) -> TooLarge:
    return TooLarge(
        f"The image is larger than {limits.image_pixels / 1e6:g} megapixels or {limits.image_side} pixels on a side.",
        hint="Send a smaller one.",
    )


def _upright(pillow: Any, picture: Any) -> Any:
    """The picture as its EXIF orientation asks; as it is where that cannot be read."""
    try:
        orientation = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # EXIF is a parser of its own, and a picture is worth more than its notes
        return picture
    if orientation not in range(2, 9):
        return picture
    return picture.transpose(pillow.Transpose[_UPRIGHT[orientation - 2]])


def _flat(pillow: Any, picture: Any) -> Any:
    """The picture as 8-bit RGB on white."""
    if picture.mode.startswith("I") or picture.mode == "F":  # 16-bit gray, which convert() would clip and not scale
        gray = np.clip(np.asarray(picture).astype(np.float32) / 257.0, 0, 255).round().astype(np.uint8)
        return pillow.fromarray(gray).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    colours = picture.convert("RGBA")
    white = pillow.new("RGBA", colours.size, (255, 255, 255, 255))
    return pillow.alpha_composite(white, colours).convert("RGB")
