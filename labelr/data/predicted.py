"""Rows of label files that `labelr tag` wrote and nobody corrected or confirmed: predictions are no labels."""

import json
import os
import shlex
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.data.walk import FileIndex
from labelr.errors import LabelrError, pluralize, preview

if TYPE_CHECKING:  # of label files, which `labelr tag` reads none of
    from labelr.data.formats.source import Source
    from labelr.data.label_table import LabelTable

JOURNAL = Path(".labelr", "journal.sqlite")
"""What `labelr tag` keeps in the directory that it writes; see `labelr.tagging.journal`."""
JOURNAL_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, settings TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS predictions (
    run INTEGER, name BLOB, applies BLOB, PRIMARY KEY (run, name, applies)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (
    name BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, digest TEXT, width INTEGER, height INTEGER,
    reason TEXT, probs BLOB, pages INTEGER DEFAULT 0, note TEXT DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS found (position INTEGER PRIMARY KEY, name BLOB UNIQUE);
CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, name BLOB, digests TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reported (name BLOB PRIMARY KEY, digest TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS links (path BLOB PRIMARY KEY, content BLOB, made INTEGER, signature TEXT) WITHOUT ROWID;
"""
MAX_VALUE_BYTES = 2**24
"""Limit of one value in a journal; the probabilities of an image for a million labels take a quarter."""
MAX_LOG_BYTES = 2**32
"""Limit of the write-ahead log of a journal."""
MAX_RUNS = 100
"""How many earlier runs of `labelr tag` with other settings are compared with a label file, the newest."""
UNFILLED_FILE = "uncertain.csv"
"""The table of `labelr tag` that people fill in themselves."""
REVIEWED_FILE = "reviewed.csv"
"""The table of what people have answered about images; all that it says is confirmed."""
PROBABILITIES = "probabilities.csv"


class Predictions(NamedTuple):
    """What `labelr tag` wrote with the same model and settings.

    Attributes:
        labels: K labels, and the tags that all images got.
        names: P images. One whose file has changed occurs more than once.
        applies: Whether each label applies, 0 or 1, shape ``(P, K)``.
    """

    labels: tuple[str, ...]
    names: list[str]
    applies: NDArray[np.uint8]


def read_reviewed(source: "Source") -> "LabelTable":
    """The labels of a label file, with the names of its rows that are unchanged predictions, and are not confirmed.

    With `trust_predictions` off, predictions are left out; labels that people added to these rows stay. A column
    `confirmed` is no label.

    Raises:
        LabelrError: If the file cannot be read, or no row is left.
    """
    from labelr.data.formats.layouts import read_source, recognise  # all layouts, which `labelr tag` need not load

    folder = source.path if source.is_folder else source.path.parent
    is_xmp = recognise(source)[1] == ("xmp",)  # which says itself what was predicted
    if source.path.name in (UNFILLED_FILE, REVIEWED_FILE) or is_xmp or not os.path.lexists(folder / JOURNAL):
        return _check_reviewed(source, read_source(source))
    if source.path.name == PROBABILITIES:
        raise LabelrError(
            f"{source.path} holds probabilities, which are no labels",
            f"name the table of labels beside it with `--labels {shlex.quote(str(folder / 'labels.csv'))}`",
        )
    predictions = read_predictions(folder)
    source, confirmed, notes = _take_confirmed(source, {label for run in predictions for label in run.labels})
    table = read_source(source)
    table = replace(table, notes=(*table.notes, *notes))
    if not predictions or table.unconfirmed:
        return _check_reviewed(source, table)
    matches = [_are_predicted(table, run) for run in predictions]
    # That of the run which wrote the file: a corrected row may have the labels that another model predicts.
    predicted, columns = max(matches, key=lambda match: int(match[0].sum()))
    predicted &= np.array([name not in confirmed for name in table.names], dtype=bool)
    return _mark_unconfirmed(source, table, predicted, columns) if predicted.any() else table


def _check_reviewed(source: "Source", table: "LabelTable") -> "LabelTable":
    """The table; if its format says that rows are predictions, these are marked."""
    predicted = np.isin(table.names, table.unconfirmed)
    return _mark_unconfirmed(source, table, predicted, np.ones(len(table.labels), bool)) if predicted.any() else table


def _mark_unconfirmed(
    source: "Source", table: "LabelTable", predicted: NDArray[np.bool_], columns: NDArray[np.bool_]
) -> "LabelTable":
    """The table with the names of predicted rows ``(N,)``, or without the predictions in some columns ``(L,)``."""
    unconfirmed = tuple(table.names[row] for row in np.flatnonzero(predicted))
    targets = table.targets.copy()
    targets[np.ix_(predicted, columns)] = np.nan
    filled = predicted & ~np.isnan(targets).all(axis=1)
    if filled.any():
        added = [table.labels[column] for column in np.flatnonzero(~np.isnan(targets[filled]).all(axis=0))]
        note = f"labels that were not predicted count as yours, and confirm no others: {preview(added)}"
        table = replace(table, notes=(*table.notes, note))
    trust = source.options.trust_predictions
    if trust is None:
        return replace(table, unconfirmed=unconfirmed)
    what = "predictions that nobody corrected or confirmed"
    note = f"{what}, {'used as labels' if trust else 'left out'}: {pluralize(len(unconfirmed), 'row')}"
    table = replace(table, notes=(*table.notes, note))
    if trust:
        return table
    kept = np.flatnonzero(~predicted | filled).tolist()
    if not kept:
        raise LabelrError(
            f"{source.path}: {pluralize(len(unconfirmed), 'row')}, all of them {what}",
            "correct the table, or confirm rows in a column `confirmed`",
        )
    left_out = tuple(table.names[row] for row in np.flatnonzero(predicted & ~filled))
    return replace(replace(table, targets=targets).take(kept), aside=(*table.aside, *left_out))


def _take_confirmed(source: "Source", predicted: set[str]) -> "tuple[Source, set[str], list[str]]":
    """The source without its columns of confirmations, the images that these confirm, and notes on them."""
    from labelr.data.formats.words import Mark, column_key, marks_among
    from labelr.xmp.packet import MARKS

    if source.problem or source.table is None or not {*MARKS} & {*source.table.keys}:
        return source, set(), []
    confirmed, notes, found = set(), [], []
    columns, labels = source.columns, {column_key(label) for label in predicted}
    for number, key in enumerate(columns.table.keys):
        if key not in MARKS or key in labels:
            continue
        cells = [cell.lower() for cell in columns.table.column(number)]
        marks = marks_among([cells])
        rows = [row for row, cell in enumerate(cells) if marks.get(cell, Mark.OTHER) in (Mark.YES, Mark.OTHER)]
        confirmed |= {columns.names[row] for row in rows}
        found.append(columns.table.header[number])
        notes.append(f"confirmed in the column `{found[-1]}`: {pluralize(len(rows), 'row')}")
    options = replace(source.options, exclude=(*source.options.exclude, *found))
    return replace(source, options=options), confirmed, notes


def _are_predicted(table: "LabelTable", run: Predictions) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows have the labels that were predicted, ``(N,)``, and the columns of these labels, ``(L,)``.

    Columns of other labels confirm nothing. But a tag that somebody added to an image's own tags shows that they looked
    at these, so in a `closed` table it counts as a change, and all columns are predicted ones.
    """
    matched = _match_labels(run.labels, table.labels)
    has_column = matched >= 0
    row_of = {name: row for row, name in enumerate(table.names)}
    known = [(number, row_of[name]) for number, name in enumerate(run.names) if name in row_of]
    numbers, rows = np.array(known, dtype=np.int64).reshape(-1, 2).T
    current = np.zeros((len(rows), len(run.labels)), dtype=np.float32)
    current[:, has_column] = table.targets[np.ix_(rows, matched[has_column])]
    columns = np.isin(np.arange(len(table.labels)), matched)
    same = (current == run.applies[numbers]) | ~(has_column | table.closed)
    if table.closed:
        same &= ~(table.targets[rows][:, ~columns] == 1).any(axis=1, keepdims=True)
    elif not has_column.any():
        same[:] = False
    found = np.zeros(len(table.names), dtype=bool)
    found[rows[same.all(axis=1)]] = True
    return found, columns | table.closed


def _match_labels(labels: Sequence[str], columns: Sequence[str]) -> NDArray[np.int64]:
    """The column of each label by its name, or else by its `column_key`; -1 for none."""
    from labelr.data.formats.words import column_key

    spelled = {column_key(name): number for number, name in enumerate(columns) if name not in labels}
    exact = {name: number for number, name in enumerate(columns)}
    return np.array([exact.get(label, spelled.get(column_key(label), -1)) for label in labels], dtype=np.int64)


# --- the journal -----------------------------------------------------------------------------------------------------


def read_predictions(folder: Path) -> list[Predictions]:
    """What was predicted in an output directory, the newest first; nothing in one of an earlier version.

    Raises:
        LabelrError: If its journal is damaged, or in use.
    """
    with _read_journal(folder) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'predictions'").fetchone():
            return []
        runs = database.execute("SELECT id, settings FROM runs ORDER BY id DESC LIMIT ?", (MAX_RUNS,)).fetchall()
        return [_predictions_of(database, number, parse_settings(text)) for number, text in runs]


class Results(NamedTuple):
    """What the journal of an output directory says of the last run.

    Attributes:
        settings: Its settings.
        names: N images that were tagged, relative to the folder in ``settings["photos"]``.
        probs: Their probabilities of all labels of the model, shape ``(N, M)``.
        predicted: The labels that were written.
    """

    settings: dict[str, Any]
    names: list[str]
    probs: NDArray[np.float32]
    predicted: Predictions


def read_results(folder: Path) -> Results:
    """The images that were tagged in an output directory, with their probabilities.

    Raises:
        LabelrError: If its journal is damaged, or in use.
    """
    with _read_journal(folder) as database:
        facts = dict(database.execute("SELECT name, value FROM facts"))
        text = facts.get("settings", "{}")
        settings = parse_settings(text)
        run = database.execute("SELECT id FROM runs WHERE settings = ?", (text,)).fetchone() or (-1,)
        names, content = [], bytearray()
        query = "SELECT name, probs FROM found JOIN results USING (name) WHERE reason = '' ORDER BY position"
        for name, probs in database.execute(query):
            names.append(os.fsdecode(name))
            content += probs
        matrix = np.frombuffer(content, "<f4").reshape(len(names), -1 if names else 0)
        return Results(settings, names, matrix, _predictions_of(database, run[0], {"labels": [], **settings}))


def _predictions_of(database: sqlite3.Connection, run: int, settings: dict[str, Any]) -> Predictions:
    labels, always = settings["labels"], settings.get("always", [])
    rows = database.execute("SELECT name, applies FROM predictions WHERE run = ?", (run,)).fetchall()
    rows = [row for row in rows if len(row[1]) == len(labels)]  # failed images have none
    applies = np.frombuffer(b"".join(row[1] for row in rows), np.uint8).reshape(len(rows), len(labels))
    applies = np.hstack([applies, np.ones((len(rows), len(always)), np.uint8)])
    return Predictions((*labels, *always), [os.fsdecode(row[0]) for row in rows], applies)


def check_has_images(data: Path, index: FileIndex) -> None:
    """Raises LabelrError if a data folder is an output directory, which holds no images: they are elsewhere."""
    if not os.path.lexists(data / JOURNAL) or next(index.find_images(data), None) is not None:
        return
    with _read_journal(data) as database:
        facts = dict(database.execute("SELECT name, value FROM facts"))
        photos = parse_settings(facts.get("settings", "{}")).get("photos", "PHOTOS")
    table = data / "labels.csv"
    raise LabelrError(
        f"{data} holds what `labelr tag` wrote, and no images",
        f"name the folder of the images, and the labels: `{shlex.quote(photos)} --labels "
        f"{shlex.quote(str(table if table.exists() else data))}`",
    )


@contextmanager
def _read_journal(folder: Path) -> Iterator[sqlite3.Connection]:
    """The journal of an output directory; a LabelrError if it is damaged, or in use."""
    check_journal_files(folder)
    journal = files.content_of(folder / JOURNAL)
    has_log = journal.with_name(f"{journal.name}-wal").exists()  # of a killed run, or of one that is not finished
    address = f"{journal.absolute().as_uri()}?{'mode=ro' if has_log else 'immutable=1'}"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            check_journal(database)
            yield database
    except (sqlite3.Error, ValueError, KeyError, RecursionError) as error:
        raise LabelrError(
            f"cannot read what `labelr tag` wrote from {journal}: {error}", "wait until `labelr tag` ends, or repeat it"
        ) from error


def check_journal_files(folder: Path) -> None:
    """Raises LabelrError if a file of a journal is a link, a pipe or the like, or SQLite would act on what is in it."""
    journal = folder / JOURNAL
    log, rollback = (journal.with_name(f"{journal.name}{suffix}") for suffix in ("-wal", "-journal"))
    others = [path for path in (journal.parent, *journal.parent.glob(f"{journal.name}*")) if not _is_plain(path)]
    if others:
        raise LabelrError(f"{others[0]} is not a regular file or folder", "delete it, or name another directory")
    if os.path.exists(rollback):  # which may tell SQLite to delete any file; labelr has none
        raise LabelrError(f"{rollback} is not a file of labelr", "delete it, or name another directory")
    if os.path.exists(log) and log.stat().st_size > MAX_LOG_BYTES:
        raise LabelrError(f"{log} is larger than {MAX_LOG_BYTES:,} bytes", "delete it, or name another directory")


def _is_plain(path: Path) -> bool:
    """Whether a folder, or a file in it, is one itself and not a link."""
    mode = path.lstat().st_mode
    return stat.S_ISDIR(mode) if path.name == JOURNAL.parent.name else stat.S_ISREG(mode)


def check_journal(database: sqlite3.Connection) -> None:
    """Raises ValueError if a database has other tables than a journal, or values of other types.

    It may come from anywhere: nothing that it defines is executed, such as a trigger or a view.
    """
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    database.execute("PRAGMA trusted_schema = OFF")
    known = _journal_schema()
    tables = []
    for kind, name, sql in database.execute("SELECT type, name, sql FROM sqlite_master").fetchall():
        if kind == "index" and sql is None:
            continue
        if kind != "table" or _squeeze(str(sql)) != known.get(str(name)):
            raise ValueError(f"it has a {kind} {name!r}, which is not of labelr")
        tables.append(name)
    for table in tables:
        types = {name: kind.lower() for _, name, kind, *_ in database.execute(f"PRAGMA table_info({table})").fetchall()}
        others = " OR ".join(f"typeof({name}) != '{kind}'" for name, kind in types.items())
        if database.execute(f"SELECT 1 FROM {table} WHERE {others} LIMIT 1").fetchone():  # noqa: S608 - names of ours
            raise ValueError(f"the table {table!r} has a value of a wrong type")


@cache
def _journal_schema() -> dict[str, str]:
    """The definition of each table of a journal, without spaces."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(JOURNAL_SCHEMA)
        tables = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    return {name: _squeeze(sql) for name, sql in tables}


def _squeeze(sql: str) -> str:
    """A statement in lower case, without spaces and line breaks."""
    return "".join(sql.lower().split())


def parse_settings(text: str) -> dict[str, Any]:
    """The settings of a run in a journal. Raises ValueError if they are damaged."""
    settings = json.loads(text)
    is_valid = isinstance(settings, dict)
    for name in ("labels", "model labels", "always") if is_valid else ():
        texts = settings.get(name, [])
        is_valid &= isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    if not (is_valid and all(isinstance(settings.get(name, ""), str) for name in ("model", "photos"))):
        raise ValueError("the settings of a run are damaged")
    return dict(settings)
