"""A label file or a folder of label files, opened once for all readers."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from labelr.config import ReadOptions
from labelr.data.formats.columns import Columns
from labelr.data.formats.encodings import find_encodings
from labelr.data.formats.json_objects import check_labels, find_objects, name_classes, table_of_objects
from labelr.data.formats.parsers import parse_yaml
from labelr.data.formats.spreadsheet import is_spreadsheet, read_spreadsheet
from labelr.data.formats.table import Table, read_table
from labelr.data.limits import CELLS_OF_KEY, CELLS_OF_OBJECT, DEFAULT_LIMITS, Limits, read_bytes
from labelr.data.walk import FileIndex, has_image_suffix
from labelr.errors import LabelrError, pluralize, preview
from labelr.fields import SettingError

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson", ".manifest")
YAML_SUFFIXES = (".yaml", ".yml")


class DecodedText(NamedTuple):
    """The text of a file, and the codec that decoded it."""

    content: str
    codec: str = "utf-8"

    @property
    def encoding(self) -> str:
        """The codec if it is not UTF-8; else empty."""
        return "" if self.codec.startswith("utf-8") else self.codec

    def encode(self, content: str) -> bytes:
        """Another text in the same encoding.

        Raises:
            UnicodeEncodeError: If the encoding cannot represent it.
        """
        return content.encode(self.codec, "strict" if self.encoding else "surrogateescape")


@dataclass(eq=False)
class Source:
    """A label file or a folder of label files, parsed on demand and once.

    What cannot be read or parsed raises a LabelrError where it is first used.

    Attributes:
        path: The file or folder.
        images: The folder of the images.
        options: How to read it.
        index: The files below folders.
        keep_spaces: Whether names in it keep the spaces around them also where no image has these.
        match: The result of `recognise`, once it has one.
        broken: The lines of JSON Lines that were left out, each with its reason.
    """

    path: Path
    images: Path
    options: ReadOptions
    index: FileIndex = field(default_factory=FileIndex, repr=False)
    keep_spaces: bool = False
    match: tuple[int, tuple[str, ...]] | None = field(default=None, init=False)
    broken: list[str] = field(default_factory=list, init=False)

    @property
    def suffix(self) -> str:
        """Its suffix in lower case; empty for a folder."""
        return "" if self.is_folder else self.path.suffix.lower()

    @cached_property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return os.path.isdir(self.path)

    @cached_property
    def text(self) -> DecodedText:
        """Its text."""
        return self.read(self.path)

    @property
    def limits(self) -> Limits:
        """How much it may hold."""
        return Limits(self.options.max_cells, self.path)

    def read(self, path: Path) -> DecodedText:
        """The text of a file beside it; see `read_text`."""
        return read_text(path, self.options.encoding, self.limits)

    @cached_property
    def is_spreadsheet(self) -> bool:
        """Whether it is a spreadsheet, Parquet or Feather, by its content."""
        return not self.is_folder and is_spreadsheet(self.path)

    @property
    def encoding(self) -> str:
        """The encoding of a text file if that is not UTF-8; else empty."""
        return "" if self.is_folder or self.is_spreadsheet else self.text.encoding

    @cached_property
    def table(self) -> Table | None:
        """Its cells, also of JSON Lines or a list of objects; None for a folder, other JSON, YAML and XML."""
        table = self._read_table()
        return table and table.with_exact_names(self._has_exactly)

    def _has_exactly(self, name: str) -> bool:
        """Whether an image, or a folder of some, has the spaces around the name of an image."""
        return self.keep_spaces or not self._padded.isdisjoint(name.replace("\\", "/").split("/"))

    @cached_property
    def _padded(self) -> set[str]:
        """The names of image files and their folders that begin or end with spaces."""
        return {part for name in self.image_files for part in name.split("/") if part != part.strip()}

    def _read_table(self) -> Table | None:
        if self.objects:
            return table_of_objects(self.path, self.objects, self.limits, self.options.label_column)
        if self.is_folder or self.suffix in (*JSON_SUFFIXES, *YAML_SUFFIXES, ".xml"):
            return None
        if self.is_spreadsheet:
            return read_spreadsheet(self.path, self.options.sheet, self.limits)
        return read_table(self.path, self.text.content, self.limits)

    def require_table(self) -> Table:
        """Its cells; a LabelrError if it is not a table."""
        if self.table is None:
            raise LabelrError(f"{self.path} is not a table", "name a CSV file with `--labels`")
        return self.table

    def is_same_table(self, other: "Source") -> bool:
        """Whether one is a spreadsheet and the other the CSV that was saved from it."""
        if self.is_spreadsheet == other.is_spreadsheet or self.table is None or other.table is None:
            return False
        return self.table.rows == other.table.rows

    @cached_property
    def columns(self) -> Columns:
        """The columns of its table; see `Columns.find` and `check_labels`."""
        if self.objects:
            check_labels(self.path, self.objects, self.options.label_column, self.options.exclude)
        return Columns.find(self.require_table(), self.options, is_image=self._is_image)

    @cached_property
    def problem(self) -> LabelrError | None:
        """Why it cannot be parsed as the format of its suffix; None if it can."""
        try:
            if not self.is_folder and self.document is None and self.suffix != ".xml":
                _ = self.table
        except LabelrError as error:
            return error
        return None

    @cached_property
    def document(self) -> Any:
        """The content of a JSON, JSON Lines or YAML file; None for any other file."""
        try:
            if self.suffix in JSON_SUFFIXES:
                self._check_values()
                is_array = self.text.content.lstrip()[:1] == "["
                return self._parse_lines() if self.suffix != ".json" and not is_array else json.loads(self.text.content)
            if self.suffix in YAML_SUFFIXES:
                return parse_yaml(self.path, self.text.content, self.limits)
        except RecursionError:
            raise LabelrError(f"{self.path} cannot be parsed: it is nested too deeply", "export it again") from None
        except ValueError as error:
            hint = "export or save it again"
            if self.suffix in JSON_SUFFIXES and self.suffix != ".json":
                hint = "correct the line, or leave such lines out with `--skip-invalid`"
            raise LabelrError(f"{self.path} cannot be parsed: {error}", hint) from error
        return None

    def _check_values(self) -> None:
        """Raises LabelrError if a JSON has too many values, before it is parsed."""
        count = self.text.content.count
        number = count(",") + count("[") + count("\n") + CELLS_OF_KEY * count(":") + CELLS_OF_OBJECT * count("{")
        self.limits.check_cells(self.path, number, "values, with their keys and brackets")

    def _parse_lines(self) -> list[Any]:
        """The values of JSON Lines; lines that cannot be parsed are left out if the user allows it."""
        values = []
        for number, line in enumerate(self.text.content.split("\n"), start=1):
            try:
                value = json.loads(line.rstrip().removesuffix(",")) if line.strip() else {}
                if not isinstance(value, dict):
                    raise ValueError(f"expected an object, got {line[:60]}")
            except ValueError as error:
                if not self.options.skip_invalid:
                    raise ValueError(f"line {number}: {error}") from error
                self.broken.append(f"{self.path}, line {number}: {error}")
            else:
                values += [value] if line.strip() else []
        return values

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        """The objects of a JSON or of JSON Lines, one for each image; see `find_objects`."""
        document = self.document if self.suffix in JSON_SUFFIXES else None
        try:
            found = name_classes(find_objects(document, self._is_image), document)
        except LabelrError as error:
            raise LabelrError(f"{self.path}: {error.message}", error.hint) from error
        except RecursionError:
            raise LabelrError(f"{self.path} is nested too deeply", "export it again") from None
        if found and isinstance(document, dict):
            self._check_keys()
        return found

    def _is_image(self, name: str) -> bool:
        """Whether a text is the name of an image, or that of an image file without its ending."""
        return has_image_suffix(name) or name in self._stems

    @cached_property
    def _stems(self) -> set[str]:
        """The paths of the image files without their endings, and the last parts of these."""
        paths = {PurePosixPath(name).with_suffix("") for name in self.image_files}
        return {path.as_posix() for path in paths} | {path.name for path in paths}

    def _check_keys(self) -> None:
        """Raises LabelrError if a JSON that maps images or labels has one twice, of which a parser keeps the last."""
        pairs = json.loads(self.text.content, object_pairs_hook=list)
        repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        if repeated:
            raise LabelrError(
                f"{self.path} has {pluralize(len(repeated), 'key')} twice: {preview(repeated)}",
                "keep one entry of each",
            )

    def files(self, suffix: str) -> Iterator[Path]:
        """The files below it, or below its folder, with this suffix."""
        return self.index.find_suffix(self.path if self.is_folder else self.path.parent, suffix)

    def beside(self, path: Path) -> "Source":
        """Another label file for the same images."""
        return Source(path, self.images, self.options, self.index)

    @cached_property
    def image_files(self) -> list[str]:
        """The image files below `images`, relative to it, with forward slashes."""
        return self.index.image_names(self.images)


def read_text(path: Path, encoding: str | None = None, limits: Limits = DEFAULT_LIMITS) -> DecodedText:
    """The text of a file in the given encoding, or in the one that fits it best; see `read_texts`."""
    return read_texts([path], encoding, limits)[0]


def read_texts(
    paths: Sequence[Path], encoding: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> list[DecodedText]:
    """The texts of files in the given encoding; else in UTF-8 or UTF-16, and all others in the one that fits them best.

    A few bytes that are not valid UTF-8 in a UTF-8 file, such as those of file names, become surrogate escapes.

    Raises:
        LabelrError: If one cannot be read, or is not text, or together they are too large.
    """
    contents, size = [], 0
    for path in paths:
        contents.append(read_bytes(path, limits))
        size += len(contents[-1])
        limits.check_size(path, size, " with the files before it")
    codecs = [encoding] * len(contents) if encoding else find_encodings(contents)
    return [_decode(*file, hinted=encoding) for file in zip(paths, contents, codecs, strict=True)]


def readable_lines(paths: Iterable[Path], encoding: str | None) -> Iterator[str]:
    """The lines of those files that can be read, to recognise a layout by: its reader reports the others."""
    for path in paths:
        with suppress(LabelrError):
            yield from filter(str.strip, read_text(path, encoding).content.splitlines())


def _decode(path: Path, data: bytes, codec: str, *, hinted: str | None) -> DecodedText:
    try:
        content = data.decode(codec, "surrogateescape" if codec.startswith("utf-8") else "strict")
    except LookupError:
        raise SettingError(f"there is no encoding {codec!r}", "name one such as utf-8, cp1252 or gb18030") from None
    except UnicodeDecodeError as error:
        hint = "name another `--encoding`, or leave it out" if hinted else "save the file as text in UTF-8"
        raise LabelrError(f"{path} is not text in {codec}: {error.reason}", hint) from error
    if "\0" in content:
        raise LabelrError(f"{path} is not text: it holds null characters", "save the file as text in UTF-8")
    return DecodedText(content.removeprefix("\ufeff"), codec)
