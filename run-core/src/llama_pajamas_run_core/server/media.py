"""Pictures and sounds inside JSON: data URLs, bare base64, and URLs where fetching is allowed."""

import base64
import binascii
import re
from collections.abc import Iterator
from contextlib import contextmanager

from llama_pajamas_run_core.codecs.audio import decode_audio
from llama_pajamas_run_core.codecs.image import decode_image
from llama_pajamas_run_core.errors import BadInput, TooLarge, UserError
from llama_pajamas_run_core.server.fetch import fetch
from llama_pajamas_run_core.server.settings import Settings
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.types.vision import Image

_DATA_URL = re.compile(r"data:[^,]{0,200}?(;base64)?,", re.IGNORECASE)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):")


@contextmanager
def naming(param: str) -> Iterator[None]:
    """Have errors of the user's making name the parameter that they are about."""
    try:
        yield
    except UserError as error:
        error.param = param
        raise


def read_image(source: str, settings: Settings, *, param: str) -> Image:
    """The picture that a request holds, as :func:`media_bytes` says; decoded."""
    with naming(param):
        return decode_image(media_bytes(source, settings, param=param), settings.limits.decoded)


def read_audio(source: str, settings: Settings, *, param: str) -> Audio:
    """The sound that a request holds, as :func:`media_bytes` says; decoded."""
    with naming(param):
        return decode_audio(media_bytes(source, settings, param=param), settings.limits.decoded)


def media_bytes(source: str, settings: Settings, *, param: str) -> bytes:
    """The bytes of a picture or sound. Blocks where it is fetched.

    Args:
        source: a data URL, bare base64, or an http(s) URL.
        settings: whether URLs are fetched, and how large a file may be.
        param: where the source stands in the request.

    Raises:
        BadInput: it is not base64, its scheme is not served, or it cannot be fetched.
        TooLarge: it is larger than an upload may be.
    """
    source = source.strip()
    if not source:
        raise BadInput("The file is empty.", param=param)
    if (match := _DATA_URL.match(source)) is not None:
        if not match[1]:
            raise BadInput("A data URL must be base64: data:image/png;base64,...", param=param)
        return _decoded(source[match.end() :], settings, param)
    if (match := _SCHEME.match(source)) is not None:
        if match[1].lower() not in ("http", "https"):
            raise BadInput(f"URLs of the scheme '{match[1]}' are not read.", hint="Send a data URL.", param=param)
        if not settings.fetch_media:
            raise BadInput(
                "This server does not fetch URLs.",
                hint="Send the file itself as a data URL (data:image/png;base64,...), or start it with --fetch-media.",
                param=param,
            )
        return fetch(source, limit=settings.limits.upload, param=param)
    return _decoded(source, settings, param)


def _decoded(text: str, settings: Settings, param: str) -> bytes:
    if len(text) * 3 // 4 > settings.limits.upload + 3:
        raise TooLarge(f"The file is larger than {settings.limits.upload // 2**20} MiB.", param=param)
    try:
        compact = "".join(text.split()).replace("-", "+").replace("_", "/")
        data = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("The file is not valid base64.", param=param) from None
    if not data:
        raise BadInput("The file is empty.", param=param)
    return data
