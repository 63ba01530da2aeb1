"""What libtiff says about a damaged file, which it would print among the output of labelr."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from PIL import _imaging

MAX_LENGTH = 200
"""The bytes of a message that are kept."""
_OWN_NAME = "tempfile.tif: "
"""How Pillow calls every file towards libtiff."""

_thread = threading.local()
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)


@contextmanager
def recorded() -> Iterator[list[str]]:
    """The errors of libtiff in this thread, which are added while the context lasts."""
    messages: list[str] = []
    _thread.messages = messages
    try:
        yield messages
    finally:
        _thread.messages = None


def _install() -> tuple[Any, ...]:
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
                buffer = ctypes.create_string_buffer(MAX_LENGTH)
                libc.vsnprintf(buffer, MAX_LENGTH, form, arguments)
                text = ": ".join(part.decode(errors="replace") for part in (module, buffer.value) if part)
                messages.append(text.removeprefix(_OWN_NAME).strip(". "))

        handler = _Handler(record)
        previous = libtiff.TIFFSetErrorHandler(handler)
        libtiff.TIFFSetWarningHandler(None)
        return handler, libtiff, libc
    return ()


_kept = _install()
