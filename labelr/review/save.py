"""Writes answers into the label file, or into a table beside it, soon after they were given and atomically."""

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from labelr import files, serialization
from labelr.config import ReadOptions
from labelr.errors import LabelrError, pluralize
from labelr.review.journal import locked_file
from labelr.review.label_file import NotInPlaceError, TableFile, check_reads
from labelr.review.session import Session
from labelr.review.targets import NO, NONE, UNKNOWN, YES, Target, read_data, read_output

DELAY_SECONDS = 0.5
"""How long answers are collected before the label file is written; the journal has them at once."""
RETRY_SECONDS = 5.0
MARKS = {YES: "1", NO: "0"}

log = logging.getLogger(__name__)


class Saver:
    """Writes the answers of a session into the label file where that is a table whose cells can be replaced.

    Else into ``reviewed.csv`` beside it: for the output of `labelr tag` the answers alone, for a data set all labels.

    Attributes:
        warning: What a person should know about the label file; empty for nothing.
    """

    def __init__(self, target: Target, *, read_only: bool = False) -> None:
        self.warning = ""
        self._target, self._read_only = target, read_only
        self._table: TableFile | None = None
        self._whole: Session | None = None
        self._reason = self._open_table()
        self._path = Path(os.path.realpath(target.table)) if self._table else target.table
        for path in () if read_only else (self._path.parent, self._path):
            if os.path.exists(path) and not os.access(path, os.W_OK):
                raise LabelrError(f"{path} cannot be written", "show the labels with `--read-only`")
        self._status = _status(self._path)
        self._digest = self._table.digest if self._table else ""
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.changed: Callable[[], None] = lambda: None

    def _open_table(self) -> str:
        """Opens the label file if its cells can be replaced; else returns why not."""
        target = self._target
        if target.source is None or target.source.is_dir():
            return "" if target.source is None else f"{target.source.name} is a folder"
        try:
            self._table = TableFile(target)
        except NotInPlaceError as error:
            return f"{target.source.name} {error.message}"
        target.table = target.source
        return ""

    @property
    def writes(self) -> str:
        """A sentence that says where answers go."""
        table, reason = self._target.table, self._reason
        if self._read_only:
            return "Nothing is written: the page was opened to read only."
        if self._table is not None:
            unknown = "" if self._table.is_wide else ' It has no way to say "unknown": such labels are left out.'
            backup = self._backup()
            is_there = backup.exists() or not self._session.backup
            before = f" {backup.name} is the file as it was before." if is_there else ""
            return f"Answers are written into {table}.{before}{unknown}"
        if reason:
            return f"Answers are written to {table}, with all other labels: {reason}."
        return f"Answers are written to {table}, and nothing else: labels.csv is not changed."

    def start(self, session: Session) -> None:
        """Starts to write what is not written yet, and what will be answered."""
        self._session = session
        if self._table is not None:
            counts = session.reconcile(says_unknown=self._table.is_wide)
            if any(counts) and session.saved_digest != self._table.digest:
                self.warning = f"{self._path.name} was changed by another program{_describe_edit(*counts)}."
        elif session.is_partial or (session.saved_digest and session.saved_digest != files.digest(self._path)):
            session.saved_revision = 0  # the table lacks some answers, or was deleted or replaced: it is written again
        if not self._read_only:
            self._thread.start()
            self.notify()

    def notify(self) -> None:
        """Has answers written that were just given."""
        self._wake.set()

    def check_label(self, name: str) -> None:
        """Raises LabelrError if the label file cannot hold a new label of this name."""
        if name in self._target.labels:
            return
        if self._table is not None:
            self._table.check_label(name)
        else:
            labels = [*self._with_all_labels().target.labels, name]
            marks = (["a.jpg", *["1"] * len(labels)], ["b.jpg", *["0"] * len(labels)])
            check_reads(self._path, [["filename", *labels], *marks], labels, ReadOptions())

    def stop(self) -> None:
        """Writes what is not written yet, and ends."""
        if self._thread.is_alive():
            self._stop.set()
            self._wake.set()
            self._thread.join()
            self._try_to_save()

    def _run(self) -> None:
        delay = None
        while not self._stop.is_set():
            self._wake.wait(delay)
            self._stop.wait(DELAY_SECONDS)
            self._wake.clear()
            delay = None if self._try_to_save() else RETRY_SECONDS

    def _try_to_save(self) -> bool:
        """Whether all answers are written; if not, the journal still has them."""
        try:
            self.save()
        except Exception as error:  # noqa: BLE001 - mostly a full disk; a thread has nobody else to tell
            parts = (error.message, error.hint) if isinstance(error, LabelrError) else (repr(error),)
            reason = ": ".join(filter(None, parts))
            message = f"Not written yet: {reason}"
            if message != self.warning:
                log.warning("%s; the answers are in %s", reason, self._session.journal.path)
            self.warning = message
            return False
        if self.warning.startswith("Not written"):
            self.warning = ""
        return True

    def save(self) -> None:
        """Writes what is not written yet. Raises LabelrError if that is not possible."""
        session = self._session
        if not session.is_pending():
            return
        with locked_file(session.target.lock("table")):
            if not session.is_pending():  # another process may have written meanwhile
                return
            self._note_edit()
            with session.lock:
                revision, cells = session.revision, session.cells_to_write()
                names, labels = session.target.names, list(session.target.labels)
                changes = {(names[image], labels[label]): code for (label, image), code in cells.items()}
            digest, is_partial = (self._patch(changes, labels), False) if self._table else self._rewrite()
            self._status = _status(self._path)
            session.saved(revision, digest, changes, is_partial=is_partial)

    def _patch(self, changes: dict[tuple[str, str], int], labels: list[str]) -> str:
        """Replaces cells of the label file as it is now; returns its new digest."""
        table = self._table
        assert table is not None  # noqa: S101 - for mypy
        try:
            if table.digest != files.digest(self._path):
                table = TableFile(self._target)
            self._back_up()
            content = table.patched(changes, labels)
        except BaseException:
            table.digest = ""  # some cells may be replaced: it is read again
            raise
        files.write_atomically(self._path, content, like=self._path if self._path.exists() else None)
        self._table, self._digest = table, table.digest
        return table.digest

    def _backup(self) -> Path:
        """The copy of the label file as it was before the first answer; until it is made, under a name that is free."""
        path = self._path.with_name(f"{self._path.name}.bak")
        if self._session.backup:
            return path.with_name(self._session.backup)
        digest = files.digest(self._path)
        return next(
            each
            for each in chain([path], files.numbered(path))
            if not os.path.lexists(each) or files.digest(each) == digest
        )

    def _back_up(self) -> None:
        """Copies the label file, once for each journal: there may be a copy of another program, or of an old review."""
        if not self._session.backup:
            backup = self._backup()
            with files.writing(backup):
                if not os.path.lexists(backup):
                    shutil.copy2(self._path, backup)
            self._session.backed_up(backup.name)

    def _rewrite(self) -> tuple[str, bool]:
        """Writes the table of answers; returns its digest, and whether it lacks answers of earlier reviews."""
        session, target = self._session, self._target
        whole = self._with_all_labels()
        with whole.lock:
            content = serialization.csv_text(*_reviewed_rows(whole)).encode("utf-8", "surrogateescape")
            is_partial = any(step.skipped for step in whole.log)
        found = files.digest(self._path)
        if found and found != session.saved_digest:
            kept = files.set_aside(self._path)
            self.warning = f"{target.table.name} was changed by another program; that file is now called {kept.name}."
        files.write_atomically(self._path, content, like=self._path if self._path.exists() else None)
        return files.digest(self._path), is_partial

    def _with_all_labels(self) -> Session:
        """The session to write.

        With `--only` or `--exclude`, a second session over the same journal that has all labels, so that the file keeps
        the others. Not if they cannot be read, such as a column that is left out because of its cells.
        """
        target = self._target
        if not target.options.only and not target.options.exclude:
            return self._session
        if self._whole is None:
            options = replace(target.options, only=(), exclude=())
            with suppress(LabelrError):
                whole = read_data(target.data, options) if target.data else read_output(target.table.parent, options)
                whole.table = target.table
                self._whole = Session(whole, read_only=True)
            if self._whole is None or not set(target.labels) <= set(self._whole.target.labels):
                self._whole = self._session
        self._whole.refresh()
        return self._whole

    def _note_edit(self) -> None:
        """Warns if another program has changed the label file since it was read or written."""
        found = files.digest(self._path)
        if self._table is not None and found not in (self._digest, self._session.saved_digest):
            self._digest = found
            self._read_again()

    def check(self) -> None:
        """Notices if another program has changed the label file; cheap if it is as it was."""
        status = _status(self._path)
        if status == self._status or self._table is None:
            return
        self._status = status
        self._session.refresh()
        self._note_edit()

    def _read_again(self) -> None:
        """Takes over what another program has written into the label file."""
        session, target = self._session, self._target
        try:
            new = read_data(target.data or target.root, target.options)
        except LabelrError as error:
            self.warning = f"{target.table.name} was changed by another program, and cannot be read: {error.message}"
            return
        with session.lock:
            row_of = {name: row for row, name in enumerate(new.names)}
            if row_of.keys() != set(target.names) or not set(new.labels) <= set(target.labels):
                self.warning = (
                    f"{target.table.name} was changed by another program, and lists other images or labels now. Your "
                    "answers are kept; start `labelr review` again to see its changes."
                )
                return
            labels = [target.labels.index(label) for label in new.labels]
            target.given[labels] = new.given[:, [row_of[name] for name in target.names]]
            says_unknown = self._table is None or self._table.is_wide
            described = _describe_edit(*session.reconcile(says_unknown=says_unknown))
            self.warning = (
                f"{target.table.name} was changed by another program{described}. Reload the page to see its changes."
            )
        self.changed()


def _reviewed_rows(session: Session) -> tuple[list[str], Iterator[list[str]]]:
    """The header and the rows of a table of answers: of the output of `labelr tag`, those alone; else of all labels."""
    target, answers = session.target, session.answers
    codes = np.where(answers == NONE, NONE if target.data is None else target.given, answers)
    codes = np.where(codes == UNKNOWN, NONE, codes)
    blank = "" if (codes == NO).any() else "?"  # where no cell says no, an empty one would
    images = np.flatnonzero((answers != NONE).any(axis=0)) if target.data is None else np.arange(len(target.names))
    splits = target.splits if "split" not in target.labels else None
    header = ["filename", *(["split"] if splits else []), *target.labels]
    rows = (
        [
            serialization.escape_formula_in_path(target.names[image]),
            *([splits[image]] if splits else []),
            *(MARKS.get(code, blank) for code in codes[:, image].tolist()),
        ]
        for image in images.tolist()
    )
    return header, rows


def _describe_edit(num_again: int, num_dropped: int) -> str:
    """What became of the answers in a label file that another program has changed."""
    if not num_again and not num_dropped:
        return "; your answers are kept"
    parts = [f"; {pluralize(num_again, 'answer')} that it no longer holds: kept"] if num_again else []
    parts += [f"; {pluralize(num_dropped, 'answer')} whose cells it edited: no longer counted"] if num_dropped else []
    return "".join(parts)


def _status(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; None if there is none."""
    with suppress(OSError):
        return files.state_of(path)
    return None
