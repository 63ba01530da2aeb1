"""A file for each image: a text file of tags, as taggers and booru downloaders write it, or a CSV of `labelr tag`."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

from labelr import files
from labelr.data.formats import wide
from labelr.data.formats.arrange import vector_size
from labelr.data.formats.source import DecodedText, Source, read_text, read_texts, readable_lines
from labelr.data.formats.table import read_table
from labelr.data.formats.tags import SEPARATORS, find_separator, split_tags
from labelr.data.formats.words import NUMBERS, column_key
from labelr.data.label_table import Annotation, LabelTable
from labelr.data.limits import DEFAULT_LIMITS, Limits
from labelr.data.walk import by_lower_suffix, find_images, has_image_suffix
from labelr.errors import LabelrError, pluralize, preview

SUFFIXES = (".txt", ".caption", ".tags")
PROBED_IMAGES = 20
BOX = re.compile(r"\s*\d{1,9}(\s+-?[\d.]+(e-?\d+)?){4,}\s*", re.IGNORECASE)
"""A line of YOLO, which is not a line of tags."""
TAGGED_HEADER = ["label", "probability"]
MAX_HEADER = 1000
"""Bytes of a first line in which this header is looked for."""
TABLE, LINES = "labels.csv", "labels.jsonl"


def fits(source: Source) -> int:
    """Confidence that images have text files of tags beside them: 0 or 2."""
    sidecars = _find_sidecars(source) if source.is_folder else {}
    if not sidecars:
        return 0
    probed = (path for paths in islice(sidecars.values(), PROBED_IMAGES) for path in paths)
    lines = list(readable_lines(probed, source.options.encoding))
    return 0 if lines and all(map(BOX.fullmatch, lines)) else 2


def read(source: Source) -> LabelTable:
    """The label table of sidecar files; images without one are not labelled, and left out.

    Raises:
        LabelrError: If there is no such file, one cannot be read, or it is ambiguous what separates the tags.
    """
    sidecars = _find_sidecars(source)
    if not sidecars:
        raise LabelrError(
            f"no image in {source.images} has a text file beside it", "name another layout with `--layout`"
        )
    sidecars, texts, encodings, invalid = _read_valid(sidecars, source)
    if vector_size(texts):
        raise LabelrError(
            f"the text files in {source.path} hold numbers such as {texts[0][:60]}, not tags",
            "write the names of labels",
        )
    separator = source.options.tag_separator or _comma(texts)
    tags, how = split_tags(texts, separator, f"the text files in {source.path}")
    annotations = [Annotation(name, list(map(_plain, found))) for name, found in zip(sidecars, tags, strict=True)]
    empty = [annotation.name for annotation in annotations if not annotation.present]
    note = f"images with an empty text file, to which no label applies: {len(empty):,} ({preview(empty)})"
    return LabelTable.of(
        annotations,
        f"a text file of tags beside each image{how}{encodings}",
        notes=[note] if empty else [],
        invalid=list(invalid.values()),
        aside=list(invalid),
        limits=source.limits,
    )


def _read_valid(
    sidecars: dict[str, list[Path]], source: Source
) -> tuple[dict[str, list[Path]], list[str], str, dict[str, str]]:
    """The text files that can be read, their texts and encodings, and the reason for each image of the others."""
    encoding, limits = source.options.encoding, source.limits
    try:
        return sidecars, *_read_texts(list(sidecars.values()), encoding, limits), {}
    except LabelrError as error:
        if not source.options.skip_invalid:
            hint = "correct the file or its permissions, or leave such images out with `--skip-invalid`"
            raise LabelrError(error.message, hint) from error
    kept, invalid = {}, {}
    for name, paths in sidecars.items():
        try:
            _read_texts([paths], encoding, limits)
            kept[name] = paths
        except LabelrError as error:
            invalid[name] = error.message
    if not kept:
        raise LabelrError(f"no text file in {source.path} can be read: {next(iter(invalid.values()))}")
    return kept, *_read_texts(list(kept.values()), encoding, limits), invalid


def separator_beside(images: Path, texts: Path) -> str | None:
    """What separates tags in the text files in `texts` of the images directly in `images`; None if nothing does yet.

    Raises:
        LabelrError: If it is ambiguous.
    """
    names = [path.name for path in find_images(images, recursive=False)]
    candidates = {path for path in texts.iterdir() if path.suffix.lower() in SUFFIXES} if texts.is_dir() else set()
    contents = []
    for paths in _match_images(texts, names, candidates).values():
        with suppress(LabelrError):  # not text
            contents += _read_texts([paths])[0]
    return _comma(contents) or find_separator(contents, f"the text files in {texts}")


def with_tags(path: Path, tags: Sequence[str], separator: str) -> bytes | None:
    """The content of a text file, which may not exist yet, with these tags added; None if it has them all.

    Raises:
        LabelrError: If the file cannot be read, or a tag cannot be written into it.
    """
    text = read_text(path) if os.path.exists(path) else DecodedText("")
    before = text.content.rstrip()
    (present,), how = split_tags([before], separator, str(path))
    new = [tag for tag in tags if tag not in map(_plain, present)]
    if not new:
        return None if os.path.exists(path) else b""
    unfit = [tag for tag in new if separator in tag]
    if unfit:
        raise LabelrError(f'"{unfit[0]}" cannot be added to {path.name}, where {SEPARATORS[separator]} separate tags')
    if not how:
        raise LabelrError(f"nothing can be added to {path.name}, which holds a list")
    line_break = "\r\n" if "\r\n" in text.content else "\n"
    between = {" ": " ", "\n": line_break}.get(separator, f"{separator} ")
    try:
        return text.encode(between.join([*([before] if before else []), *new]) + line_break)
    except UnicodeEncodeError as error:
        raise LabelrError(f"a label cannot be added to {path.name}, which is in {text.codec}") from error


def _comma(texts: Sequence[str]) -> str | None:
    """A comma if any text contains one, whatever else it contains: a tag may be an emoticon such as ``;d``."""
    return "," if any("," in text for text in texts) else None


def _read_texts(
    files: Sequence[Sequence[Path]], encoding: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> tuple[list[str], str]:
    """The text of the files of each image, and the encodings other than UTF-8 as the end of a description."""
    texts = iter(read_texts([path for paths in files for path in paths], encoding, limits))
    of_images = [list(islice(texts, len(paths))) for paths in files]
    encodings = sorted({text.encoding for own in of_images for text in own} - {""})
    contents = ["\n".join(text.content for text in own).strip() for own in of_images]
    return contents, "".join(f", in {name}" for name in encodings)


def _find_sidecars(source: Source) -> dict[str, list[Path]]:
    """The text files of each image that has any: ``a.txt`` and ``a.jpg.txt`` beside ``a.jpg``."""
    texts = {path for suffix in SUFFIXES for path in source.index.find_suffix(source.images, suffix)}
    return _match_images(source.images, source.image_files if texts else [], texts)


def _match_images(folder: Path, names: Iterable[str], texts: Collection[Path]) -> dict[str, list[Path]]:
    """Those of some text files in a folder that belong to an image, by the name of the image."""
    matched, found = {}, by_lower_suffix(texts)
    for name in names:
        stem = PurePosixPath(name).with_suffix("").as_posix()
        candidates = (folder / f"{base}{suffix}" for suffix in SUFFIXES for base in (stem, name))
        paths = [found[path] for path in candidates if path in found]
        if paths:
            matched[name] = paths
    return matched


def _plain(tag: str) -> str:
    r"""A tag without the syntax of prompts: ``bird \(animal\)`` is ``bird (animal)``, ``(bird:0.9)`` is ``bird``."""
    weighted = re.fullmatch(r"\((.+):[\d.]+\)", tag)
    return re.sub(r"\\([()])", r"\1", weighted[1] if weighted else tag)


# --- CSV files of `labelr tag`, and a table of all -------------------------------------------------------------------


def fits_tagged(source: Source) -> int:
    """Confidence that this is a folder with a CSV file for each image, such as ``a.jpg.csv``: 0 or 3."""
    return 3 if source.is_folder and any(_read_header(path) == TAGGED_HEADER for path in _tagged_files(source)) else 0


def _read_header(path: Path) -> list[str]:
    """The header of a file; empty for one that cannot be read, which is reported when all of it is read."""
    with suppress(OSError), files.open_regular(path) as file:
        line = file.readline(MAX_HEADER).decode("utf-8-sig", "surrogateescape")
        return line.strip().lower().replace(";", ",").split(",")
    return []


def read_tagged(source: Source) -> LabelTable:
    """The label table of a folder that `labelr tag` wrote and people may have corrected.

    The files of single images contain the labels that apply. The table beside them adds labels that no image has. It
    must agree with the files, since otherwise it is ambiguous which of the two was corrected.

    Raises:
        LabelrError: If a file is not in the format of `labelr tag`, or the table disagrees with the files.
    """
    if not source.is_folder:
        raise LabelrError(f"{source.path} is not a folder that `labelr tag` wrote", "name another `--layout`")
    annotations = [
        Annotation(path.relative_to(source.path).as_posix().removesuffix(".csv"), _read_tagged_labels(source, path))
        for path in _tagged_files(source)
    ]
    if not annotations:
        raise LabelrError(f"{source.path} has no CSV files of images", "name a folder that `labelr tag` wrote")
    vocabulary: tuple[str, ...] | None = None
    if os.path.isfile(source.path / TABLE):
        table = _read_tagged_table(source)
        vocabulary = table.labels
        _check_agreement(source.path, annotations, table)
    return LabelTable.of(
        annotations, "files of images that `labelr tag` wrote", vocabulary=vocabulary, limits=source.limits
    )


def _read_tagged_table(source: Source) -> LabelTable:
    """The label table of the table, in which a column such as ``score`` is a label like any other."""
    path, options = source.path / TABLE, source.options
    numbers = [name for name in source.beside(path).require_table().header if column_key(name) in NUMBERS]
    return wide.read(Source(path, source.images, replace(options, only=(*options.only, *numbers))))


def _tagged_files(source: Source) -> Iterator[Path]:
    """The files of images, some of which may have no ending."""
    for path in source.files(".csv"):
        if has_image_suffix(path.stem) or ("." not in path.stem and _read_header(path) == TAGGED_HEADER):
            yield path


def _read_tagged_labels(source: Source, path: Path) -> set[str]:
    """The labels in the file of an image; one with a probability of 0 was taken back by its editor."""
    table = read_table(path, read_text(path, limits=source.limits).content, source.limits)
    if table.keys[0] != TAGGED_HEADER[0]:
        raise LabelrError(
            f'{path}: expected "label" as the first column, got "{table.header[0]}"',
            "rename the column, or delete the file",
        )
    return {row[0] for row in table.body if row[0] and (len(row) < 2 or row[1] not in ("0", "0.0"))}


def _check_agreement(folder: Path, annotations: list[Annotation], table: LabelTable) -> None:
    """Raises LabelrError where the table and the files of images disagree."""
    labels_in_files = {annotation.name: set(annotation.present) for annotation in annotations}
    differing = []
    for name, row in zip(table.names, table.targets, strict=True):
        labels_in_table = {table.labels[column] for column in np.flatnonzero(row == 1)}
        if labels_in_files.get(name, set()) != labels_in_table:
            differing.append(name)
    if differing:
        raise LabelrError(
            f"{folder / TABLE} and the files of images disagree on {pluralize(len(differing), 'image')}: "
            f"{preview(differing)}",
            f"name the table with `--labels {folder / TABLE}` if it is right, else delete it and name the folder",
        )
