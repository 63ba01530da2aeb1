"""Small pictures of images, made on demand and cached by content; and images as a browser can show them."""

import io
from pathlib import Path

from PIL import Image

from labelr.data import thumbnails
from labelr.data.images import UnreadableError, content_digest, decode, open_file, read_thumbnail
from labelr.errors import LabelrError

SHOWN = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png", b"GIF8": "image/gif"}
"""How files begin that browsers show as labelr reads them, and their types."""
FULL_SIZE = 2048
QUALITY = 85


class Thumbnails:
    """Thumbnails of images with at most `max_pixels`."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels

    def tag_of(self, path: Path, size: int) -> str:
        """What changes when the file does, as an ETag."""
        try:
            status = path.stat()
        except OSError:
            return '""'
        return f'"{size}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"'

    def read(self, path: Path, size: int) -> tuple[bytes, str]:
        """A picture whose longer edge is `size`, and its type. Raises LabelrError if the image cannot be opened."""
        try:
            with open_file(path) as file:
                digest = content_digest(file)
        except UnreadableError as error:
            raise LabelrError(f"{path.name}: {error}") from error
        content = thumbnails.get(digest, size)
        if content is None:
            content = _as_jpeg(path, size, self._max_pixels)
            thumbnails.put(digest, size, content)
        return content, "image/jpeg"

    def size_of(self, path: Path) -> tuple[int, int]:
        """Width and height of an upright image; 0 where it does not open."""
        try:
            with open_file(path) as file:
                decoded = decode(file, 32, max_pixels=self._max_pixels, value_range="own")
        except UnreadableError:
            return 0, 0
        return decoded.width, decoded.height


def read_image(path: Path, max_pixels: int) -> tuple[bytes, str]:
    """An image as a browser can show it, and its type: the file itself, or a picture of it.

    Raises:
        LabelrError: If it cannot be opened.
    """
    try:
        with open_file(path) as file:
            head = file.read(12)
            kind = next((kind for start, kind in SHOWN.items() if head.startswith(start)), "")
            if head[:4] == b"RIFF" and head[8:] == b"WEBP":
                kind = "image/webp"
            if kind:
                return head + file.read(), kind
    except (UnreadableError, OSError) as error:
        raise LabelrError(f"{path.name}: {error}") from error
    return _as_jpeg(path, FULL_SIZE, max_pixels), "image/jpeg"


def _as_jpeg(path: Path, size: int, max_pixels: int) -> bytes:
    try:
        pixels = read_thumbnail(path, size, max_pixels=max_pixels, value_range="own")
    except UnreadableError as error:
        raise LabelrError(f"{path.name}: {error}") from error
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
