"""Text as Unicode wants it."""


def well_formed(text: str) -> str:
    """The text with a question mark for each half of a surrogate pair, which JSON can carry and UTF-8 cannot.

    For libraries that take UTF-8: what people send must not end in an error of the library's own.
    """
    return text.encode("utf-8", "replace").decode("utf-8")
