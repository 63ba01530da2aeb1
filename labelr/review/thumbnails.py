"""Images as a browser can show them: thumbnails, cached by content, and the image itself or a picture of it."""

from pathlib import Path

from labelr.data.images import UnreadableError, content_digest, decode, encode_jpeg, open_file, read_thumbnail
from labelr.data.pixel_cache import get_thumbnail, put_thumbnail
from labelr.errors import LabelrError

SHOWN = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png", b"GIF8": "image/gif"}
"""How files begin that browsers show as labelr reads them, and their types."""
FULL_SIZE = 2048


def etag(path: Path, size: int) -> str:
    """What changes when the file does, as an ETag."""
    try:
        status = path.stat()
    except OSError:
        return '""'
    return f'"{size}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"'


def cached_thumbnail(path: Path, size: int, max_pixels: int) -> bytes:
    """A picture whose longer edge is `size`, as JPEG. Raises LabelrError if the image cannot be opened."""
    try:
        with open_file(path) as file:
            digest = content_digest(file)
    except UnreadableError as error:
        raise LabelrError(f"{path.name}: {error}") from error
    content = get_thumbnail(digest, size)
    if content is None:
        content = _as_jpeg(path, size, max_pixels)
        put_thumbnail(digest, size, content)
    return content


def size_of(path: Path, max_pixels: int) -> tuple[int, int]:
    """Width and height of an upright image; 0 where it does not open."""
    try:
        with open_file(path) as file:
            decoded = decode(file, 32, max_pixels=max_pixels, value_range="own")
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
        return encode_jpeg(read_thumbnail(path, size, max_pixels=max_pixels, value_range="own"))
    except UnreadableError as error:
        raise LabelrError(f"{path.name}: {error}") from error
