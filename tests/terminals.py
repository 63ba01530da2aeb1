"""What commands write to a terminal."""

import os
from contextlib import suppress


def read_terminal(terminal: int) -> bytes:
    """All that is written to a terminal, given its master end, until nobody has the other end open."""
    chunks = []
    with suppress(OSError):  # how the end of a terminal is told
        while chunk := os.read(terminal, 1 << 16):
            chunks.append(chunk)
    return b"".join(chunks)
