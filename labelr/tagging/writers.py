"""Writes results: files of single images and tables of all images in the output directory, or lines to a stream."""

import errno
import hashlib
import io
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any, TextIO

from labelr import files
from labelr.data.formats.sidecar import separator_beside, with_tags
from labelr.errors import LabelrError, preview
from labelr.tagging.journal import Journal, WrittenFile
from labelr.tagging.pipeline import LabelSelection, Result, TaggedImage, Tagger
from labelr.tagging.uncertain import most_uncertain

log = logging.getLogger(__name__)

LABELS_FILE, PROBABILITIES_FILE, JSONL_FILE, ERRORS_FILE, UNCERTAIN_FILE = TABLES = (
    "labels.csv", "probabilities.csv", "labels.jsonl", "errors.csv", "uncertain.csv",
)  # fmt: skip
_NAME_ERRORS = (errno.ENAMETOOLONG, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EILSEQ, errno.EINVAL)


class UnwritableFileError(LabelrError):
    """The file of an image cannot be written: its name is too long or taken, or a user has edited it."""


def image_csv(image: TaggedImage, labels: Sequence[str]) -> bytes:
    """The CSV of an image: rows ``label,probability`` of the labels that apply, the most probable first."""
    rows = [(files.escape_formula(labels[index]), format_probability(image.probs[index])) for index in image.ranked]
    return files.csv_text(("label", "probability"), rows).encode()


def image_txt(image: TaggedImage, labels: Sequence[str]) -> bytes:
    """The text file of an image for training tools: its labels, the most probable first, separated by commas."""
    tags = ", ".join(labels[index] for index in image.ranked)
    return (tags + "\n" if tags else "").encode("utf-8", "surrogateescape")


class TagAppender:
    """Appends labels to the tags in text files of users, with the separator of the other files in their folder.

    Args:
        root: Root of the text files.
        images: Root of the images.
    """

    def __init__(self, root: Path, images: Path) -> None:
        self._root = root
        self._images = images
        self._separators: dict[PurePath, str] = {}

    def content(self, path: Path, image: TaggedImage, labels: Sequence[str]) -> bytes | None:
        """The new content of the text file of an image; None if it has all labels.

        Raises:
            UnwritableFileError: If labels cannot be appended to it.
        """
        tags = [labels[index] for index in image.ranked]
        try:
            return with_tags(path, tags, self._separator(PurePath(image.name).parent))
        except LabelrError as error:
            raise UnwritableFileError(error.message) from error

    def _separator(self, folder: PurePath) -> str:
        """The separator in a folder; without tags there, that of its parent folder, and in the end a comma."""
        if folder not in self._separators:
            found = separator_beside(self._images / folder, self._root / folder)
            self._separators[folder] = found or (self._separator(folder.parent) if folder.name else ",")
        return self._separators[folder]


class DirectoryWriter:
    """Writes results into an output directory, where files that a user has edited are kept.

    Args:
        folder: The output directory.
        base: Root of the images.
        tagger: Where the results come from.
        journal: The journal of the output directory.
    """

    def __init__(self, folder: Path, base: Path, tagger: Tagger, journal: Journal) -> None:
        self._folder = folder
        self._base = base
        self._tagger = tagger
        self._journal = journal
        self._root = base if tagger.options.in_place else folder.absolute()
        self._appender = TagAppender(self._root, base) if tagger.options.append else None

    def previous(self, name: str) -> Result | None:
        """The result of an image in an earlier run."""
        return self._journal.get(name)

    def write_files(self, image: TaggedImage) -> TaggedImage:
        """Writes the files of an image. If one cannot be written, the image is returned as failed."""
        if image.result.failed:
            return image
        formats = self._tagger.options.formats
        txt_path = (self._root / image.name).with_suffix(".txt")
        try:
            if "csv" in formats:
                self._write_file(self._root / f"{image.name}.csv", image, image_csv)
            if "txt" in formats and self._appender:
                self._append_to_file(txt_path, image, self._appender)
            elif "txt" in formats:
                self._write_file(txt_path, image, image_txt)
        except UnwritableFileError as error:
            return self._tagger.selection.apply(image.result._replace(reason=error.message))
        return image

    def _write_file(
        self, path: Path, image: TaggedImage, content_of: Callable[[TaggedImage, Sequence[str]], bytes]
    ) -> None:
        if self._is_up_to_date(path, image):
            return
        known = self._check_owner(path, image)
        if not known and _exists(path):
            raise UnwritableFileError(f"{path.name} already exists, and labelr did not write it")
        if known and is_edited(path, known.digests):
            raise UnwritableFileError(f"{path.name} was edited after labelr wrote it, and is kept")
        content = content_of(image, self._tagger.selection.labels)
        digests = file_digest(path), hashlib.sha256(content).hexdigest()
        self._journal.put_file(path, image.name, digests)
        _write(path, content)

    def _append_to_file(self, path: Path, image: TaggedImage, appender: TagAppender) -> None:
        if self._is_up_to_date(path, image):
            return
        self._check_owner(path, image)
        content = appender.content(path, image, self._tagger.selection.labels)
        self._journal.put_file(path, image.name, ())
        if content is not None:
            _write(path, content)

    def _is_up_to_date(self, path: Path, image: TaggedImage) -> bool:
        return image.origin != "new" and _exists(path)

    def _check_owner(self, path: Path, image: TaggedImage) -> WrittenFile | None:
        """What is known of a file; UnwritableFileError if it belongs to another image or its name is reserved."""
        first, separator, _ = image.name.partition("/")
        if separator and first in TABLES and not self._tagger.options.in_place:
            raise UnwritableFileError(f"the name of the folder {first} is reserved for a table of the results")
        known = self._journal.file(path)
        if known and known.image != image.name and _exists(self._base / known.image):
            raise UnwritableFileError(f"{path.name} already belongs to {known.image}")
        return known

    def put(self, image: TaggedImage) -> None:
        """Keeps the result of an image."""
        self._journal.put(image.result)

    def finish(self) -> int:
        """Writes the tables and deletes the files of images that are gone or failed.

        Returns:
            The number of images of earlier runs that are gone.
        """
        vanished = self._journal.count_vanished()
        self._delete_orphans()
        self._write_tables()
        digests = {name: digest for name in TABLES if (digest := file_digest(self._folder / name))}
        self._journal.finish(digests)
        return vanished

    def _delete_orphans(self) -> None:
        kept = []
        for path, digests in self._journal.files(orphans=True).items():
            if is_edited(path, digests):
                kept.append(path)
            else:
                remove(path, self._folder.absolute())
        if kept:
            log.warning(
                "kept %d files of images that are gone or failed, because they were edited: %s",
                len(kept), preview(kept),
            )  # fmt: skip

    def _write_tables(self) -> None:
        tagger, folder = self._tagger, self._folder
        selection, options = tagger.selection, tagger.options

        def images() -> Iterator[TaggedImage]:
            return map(selection.apply, self._journal.results())

        def tagged() -> Iterator[TaggedImage]:
            return (image for image in images() if not image.result.failed)

        if "table" in options.formats:
            write_table(folder / LABELS_FILE, header(selection), map(label_row, tagged()))
            write_table(folder / PROBABILITIES_FILE, header(selection), map(probability_row, tagged()))
        if "jsonl" in options.formats:
            with _replacing_text(folder / JSONL_FILE) as file:
                digest = tagger.model.info.digest
                file.writelines(json_line(image, selection.labels, digest) for image in images())
        if options.uncertain:
            names = most_uncertain(tagged(), selection, self._base, options.uncertain, max_pixels=options.max_pixels)
            blank = [""] * len(selection.labels)  # to be filled in by a user
            rows = ([files.escape_formula_in_path(name), *blank] for name in names)
            write_table(folder / UNCERTAIN_FILE, header(selection), rows)
        failed = (result for result in self._journal.results() if result.failed)
        rows = ([files.escape_formula_in_path(result.name), result.reason] for result in failed)
        write_table(folder / ERRORS_FILE, ["filename", "reason"], rows)


class StreamWriter:
    """Writes one line per image, and keeps nothing.

    Args:
        tagger: Says whether the lines are rows of ``labels.csv``, whose header is written at once, or JSON.
        write: Takes each line with its line break.
    """

    def __init__(self, tagger: Tagger, write: Callable[[str], None]) -> None:
        self._labels, self._digest = tagger.selection.labels, tagger.model.info.digest
        self._write = write
        self._as_json = "jsonl" in tagger.options.formats
        if not self._as_json:
            write(files.csv_text(header(tagger.selection), ()))

    def previous(self, name: str) -> None:
        """As `DirectoryWriter`."""

    def write_files(self, image: TaggedImage) -> TaggedImage:
        """As `DirectoryWriter`."""
        return image

    def put(self, image: TaggedImage) -> None:
        """As `DirectoryWriter`."""
        if image.result.failed:
            log.warning("%s: %s", image.name, image.result.reason)
        if self._as_json:
            self._write(json_line(image, self._labels, self._digest))
        elif not image.result.failed:
            self._write(files.csv_text(label_row(image), ()))


def header(selection: LabelSelection) -> list[str]:
    """The header of a table with one column per label."""
    return ["filename", *map(files.escape_formula, selection.labels)]


def label_row(image: TaggedImage) -> list[Any]:
    """A row of ``labels.csv``: 1 for each label that applies, else 0."""
    return [files.escape_formula_in_path(image.name), *image.applies.astype(int).tolist()]


def probability_row(image: TaggedImage) -> list[Any]:
    """A row of ``probabilities.csv``."""
    return [files.escape_formula_in_path(image.name), *map(format_probability, image.probs.tolist())]


def json_line(image: TaggedImage, labels: Sequence[str], model_digest: str) -> str:
    """An image as one line of JSON; without labels and probabilities if it failed."""
    result = image.result
    value: dict[str, Any] = {"path": image.name, "model": model_digest}
    if result.failed:
        value |= {"size": None, "labels": None, "probabilities": None, "error": result.reason}
    else:
        probs = {label: round(prob, 6) for label, prob in zip(labels, image.probs.tolist(), strict=True)}
        value |= {
            "size": [result.width, result.height], "labels": [labels[index] for index in image.ranked],
            "probabilities": probs, "error": None,
        }  # fmt: skip
    return files.json_line(value)


def format_probability(prob: float) -> str:
    """A probability with six decimals."""
    return f"{prob:.6f}"


def write_table(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Writes a CSV of any length atomically.

    Raises:
        LabelrError: If it cannot be written; an existing file stays.
    """
    with _replacing_text(path) as file:
        files.write_rows(file, [header])
        files.write_rows(file, rows)


@contextmanager
def _replacing_text(path: Path) -> Iterator[TextIO]:
    with files.replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)
        yield text
        text.detach()


def file_digest(path: Path) -> str:
    """SHA-256 of a file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return files.digest(file)
    except OSError:
        return ""


def is_edited(path: Path, written: Collection[str]) -> bool:
    """Whether a file exists and has none of the digests that labelr may have written."""
    digest = file_digest(path)
    return bool(digest) and digest not in written


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the name is too long
        return False


def _write(path: Path, content: bytes) -> None:
    try:
        files.make_folder(path.parent)
        files.write_atomically(path, content, durable=False)
    except LabelrError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NAME_ERRORS:
            raise UnwritableFileError(error.message) from error
        raise


def remove(path: Path, folder: Path) -> None:
    """Deletes a file, and the empty folders above it up to the output directory; never folders outside of it."""
    with suppress(OSError):
        path.unlink()
        if folder in path.parents:
            for parent in path.parents:
                if parent == folder:
                    break
                parent.rmdir()
