"""A text file of tags beside each image, as taggers and booru downloaders write them."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from labelr.data.formats.records import Entry, Records
from labelr.data.formats.source import Source, files_below, read_text
from labelr.data.formats.tags import divide
from labelr.errors import LabelrError, some

SUFFIXES = (".txt", ".caption", ".tags")
BOX = re.compile(r"\s*\d{1,9}(\s+-?[\d.]+(e-?\d+)?){4,}\s*", re.IGNORECASE)
"""A line of YOLO, which is not one of tags."""


def fits(source: Source) -> int:
    """Whether images have text files of tags beside them: 2 they have, 0 not."""
    if not source.is_folder:
        return 0
    beside = _find(source)
    if not beside:
        return 0
    probed = [_read(paths) for paths in list(beside.values())[:20]]
    lines = [line for text in probed for line in text.splitlines() if line.strip()]
    return 0 if lines and all(BOX.fullmatch(line) for line in lines) else 2


def read(source: Source) -> Records:
    """The records of text files beside images; an image without one is not labelled, and left out.

    Raises:
        LabelrError: If there is no such file, or it is open what divides the tags.
    """
    beside = _find(source)
    if not beside:
        raise LabelrError(
            f"no image in {source.images} has a text file beside it", "name another layout with `--layout`"
        )
    texts = [_read(paths) for paths in beside.values()]
    separator = source.options.tag_separator or ("," if any("," in text for text in texts) else None)
    tags, how = divide(texts, separator, f"the text files in {source.path}")
    empty = [name for name, found in zip(beside, tags, strict=True) if not found]
    notes = (
        [f"images with an empty text file, to which no label applies: {len(empty):,} ({some(empty)})"] if empty else []
    )
    entries = (Entry(name, [_plain(tag) for tag in found]) for name, found in zip(beside, tags, strict=True))
    return Records.of(entries, f"a text file of tags beside each image{how}", notes=notes)


def _read(paths: Sequence[Path]) -> str:
    return "\n".join(read_text(path).content for path in paths).strip()


def _find(source: Source) -> dict[str, list[Path]]:
    """The text files of each image that has any: ``a.txt`` and ``a.jpg.txt`` beside ``a.jpg``."""
    texts = {path for suffix in SUFFIXES for path in files_below(source.images, suffix)}
    if not texts:
        return {}
    found = {}
    for name in source.image_files:
        stem = PurePosixPath(name).with_suffix("").as_posix()
        candidates = (source.images / f"{base}{suffix}" for suffix in SUFFIXES for base in (stem, name))
        paths = [path for path in candidates if path in texts]
        if paths:
            found[name] = paths
    return found


def _plain(tag: str) -> str:
    r"""A tag without what prompts need: ``bird \(animal\)`` is ``bird (animal)``, and ``(bird:0.9)`` is ``bird``."""
    weighted = re.fullmatch(r"\((.+):[\d.]+\)", tag)
    return re.sub(r"\\([()])", r"\1", weighted[1] if weighted else tag)
