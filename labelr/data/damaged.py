"""Damaged image files: JPEG and PNG without the metadata for which Pillow refuses them, and what libtiff says."""

import ctypes
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from PIL import PngImagePlugin, _imaging

# Pillow's own limit holds for the whole process too, and its 1 MB refuse the profiles of many printers and scanners.
PngImagePlugin.MAX_TEXT_CHUNK = 2**24

PNG_HEAD = b"\x89PNG"
JPEG_HEAD = b"\xff\xd8\xff"

PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
"""The chunks of a PNG file that its pixels depend on, and that are never left out."""
COLOUR_CHUNKS = frozenset({b"iCCP", b"eXIf", b"tRNS"})
"""Colour profile, orientation and transparent colour."""
TRANSPARENT_BYTES = {0: 2, 2: 6}
"""The length of the transparent colour, by the colour type of the PNG file: grey and colour."""

START_OF_SCAN, COMMENT, APPLICATION = 0xDA, 0xFE, range(0xE0, 0xF0)
"""Markers of JPEG."""
WANTED_SEGMENTS = {0xE1: (b"Exif\0\0", 14), 0xE2: (b"ICC_PROFILE\0", 14), 0xEE: (b"Adobe", 12)}
"""How the segments of orientation, colour profile and colour transform begin, and their least length in bytes."""
MAX_MESSAGE = 200
"""The bytes of a message of libtiff that are kept."""
_OWN_NAME = "tempfile.tif: "
"""How Pillow calls every file towards libtiff."""

_thread = threading.local()
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)


# --- metadata --------------------------------------------------------------------------------------------------------


def without_metadata(file: IO[bytes]) -> bytes | None:
    """A JPEG or PNG file without its metadata, except what is sound and affects its colours or orientation.

    None for a file of another format.
    """
    file.seek(0)
    head = file.read(len(PNG_HEAD))
    if not head.startswith((PNG_HEAD, JPEG_HEAD)):
        return None
    content = head + file.read()
    if head == PNG_HEAD:
        return content[:8] + b"".join(chunk for chunk in _chunks(content) if _is_wanted(chunk, content[25:26]))
    return content[:2] + b"".join(_segments(content))


def _segments(jpeg: bytes) -> Iterator[bytes]:
    """The segments of a JPEG file that are wanted; the last one is everything from the first scan on."""
    start = 2
    while jpeg[start : start + 1] == b"\xff" and jpeg[start + 1 : start + 2] not in (b"", bytes([START_OF_SCAN])):
        end = start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big")
        marker, content = jpeg[start + 1], jpeg[start + 4 : end]
        if marker in WANTED_SEGMENTS:
            prefix, least = WANTED_SEGMENTS[marker]
            is_wanted = content.startswith(prefix) and len(content) >= least
        else:
            is_wanted = marker != COMMENT and marker not in APPLICATION
        if is_wanted:
            yield jpeg[start:end]
        start = end
    yield jpeg[start:]


def _chunks(png: bytes) -> Iterator[bytes]:
    start = 8
    while start + 12 <= len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        yield png[start:end]
        start = end


def _is_wanted(chunk: bytes, colour_type: bytes) -> bool:
    name, content = chunk[4:8], chunk[8:-4]
    if name not in COLOUR_CHUNKS:
        return name in PIXEL_CHUNKS
    if name == b"tRNS":
        return len(content) == TRANSPARENT_BYTES.get(colour_type[0], len(content))
    if zlib.crc32(chunk[4:-4]).to_bytes(4, "big") != chunk[-4:]:
        return False
    return name == b"eXIf" or _is_sound_profile(content.partition(b"\0")[2])


def _is_sound_profile(content: bytes) -> bool:
    """Whether a profile, a byte for the method before it, can be unpacked and is not huge."""
    profile = zlib.decompressobj()
    try:
        profile.decompress(content[1:], PngImagePlugin.MAX_TEXT_CHUNK)
    except zlib.error:
        return False
    return content.startswith(b"\0") and not profile.unconsumed_tail


# --- libtiff ---------------------------------------------------------------------------------------------------------


@contextmanager
def libtiff_errors() -> Iterator[list[str]]:
    """The errors of libtiff in this thread, which it would print, and which are added while the context lasts."""
    messages: list[str] = []
    _thread.messages = messages
    try:
        yield messages
    finally:
        _thread.messages = None


def _set_handlers() -> tuple[Any, ...]:
    """Sets the handlers of the libtiff that Pillow uses, and returns what must stay in memory.

    Where libtiff is built into Pillow's own library, as on Windows, it cannot be reached and still prints.
    """
    with suppress(OSError, AttributeError, TypeError):
        libtiff, libc = ctypes.CDLL(_imaging.__file__), ctypes.CDLL(None)
        libtiff.TIFFSetErrorHandler.restype = ctypes.c_void_p
        libtiff.TIFFSetErrorHandler.argtypes = libtiff.TIFFSetWarningHandler.argtypes = [ctypes.c_void_p]
        libc.vsnprintf.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p]

        def record(module: bytes | None, form: bytes, arguments: int) -> None:
            messages = getattr(_thread, "messages", None)
            if messages is None:
                if previous:  # another user of Pillow
                    _Handler(previous)(module, form, arguments)
            elif not messages:
                buffer = ctypes.create_string_buffer(MAX_MESSAGE)
                libc.vsnprintf(buffer, MAX_MESSAGE, form, arguments)
                text = ": ".join(part.decode(errors="replace") for part in (module, buffer.value) if part)
                messages.append(text.removeprefix(_OWN_NAME).strip(". "))

        handler = _Handler(record)
        previous = libtiff.TIFFSetErrorHandler(handler)
        libtiff.TIFFSetWarningHandler(None)
        return handler, libtiff, libc
    return ()


_kept = _set_handlers()
