"""Tables as CSV, and JSON: how labelr writes them, and reads its own records back, validated."""

import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO, TypeVar

from labelr import files
from labelr.errors import UNPRINTABLE, LabelrError
from labelr.version import upgrade_hint

T = TypeVar("T")
MAX_RECORD_VALUES = 8_000_000
"""The most values in one, since a short text may describe values that need far more memory."""
BOM = "\ufeff"
"""Byte order mark, by which Excel recognises UTF-8."""
_FORMULA = re.compile(r"'*(?:[\t\r\n]|[\s\ufeff]*[=+@＝＋－＠-])")  # noqa: RUF001 - the forms of East Asia count too
"""The beginning of a text that a spreadsheet may run as a formula, with the apostrophes that escape it."""
_FORMULA_STARTS = frozenset("'=+@＝＋－＠-\ufeff" + "".join(filter(str.isspace, map(chr, range(0x3001)))))  # noqa: RUF001
_SIGNED = re.compile(r"[-+][0-9]+([.,][0-9]+)?(e[-+]?[0-9]+)?", re.IGNORECASE)


# --- CSV --------------------------------------------------------------------------------------------------------------


def csv_text(header: Iterable[str], rows: Iterable[Iterable[object]], *, excel: bool = False) -> str:
    """A CSV table as text, which starts with a byte order mark for Excel; see `write_rows`."""
    return (BOM if excel else "") + rows_text([header], excel=excel) + rows_text(rows, excel=excel)


def rows_text(rows: Iterable[Iterable[object]], *, excel: bool = False) -> str:
    """Rows of a CSV table as text; see `write_rows`."""
    buffer = io.StringIO()
    write_rows(buffer, rows, excel=excel)
    return buffer.getvalue()


def write_rows(file: TextIO, rows: Iterable[Iterable[object]], *, excel: bool = False) -> None:
    """Writes rows of a CSV table, separated by semicolons for an Excel of most languages; lines end in a line feed.

    Every text is escaped by `escape_formula`; `unescape_formula` gives it back.
    """
    minimal, quoted = (
        csv.writer(file, delimiter=";" if excel else ",", lineterminator="\n", quoting=how)
        for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    for cells in rows:
        row = [escape_formula(cell) if isinstance(cell, str) else cell for cell in cells]
        # readers take a carriage return for a line break, but the module does not quote it
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in row)
        (quoted if has_return else minimal).writerow(row)


def escape_formula(text: str) -> str:
    """The text with an apostrophe in front if a spreadsheet may run it as a formula; numbers unchanged.

    One that has apostrophes before a formula gets another one, so that every text can be read back.
    """
    is_risky = text[:1] in _FORMULA_STARTS and _FORMULA.match(text)
    return f"'{text}" if is_risky and not _SIGNED.fullmatch(text) else text


def unescape_formula(cell: str) -> str:
    """The text that `escape_formula` made the cell from."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def escape_formula_in_path(name: str) -> str:
    """The same relative path, with ``./`` in front if it begins as a formula or with a space, which readers strip."""
    return f"./{name}" if name[:1].isspace() or _FORMULA.match(name) else name


# --- JSON -------------------------------------------------------------------------------------------------------------


def json_text(value: object, *, indent: int | None = 2) -> str:
    """A value as JSON of several lines; unprintable characters are escaped, NaN is null."""
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(without_nan(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return UNPRINTABLE.sub(lambda found: json.dumps(found[0]).strip('"'), text) + "\n"


def json_line(value: object) -> str:
    """As `json_text`, in one line."""
    return json_text(value, indent=None)


def without_nan(value: Any) -> Any:
    """A value with every number in it that is not finite replaced by None, since JSON has none."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- records ----------------------------------------------------------------------------------------------------------


def read_json(path: Path, kind: type[T], hint: str, *, newest: int | None = None) -> T:
    """The content of a JSON file of labelr's own, validated.

    Args:
        path: The file.
        kind: What it holds; see `convert`.
        hint: What to do if it is damaged.
        newest: The newest format that is read; None for files without a number of their format.

    Raises:
        LabelrError: If it cannot be read, is of a newer format, or holds something else.
    """
    with files.reading(path, hint):
        return parse_record(files.read_bytes(path), kind, path, newest=newest)


def parse_record(content: bytes, kind: type[T], path: Path, *, newest: int | None = None) -> T:
    """The value of a JSON text in a file of labelr's own; see `read_json`.

    Raises:
        LabelrError: If it is of a newer format.
        ValueError: If it is damaged, or holds something else.
    """
    value = parse_json(content)
    if newest is not None:
        value = convert(value, dict[str, Any])
        version = value.pop("format", None)
        if type(version) is not int or version < 1:
            raise ValueError("format: expected a whole number from 1")
        if version > newest:
            raise LabelrError(f"{path} has format {version}, and this labelr reads up to {newest}", upgrade_hint())
    return convert(value, kind)


def parse_json(content: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        ValueError: If it is damaged, ambiguous or too large, or holds a number that is not finite.
    """
    check_number_of_values(content)
    try:
        return json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def check_number_of_values(content: bytes) -> None:
    """Raises ValueError where a JSON text describes more than `MAX_RECORD_VALUES` values."""
    if sum(content.count(character) for character in b"[{,") > MAX_RECORD_VALUES:
        raise ValueError(f"it has more than {MAX_RECORD_VALUES:,} values")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)[: files.MAX_REASON]!r} is given twice")
    return values


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[: files.MAX_REASON]} is not a finite number")
    return value


def convert(value: Any, kind: type[T], *, strict: bool = True) -> T:
    """A value of lists, mappings, texts and numbers as a type, whose annotations are checked.

    Args:
        value: The value.
        kind: The type, such as a dataclass; a key that it does not have is an error.
        strict: Whether texts stay texts; else they are also read as numbers.

    Raises:
        ValueError: If something in it is of another type or out of range, with its place.
    """
    import msgspec

    try:
        found = msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        what, _, place = str(error).replace("`", "").partition(" - at $")
        what = what[:1].lower() + what[1:]
        raise ValueError(f"{place.lstrip('.')}: {what}" if place else what) from error
    _check_keys(value, found)
    return found


def _check_keys(value: Any, found: object) -> None:
    """Raises ValueError where a value has a key that the dataclass made from it does not have."""
    if dataclasses.is_dataclass(found):
        names = {field.name for field in dataclasses.fields(found)}
        for key, inner in value.items():
            if key not in names:
                raise ValueError(f"unknown key {key[: files.MAX_REASON]!r}")
            _check_keys(inner, getattr(found, key))
