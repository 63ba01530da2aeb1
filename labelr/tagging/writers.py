"""Writes results: files of single images and what the options ask for of all images, or lines to a stream."""

import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from labelr import files, serialization
from labelr.errors import LabelrError, pluralize, preview
from labelr.progress import Track
from labelr.tagging.gallery import Gallery
from labelr.tagging.journal import Journal, WrittenFile
from labelr.tagging.output import (
    RESERVED,
    UnwritableFileError,
    check_unprotected,
    delete_files,
    failing_alone,
    file_names,
    is_changed,
)
from labelr.tagging.pipeline import Result, TaggedImage, Tagger, file_status
from labelr.tagging.sorting import Sorter
from labelr.tagging.summary import TagSummary
from labelr.tagging.tables import format_probability, header, image_json, label_row, write_tables

if TYPE_CHECKING:
    from labelr.tagging.photo_files import PhotoFiles

IMAGE_HEADER = ("label", "probability")

log = logging.getLogger(__name__)


def image_csv(image: TaggedImage, labels: Sequence[str], *, excel: bool = False) -> bytes:
    """The CSV of an image: rows ``label,probability`` of the labels that apply, the most probable first."""
    rows = [(labels[index], format_probability(image.probs[index])) for index in image.ranked]
    return serialization.csv_text(IMAGE_HEADER, rows, excel=excel).encode()


def image_txt(tags: Sequence[str]) -> bytes:
    """The text file of an image for training tools: its tags, separated by commas."""
    return (", ".join(tags) + "\n" if tags else "").encode("utf-8", "surrogateescape")


class DirectoryWriter:
    """Writes results into an output directory, where files that a user has edited are kept."""

    def __init__(self, folder: Path, base: Path, tagger: Tagger, journal: Journal, *, force: bool = False) -> None:
        self._force = force and not tagger.options.in_place
        self._renamed: list[Path] = []
        self._folder = folder
        self._base = base
        self._tagger = tagger
        self._journal = journal
        self._root = base if tagger.options.in_place else folder.absolute()
        self._separators: dict[PurePath, str] = {}
        self._inside: dict[Path, bool] = {}
        self._tables: list[Path] = []
        journal.check_lengths(len(tagger.model.labels))

    @cached_property
    def _photo_files(self) -> "PhotoFiles":
        from labelr.tagging.photo_files import PhotoFiles  # and with it the reader of XMP

        return PhotoFiles(self._tagger)

    def previous(self, name: str) -> Result | None:
        """The result of an image in an earlier run."""
        return self._journal.get(name)

    def previous_below(self, folder: str) -> Iterator[Result]:
        """The results of the images below a folder in an earlier run."""
        return (result for name in self._journal.names_below(folder) if (result := self._journal.get(name)))

    def write_files(self, image: TaggedImage) -> TaggedImage:
        """Writes the files of an image. If one cannot be written, the image is returned as failed."""
        if image.result.failed:
            return image
        options, labels = self._tagger.options, self._tagger.selection.labels
        csv_path, txt_path = (self._root / name for name in file_names(image.name, ("csv", "txt")))
        try:
            if "csv" in options.formats and self._is_outdated(csv_path, image):
                self._write_file(csv_path, image, image_csv(image, labels, excel=options.for_excel))
            if "txt" in options.formats and self._is_outdated(txt_path, image):
                if options.append:
                    self._append_to_file(txt_path, image)
                else:
                    self._write_file(txt_path, image, image_txt(self._tagger.selection.tags(image)))
            if "xmp" in options.formats:
                return self._write_xmp(image)
        except UnwritableFileError as error:
            return self._tagger.selection.apply(image.result._replace(reason=error.message))
        return image

    def _is_outdated(self, path: Path, image: TaggedImage) -> bool:
        return image.origin == "new" or not os.path.exists(path)

    def _write_file(self, path: Path, image: TaggedImage, content: bytes) -> None:
        known = self._check_owner(path, image)
        digests = [files.digest(path), hashlib.sha256(content).hexdigest()]
        if os.path.isfile(path) and is_changed(path, known.digests if known else ()):
            if digests[0] == digests[1]:
                if path.suffix == ".csv" or not self._tagger.options.in_place:
                    self._journal.put_file(path, image.name, digests)
                return  # a text file next to an image may be of a person who chose the same tags
            if known:
                raise UnwritableFileError(f"{path.name} was edited after labelr wrote it, and is kept")
            if self._force:
                self._renamed.append(files.set_aside(path))
                digests[0] = ""
        if not known and os.path.exists(path):
            raise UnwritableFileError(
                f"{path.name} already exists, and no journal of yours says that labelr wrote it: rename or delete it"
            )
        self._journal.put_file(path, image.name, digests)
        _write(path, content)

    def _append_to_file(self, path: Path, image: TaggedImage) -> None:
        from labelr.data.formats.sidecar import with_tags

        self._check_owner(path, image)
        tags = self._tagger.selection.tags(image)
        try:
            content = with_tags(path, tags, self._separator(PurePath(image.name).parent))
        except LabelrError as error:
            raise UnwritableFileError(error.message) from error
        self._journal.put_file(path, image.name, ())
        if content is not None:
            _write(path, content)

    def _write_xmp(self, image: TaggedImage) -> TaggedImage:
        """Merges the labels of an image into its XMP file, or into itself, or both; the image with its new status."""
        options, photo = self._tagger.options, self._base / image.name
        path = self._root / file_names(image.name, [kind for kind in options.file_kinds if "xmp" in kind])[0]
        is_jpeg = options.embed and self._photo_files.is_jpeg(photo)
        is_embedded = is_jpeg and image.origin == "new"
        is_merged = self._is_outdated(path, image) and (os.path.lexists(path) or not is_jpeg)
        reviewed = self._photo_files.reviewed(path, photo) if is_embedded or is_merged else None
        if reviewed is not None:
            is_merged &= not options.in_place and not os.path.lexists(path)
        merged = self._merge(path, image, reviewed) if is_merged else None  # if it fails, the image is not changed
        if is_embedded and reviewed is None and self._photo_files.embed(photo, image):
            image = image._replace(result=image.result._replace(status=file_status(photo), digest=files.digest(photo)))
        if merged:
            self._put_merged(path, image, *merged)
        return image

    def _merge(self, path: Path, image: TaggedImage, reviewed: bytes | None) -> tuple[bytes, str] | None:
        """The content of an XMP file with the labels of an image, and the digest of the file; None if it needs none."""
        self._check_owner(path, image)
        before = files.digest(path)
        content = reviewed or self._photo_files.merged_sidecar(path, self._base / image.name, image)
        if content and before not in ("", hashlib.sha256(content).hexdigest()):
            check_unprotected(path)
        return None if content is None else (content, before)

    def _put_merged(self, path: Path, image: TaggedImage, content: bytes, before: str) -> None:
        """Writes an XMP file; one that labelr made alone is deleted with the image."""
        known = self._check_owner(path, image)
        is_ours = not os.path.lexists(path) or (known is not None and not is_changed(path, known.digests))
        digests = [before, hashlib.sha256(content).hexdigest()] if is_ours else []
        if files.digest(path) != before:
            raise UnwritableFileError(f"{path.name} was changed meanwhile by another program")
        if not known or known.digests or digests:
            self._journal.put_file(path, image.name, digests)
        if before != hashlib.sha256(content).hexdigest():
            _write(path, content, is_kept=bool(before))

    def _separator(self, folder: PurePath) -> str:
        """The separator of tags in a folder; without tags there, that of its parent folder, and in the end a comma."""
        from labelr.data.formats.sidecar import separator_beside

        if folder not in self._separators:
            found = separator_beside(self._base / folder, self._root / folder)
            self._separators[folder] = found or (self._separator(folder.parent) if folder.name else ",")
        return self._separators[folder]

    def _check_owner(self, path: Path, image: TaggedImage) -> WrittenFile | None:
        """What is known of a file; UnwritableFileError if it belongs to another image, or labelr must not write it."""
        output = self._folder.absolute()
        first, *rest = path.relative_to(output).parts if path.is_relative_to(output) else [""]
        if first.casefold() in RESERVED:
            what = f"the name of the {'folder' if rest else 'file'} {first}"
            raise UnwritableFileError(f"{what} is reserved for a table of the results")
        if not self._is_inside(path.parent):
            raise UnwritableFileError(f"{path.parent} is outside of {self._root}, behind a link")
        known = self._journal.file(path)
        if known and known.image != image.name and os.path.exists(self._base / known.image):
            raise UnwritableFileError(f"{path.name} already belongs to {known.image}")
        return known

    def _is_inside(self, folder: Path) -> bool:
        """Whether a folder of the output is no link to another place; the photos may be spread over several."""
        if folder not in self._inside:
            self._inside[folder] = self._tagger.options.in_place or files.is_inside(folder / "file", self._root)
        return self._inside[folder]

    def put(self, image: TaggedImage) -> None:
        """Keeps the result of an image."""
        self._journal.put_predicted(image.name, image.applies)
        self._journal.put(image.result)

    def finish(self, summary: TagSummary, track: Track) -> None:
        """Writes the tables and what vanished during the run, and deletes the files of images that are gone or failed.

        The summary gets the number of images that are gone, of links to images, and of pages of the gallery.

        Raises:
            LabelrError: If something cannot be written, or vanishes again.
        """
        self._journal.restore()
        self._rewrite_vanished()
        kept = delete_files(self._journal, self._folder, self._root, orphans=True)
        if kept:
            log.warning(
                "kept %s of images that are gone or failed, edited or not written by labelr: %s",
                pluralize(len(kept), "file"), preview(kept),
            )  # fmt: skip
        if self._renamed:
            renamed = pluralize(len(self._renamed), "file")
            log.warning("renamed %s, which nothing shows labelr wrote: %s", renamed, preview(self._renamed))
        if "xmp" in self._tagger.options.formats and self._photo_files.kept:
            num_kept = pluralize(len(self._photo_files.kept), "image")
            log.info("XMP left as it is, since somebody reviewed its labels: of %s", num_kept)
        write_tables(self._folder, self._journal.results, self._tagger, self._base, self._replacing)
        if self._tagger.options.gallery:
            gallery = Gallery(self._folder, self._tagger, self._base, self._journal, self._replacing)
            summary.pages = gallery.write(self._tagged, track)
        if self._tagger.options.sort_into is not None:
            sorter = Sorter(self._tagger, self._base, self._journal)
            summary.notes += sorter.sort(self._tagged())
            summary.links = sorter.num_links
        vanished = [path for path in self._tables if not path.exists()]
        if vanished:
            raise LabelrError(f"{preview(vanished)} vanished during the run", "run the same command again")
        summary.vanished = self._journal.finish()

    def _rewrite_vanished(self) -> None:
        """Writes the files of images again that were deleted during the run, perhaps with the output directory."""
        kinds = self._tagger.options.file_kinds
        for name in self._journal.tagged():
            if not any(_is_gone(Path(self._root, file)) for file in file_names(name, kinds)):
                continue
            result = self._journal.get(name)
            image = result and self.write_files(self._tagger.selection.apply(result))
            if image and image.result.failed:
                raise LabelrError(
                    f"the files of {name} vanished during the run, and cannot be written again: {image.result.reason}",
                    "run the same command again",
                )

    def _tagged(self) -> Iterator[TaggedImage]:
        """The images of this run that were tagged, in the order in which they were found."""
        return self._tagger.selection.tagged(self._journal.results())

    @contextmanager
    def _replacing(self, path: Path) -> Iterator[io.BufferedWriter]:
        """A temporary file that replaces a table at the end; a table that labelr did not write gets another name."""
        with files.replacing(path) as file:
            yield file
            file.flush()
            with os.fdopen(os.dup(file.fileno()), "rb") as content:
                content.seek(0)
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            name = path.relative_to(self._folder).as_posix()
            if is_changed(path, (digest, *self._journal.table_digests(name))):
                log.warning("renamed %s, which nothing shows labelr wrote, to %s", path, files.set_aside(path).name)
            self._journal.put_table(name, files.digest(path), digest)
        self._tables.append(path)


class StreamWriter:
    """Passes one line per image with its line break to `write`: a row of ``labels.csv``, or JSON."""

    def __init__(self, tagger: Tagger, write: Callable[[str], None]) -> None:
        self._tagger = tagger
        self._write = write
        self._as_json = "jsonl" in tagger.options.formats
        self._excel = tagger.options.for_excel
        if not self._as_json:
            write(serialization.csv_text(header(tagger.selection), (), excel=self._excel))

    def previous(self, name: str) -> None:
        """As `DirectoryWriter`."""

    def previous_below(self, folder: str) -> tuple[()]:  # noqa: ARG002 - as `DirectoryWriter`
        """As `DirectoryWriter`."""
        return ()

    def write_files(self, image: TaggedImage) -> TaggedImage:
        """As `DirectoryWriter`."""
        return image

    def put(self, image: TaggedImage) -> None:
        """As `DirectoryWriter`."""
        if image.result.failed:
            log.warning("%s: %s", image.name, image.result.reason)
        if self._as_json:
            self._write(image_json(image, self._tagger))
        elif not image.result.failed:
            self._write(serialization.rows_text([label_row(image)], excel=self._excel))


def _is_gone(path: Path) -> bool:
    """Whether there is no file; not if its folder cannot be searched."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _write(path: Path, content: bytes, *, is_kept: bool = False) -> None:
    """Writes the file of an image; one that is kept for its other content survives a power failure too."""
    with failing_alone():
        files.make_folder(path.parent)
        files.write_atomically(path, content, durable=is_kept, like=path if is_kept else None)
