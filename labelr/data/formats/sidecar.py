"""A text file of tags beside each image, as taggers and booru downloaders write them."""

import re
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from labelr.data.formats.source import DecodedText, Source, files_below, is_there, read_text
from labelr.data.formats.tags import SEPARATORS, divide, find_separator
from labelr.data.images import find_images
from labelr.data.label_table import Annotation, LabelTable
from labelr.errors import LabelrError, preview

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


def read(source: Source) -> LabelTable:
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
    separator = source.options.tag_separator or _comma(texts)
    tags, how = divide(texts, separator, f"the text files in {source.path}")
    empty = [name for name, found in zip(beside, tags, strict=True) if not found]
    notes = (
        [f"images with an empty text file, to which no label applies: {len(empty):,} ({preview(empty)})"]
        if empty
        else []
    )
    entries = (Annotation(name, [_plain(tag) for tag in found]) for name, found in zip(beside, tags, strict=True))
    return LabelTable.of(entries, f"a text file of tags beside each image{how}", notes=notes)


def separator_beside(images: Path, texts: Path) -> str | None:
    """What divides the tags in the text files of a folder's images, its subfolders aside; None if nothing does yet.

    Args:
        images: The folder of the images.
        texts: The folder of the text files.

    Raises:
        LabelrError: If it is open.
    """
    names = [path.name for path in find_images(images, recursive=False)]
    there = {path for path in texts.iterdir() if path.suffix in SUFFIXES} if texts.is_dir() else set()
    found = []
    for paths in _beside(texts, names, there).values():
        with suppress(LabelrError):  # what is no text says nothing
            found.append(_read(paths))
    return _comma(found) or find_separator(found, f"the text files in {texts}")


def with_tags(path: Path, tags: Sequence[str], separator: str) -> bytes | None:
    """What a text file is to hold so that it has these tags, too, behind its own; None where it has them.

    Args:
        path: The file; it may be there or not.
        tags: All of them.
        separator: What divides them.

    Raises:
        LabelrError: If the file cannot be read, or the tags cannot be written into it.
    """
    text = read_text(path) if is_there(path) else DecodedText("")
    before = text.content.rstrip()
    (there,), how = divide([before], separator, str(path))
    new = [tag for tag in tags if tag not in map(_plain, there)]
    if not new:
        return None if is_there(path) else b""
    unfit = [tag for tag in new if separator in tag]
    if unfit:
        raise LabelrError(f'"{unfit[0]}" cannot be added to {path.name}, where {SEPARATORS[separator]} divide tags')
    if not how:
        raise LabelrError(f"nothing can be added to {path.name}, which holds a list")
    line_break = "\r\n" if "\r\n" in text.content else "\n"
    between = {" ": " ", "\n": line_break}.get(separator, f"{separator} ")
    try:
        return text.encode(between.join([*([before] if before else []), *new]) + line_break)
    except UnicodeEncodeError as error:
        raise LabelrError(f"a label cannot be added to {path.name}, which is in {text.codec}") from error


def _comma(texts: Sequence[str]) -> str | None:
    """A comma where one stands in any text, whatever else does, since a tag may be a smiley such as ``;d``."""
    return "," if any("," in text for text in texts) else None


def _read(paths: Sequence[Path]) -> str:
    return "\n".join(read_text(path).content for path in paths).strip()


def _find(source: Source) -> dict[str, list[Path]]:
    """The text files of each image that has any: ``a.txt`` and ``a.jpg.txt`` beside ``a.jpg``."""
    texts = {path for suffix in SUFFIXES for path in files_below(source.images, suffix)}
    return _beside(source.images, source.image_files if texts else [], texts)


def _beside(folder: Path, names: Iterable[str], texts: Collection[Path]) -> dict[str, list[Path]]:
    """Those of the text files in a folder that belong to an image, by its name."""
    found = {}
    for name in names:
        stem = PurePosixPath(name).with_suffix("").as_posix()
        candidates = (folder / f"{base}{suffix}" for suffix in SUFFIXES for base in (stem, name))
        paths = [path for path in candidates if path in texts]
        if paths:
            found[name] = paths
    return found


def _plain(tag: str) -> str:
    r"""A tag without what prompts need: ``bird \(animal\)`` is ``bird (animal)``, and ``(bird:0.9)`` is ``bird``."""
    weighted = re.fullmatch(r"\((.+):[\d.]+\)", tag)
    return re.sub(r"\\([()])", r"\1", weighted[1] if weighted else tag)
