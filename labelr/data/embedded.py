"""Keywords in image files: reads XMP and IPTC, and puts XMP into JPEG files, where nothing else changes."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from PIL import ImageFile, IptcImagePlugin

from labelr import files
from labelr.data.damaged import JPEG_HEAD, START_OF_SCAN
from labelr.data.images import UnreadableError, opened_header
from labelr.xmp.packet import DamagedError

XMP_HEAD, EXTENSION_HEAD = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
"""How the segments of XMP in a JPEG file begin."""
XMP_CHUNK = b"XML:com.adobe.xmp\0\0\0\0\0"
"""How the chunk of XMP in a PNG file begins, with its empty compression, language and translation."""
APP0, APP1, APP2 = 0xE0, 0xE1, 0xE2
IPTC_KEYWORDS, IPTC_ENCODING, UTF_8 = (2, 25), (1, 90), b"\x1b%G"
MAX_SEGMENT = 0xFFFF - 2
_PADDING = re.compile(rb"\s{100,}(?=<\?xpacket end)")


class Segment(NamedTuple):
    """A segment of a JPEG file: its marker, its position, and what is in it."""

    marker: int
    start: int
    end: int
    content: bytes


def read_embedded(path: Path) -> tuple[bytes | None, list[str]]:
    """The XMP, if any, and the IPTC keywords of an image file; nothing of one that is damaged.

    Raises:
        UnreadableError: If the system cannot read the file.
    """
    try:
        with opened_header(path) as image:
            packet = image.info.get("xmp")
            if packet is None and image.format == "PNG" and image.fp:
                packet = _late_packet(image.fp)
            return packet.encode() if isinstance(packet, str) else packet, _iptc_keywords(image)
    except UnreadableError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno is not None:
            raise
    return None, []


def _late_packet(png: IO[bytes]) -> bytes | None:
    """The XMP of a PNG file behind its pixels, where ExifTool writes it."""
    png.seek(8)
    while len(head := png.read(8)) == 8:
        size, end = int.from_bytes(head[:4], "big"), png.tell() + int.from_bytes(head[:4], "big") + 4
        if head[4:] == b"iTXt" and size < 2**24 and (content := png.read(size)).startswith(XMP_CHUNK):
            return content.removeprefix(XMP_CHUNK)
        png.seek(end)
    return None


def _iptc_keywords(image: ImageFile.ImageFile) -> list[str]:
    with suppress(Exception):  # it may be damaged in any way
        found = IptcImagePlugin.getiptcinfo(image) or {}
        values = found.get(IPTC_KEYWORDS, [])
        codec = "utf-8" if found.get(IPTC_ENCODING) == UTF_8 else ""
        return [_decode(value, codec) for value in ([values] if isinstance(values, bytes) else values)]
    return []


def _decode(value: bytes, codec: str) -> str:
    with suppress(UnicodeDecodeError):
        return value.decode(codec or "utf-8").strip()
    return value.decode("cp1252", "replace").strip()


# --- JPEG ------------------------------------------------------------------------------------------------------------


def is_jpeg(path: Path) -> bool:
    """Whether a file is JPEG by its content, whatever its name is.

    Raises:
        OSError: If it cannot be read.
    """
    with files.open_regular(path) as file:
        return file.read(len(JPEG_HEAD)) == JPEG_HEAD


def packet_in(jpeg: bytes) -> bytes | None:
    """The XMP in a JPEG file; None where it has none. Raises DamagedError if it could not be replaced by another."""
    packets = [segment for segment in _segments(jpeg) if _is_packet(segment)]
    if len(packets) > 1 or any(segment.content.startswith(EXTENSION_HEAD) for segment in _segments(jpeg)):
        raise DamagedError("its XMP is divided into several parts, which labelr does not join")
    return packets[0].content.removeprefix(XMP_HEAD) if packets else None


def with_packet(jpeg: bytes, packet: bytes) -> bytes:
    """A JPEG file with another XMP packet; everything else in it stays byte for byte.

    Raises:
        DamagedError: If the packet is too long, or positions in the file would become wrong.
    """
    if len(XMP_HEAD) + len(packet) > MAX_SEGMENT:
        packet = _PADDING.sub(b"\n", packet)
    content = XMP_HEAD + packet
    if len(content) > MAX_SEGMENT:
        raise DamagedError(f"its XMP would have {len(content):,} bytes, and at most {MAX_SEGMENT:,} fit into JPEG")
    segment = bytes([0xFF, APP1]) + (len(content) + 2).to_bytes(2, "big") + content
    start = end = 2
    for each in _segments(jpeg):
        if _is_packet(each):
            start, end = each.start, each.end
            break
        if end == each.start and (each.marker == APP0 or each.content.startswith(b"Exif\0")):
            start = end = each.end  # JFIF and Exif come first
    others = (each for each in _segments(jpeg) if each.marker == APP2 and each.content.startswith(b"MPF\0"))
    if len(segment) != end - start and any(each.start < start for each in others):
        raise DamagedError("it holds several images, whose positions would change")
    return jpeg[:start] + segment + jpeg[end:]


def _is_packet(segment: Segment) -> bool:
    return segment.marker == APP1 and segment.content.startswith(XMP_HEAD)


def _segments(jpeg: bytes) -> Iterator[Segment]:
    """The segments of a JPEG file before its pixels. Raises DamagedError if it is damaged there, or no JPEG."""
    if not jpeg.startswith(JPEG_HEAD):
        raise DamagedError("it is no JPEG file")
    start = 2
    while True:
        position = start
        while jpeg[position : position + 2] == b"\xff\xff":  # padding
            position += 1
        marker, size = jpeg[position + 1 : position + 2], int.from_bytes(jpeg[position + 2 : position + 4], "big")
        end = position + 2 + size
        if jpeg[position : position + 1] != b"\xff" or marker < b"\xc0" or size < 2 or end > len(jpeg):
            raise DamagedError("its segments are damaged")
        if marker[0] == START_OF_SCAN:
            return
        yield Segment(marker[0], start, end, jpeg[position + 4 : end])
        start = end
