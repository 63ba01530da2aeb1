"""The state of a review: what is given, predicted and answered, in arrays; undo and redo."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.errors import LabelrError
from labelr.model.calibration import decide
from labelr.review.journal import FORMAT, AnswerLog, Entry, locked_file
from labelr.review.targets import NO, NONE, UNKNOWN, YES, Codes, Target, is_wanted

ANSWERS = {"yes": YES, "no": NO, "unknown": UNKNOWN, None: NONE}
"""The codes of answers as the page and the journal write them."""
NAMES = {code: name for name, code in ANSWERS.items()}
Rows = NDArray[np.int64]


class Cell(NamedTuple):
    """An answer to whether a label applies to an image; both by number."""

    label: int
    image: int
    answer: int


class Step(NamedTuple):
    """A change that is undone at once: M cells with their answers before and after, each of shape ``(M,)``.

    Others, of images or labels that this review leaves out, are `skipped`: by the names of image and label.
    """

    labels: Rows
    images: Rows
    before: Codes
    after: Codes
    skipped: frozenset[tuple[str, str]] = frozenset()

    def cells(self) -> Iterator[tuple[int, int]]:
        """The label and the image of each cell."""
        return zip(self.labels.tolist(), self.images.tolist(), strict=True)


class ConflictError(LabelrError):
    """A request that does not fit the state of the review."""


class Session:
    """What people have answered about a target, shared with other processes through its journal.

    All methods may be called from several threads.

    Attributes:
        target: What is reviewed.
        answers: YES, NO, UNKNOWN or NONE of each cell, shape ``(L, N)``.
        when: When each cell was answered, in seconds since 1970; 0 for never; shape ``(L, N)``.
        read_only: Whether answers are refused.
        blind: Whether what is given and predicted is hidden where there is no answer.
        lock: Held while the state is read or changed.
    """

    def __init__(self, target: Target, *, read_only: bool = False, blind: bool = False) -> None:
        self.target, self.read_only, self.blind = target, read_only, blind
        self.lock = RLock()
        self.journal = AnswerLog(target.journal)
        self.answers = np.full_like(target.given, NONE)
        self.when = np.zeros(target.given.shape, np.uint32)
        self.done: list[Step] = []
        self.undone: list[Step] = []
        self.log: list[Step] = []
        self.saved_revision = 0
        """The revision up to which the label file holds the answers."""
        self.saved_digest = ""
        """The SHA-256 that the label file had then."""
        self.is_partial = False
        """Whether it was written as a whole then, without some answers."""
        self.backup = ""
        """The name of the copy of the label file as it was before the first answer; empty before there is one."""
        self.has_entries = False
        self._unwritten: set[tuple[str, str]] = set()
        """Cells, by image and label, whose answers the label file lacks although `saved_revision` says otherwise."""
        self._originals: dict[tuple[int, int], int] = {}
        self._counts: dict[int, dict[str, int]] = {}
        self._learnable: dict[int, bool] = {}
        self._image_of = {name: number for number, name in enumerate(target.names)}
        self.refresh()

    @property
    def revision(self) -> int:
        """The number of changes so far."""
        return len(self.log)

    def refresh(self) -> None:
        """Applies what other processes have answered."""
        with self.lock, files.reading(self.journal.path, f"move {self.journal.path} away to start over"):
            for entry in self.journal.read():
                self._apply(entry)

    def write(self, entry: Entry) -> None:
        """Writes an entry to the journal, and applies it; inside of its lock."""
        if not self.has_entries:
            source = self.target.source and os.path.relpath(self.target.source, self.target.table.parent)
            self.journal.append({"format": FORMAT, "source": source or ""})
            self.has_entries = True
        self.journal.append(entry)
        self._apply(entry)

    def _apply(self, entry: Entry) -> None:
        self.has_entries = True
        at = int(datetime.fromisoformat(entry["at"]).timestamp()) if "at" in entry else 0
        if "answers" in entry:
            self._do(self._step(entry["answers"]), at)
            self.undone.clear()
        elif "undo" in entry and self.done:
            step = self.done.pop()
            self.undone.append(step)
            self._change(step._replace(before=step.after, after=step.before), at)
        elif "redo" in entry and self.undone:
            self._do(self.undone.pop(), at)
        elif "label" in entry and is_wanted(entry["label"], self.target.options):
            self._add_label(entry["label"])
        elif "backup" in entry:
            self.backup = str(entry["backup"])
        elif "saved" in entry:
            self.saved_revision, self.saved_digest = int(entry["revision"]), str(entry["saved"])
            self.is_partial = bool(entry.get("partial"))
            self._unwritten = {(image, label) for image, label in entry.get("left", ())}
            self._unwritten.update(*(step.skipped for step in self.log[self.saved_revision :]))

    def _do(self, step: Step, at: int) -> None:
        self.done.append(step)
        self._change(step, at)

    def _change(self, step: Step, at: int) -> None:
        self.answers[step.labels, step.images] = step.after
        self.when[step.labels, step.images] = at
        self.log.append(step)
        self._unwritten |= step.skipped
        for label in np.unique(step.labels).tolist():
            self._counts.pop(label, None)
            self._learnable.pop(label, None)

    def _step(self, cells: Iterable[Sequence[Any]]) -> Step:
        """The step of some cells of an entry: image, label and answer by name. Others are skipped."""
        images, label_of = self._image_of, self.label_of()
        known, skipped = [], set()
        for name, label, answer, given in cells:
            if label not in label_of and is_wanted(label, self.target.options):
                label_of[label] = self._add_label(label)
            if name in images and label in label_of:
                cell = label_of[label], images[name]
                known.append((*cell, ANSWERS[answer]))
                if self.answers[cell] == NONE:
                    self._originals[cell] = NONE if given is None else int(given)
            else:
                skipped.add((name, label))
        labels, numbers, after = np.array(known, np.int64).reshape(-1, 3).T
        return Step(labels, numbers, self.answers[labels, numbers], after.astype(np.int8), frozenset(skipped))

    def label_of(self) -> dict[str, int]:
        """The number of each label by its name."""
        return {label: number for number, label in enumerate(self.target.labels)}

    def _add_label(self, name: str) -> int:
        """Adds a label of which nothing is known, unless there is one of this name; returns its number."""
        target = self.target
        if name in target.labels:
            return target.labels.index(name)
        target.labels.append(name)
        blank = np.full((1, len(target.names)), NONE, np.int8)
        target.given = np.concatenate([target.given, blank])
        self.answers = np.concatenate([self.answers, blank])
        self.when = np.concatenate([self.when, np.zeros_like(blank, np.uint32)])
        target.thresholds = np.append(target.thresholds, np.nan)
        if target.probs is not None:
            target.probs = np.concatenate([target.probs, np.full_like(blank, np.nan, np.float32)])
        if target.predicted is not None:
            target.predicted = np.concatenate([target.predicted, blank])
        return len(target.labels) - 1

    def answer(self, cells: Sequence[Cell]) -> list[Cell]:
        """Keeps answers as one step, on disk when this returns; those that change nothing are left out.

        Returns:
            The cells that changed.
        """
        with self.writing():
            last = {(cell.label, cell.image): cell for cell in cells}
            changed = [cell for cell in last.values() if self.answers[cell.label, cell.image] != cell.answer]
            if changed:
                names, labels = self.target.names, self.target.labels
                given = (int(self.target.given[cell.label, cell.image]) for cell in changed)
                rows = [
                    [names[cell.image], labels[cell.label], NAMES[cell.answer], None if code == NONE else code]
                    for cell, code in zip(changed, given, strict=True)
                ]
                self.write({"answers": rows, "at": _now()})
            return changed

    def undo(self, *, again: bool = False) -> list[Cell]:
        """Takes back the last step, or with `again` does it once more; returns the cells that changed."""
        with self.writing():
            if not (self.undone if again else self.done):
                raise ConflictError(f"there is nothing to {'redo' if again else 'undo'}")
            self.write({"redo" if again else "undo": True, "at": _now()})
            return self.changes(self.revision - 1)

    def add_label(self, name: str) -> int:
        """Adds a label; returns its number. Raises LabelrError if there is one of this name, or it is no name."""
        name = name.strip()
        if not name or not name.isprintable() or len(name) > 200:
            raise LabelrError(f"a label cannot be called {name[:200]!r}", "give it a name of 1 to 200 characters")
        with self.writing():
            if name in self.target.labels or not is_wanted(name, self.target.options):
                raise LabelrError(f"there is a label {name!r} already, or it is left out", "choose it in the list")
            self.write({"label": name, "at": _now()})
            return self.target.labels.index(name)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the locks of the session and of its journal, with what other processes have written applied."""
        if self.read_only:
            raise ConflictError("this page was opened to read only", "start `labelr review` without `--read-only`")
        with self.lock, locked_file(self.target.lock("journal")):
            self.refresh()
            yield

    def is_pending(self) -> bool:
        """Whether the label file lacks answers, of any process, that can be written into it."""
        with self.lock:
            self.refresh()
            return self.saved_revision != self.revision or bool(self._unwritten_here())

    def saved(
        self, revision: int, digest: str, written: Iterable[tuple[str, str]], *, is_partial: bool = False
    ) -> None:
        """Notes that the label file, of a SHA-256, has the answers up to a revision, and the cells `written` now.

        It `is_partial` if it was written as a whole, without answers that this review leaves out.
        """
        with self.writing():
            left = sorted(self._unwritten.difference(written))
            more = ({"left": left} if left else {}) | ({"partial": True} if is_partial else {})
            self.write({"saved": digest, "revision": revision, **more})

    def backed_up(self, name: str) -> None:
        """Notes that there is a copy of the label file as it was before the first answer."""
        with self.writing():
            self.write({"backup": name})

    def cells_to_write(self) -> dict[tuple[int, int], int]:
        """What cells, by label and image, must say in the label file and do not yet: YES, NO, or NONE for unknown."""
        keys = {(cell.label, cell.image) for cell in self.changes(self.saved_revision)} | self._unwritten_here()
        return {key: self.file_value(Cell(*key, int(self.answers[key]))) for key in sorted(keys)}

    def _unwritten_here(self) -> set[tuple[int, int]]:
        """The cells of `_unwritten` by the numbers of label and image, without those that this review leaves out."""
        images, label_of = self._image_of, self.label_of()
        return {
            (label_of[label], images[name]) for name, label in self._unwritten if name in images and label in label_of
        }

    def file_value(self, cell: Cell) -> int:
        """What the label file must say of a cell: the answer, else what it said before there was one."""
        if cell.answer == NONE:
            return int(self.target.given[cell.label, cell.image])
        return NONE if cell.answer == UNKNOWN else cell.answer

    def reconcile(self, *, says_unknown: bool) -> tuple[int, int]:
        """Tells what was given from what earlier answers have written into the label file that was just read.

        A cell that says again what it said before its answer is of an old copy: the answer is written again.
        One that says something else than that and the answer was edited by another program: that counts as given, and
        the answer no longer counts, unless it was changed later and is still to be saved.

        Args:
            says_unknown: Whether the label file can say that a cell is unknown; else it says no.

        Returns:
            The numbers of answers to be written again, and of those that no longer count.
        """
        left, num_again, num_dropped = self._unwritten_here(), 0, 0
        saved: dict[tuple[int, int], int] = {}
        for step in reversed(self.log[self.saved_revision :]):
            saved |= zip(step.cells(), step.before.tolist(), strict=True)
        for cell in self.changes(0):
            key, found = (cell.label, cell.image), int(self.target.given[cell.label, cell.image])
            before = saved.get(key, cell.answer)
            original = self._originals.get(key, found)
            self.target.given[key] = original
            expected = [self.file_value(cell._replace(answer=answer)) for answer in (before, cell.answer)]
            if key in left or found in expected or (not says_unknown and found == NO and NONE in expected):
                continue
            if found == original:
                self._unwritten.add((self.target.names[cell.image], self.target.labels[cell.label]))
                num_again += 1
                continue
            self.target.given[key] = found
            if before == cell.answer:
                self.answers[key] = NONE
                num_dropped += 1
        self.forget_counts()
        return num_again, num_dropped

    def changes(self, since: int) -> list[Cell]:
        """The cells that changed since a revision, with their present answers."""
        steps = self.log[max(0, since) :]
        cells = {cell for step in steps for cell in step.cells()}
        return [Cell(label, image, int(self.answers[label, image])) for label, image in sorted(cells)]

    def values(self, labels: Any, images: Any = slice(None)) -> Codes:
        """What holds now: the answer, else what is given, else what is predicted; UNKNOWN, or NONE.

        Of a label for all images, shape ``(N,)``, or of all labels, as a slice, for an image, shape ``(L,)``.
        """
        target, answers = self.target, self.answers[labels, images]
        values = target.given[labels, images]
        if target.predicted is not None:
            values = np.where(values == NONE, target.predicted[labels, images], values)
        held: Codes = np.where(answers == NONE, values, answers)
        return held

    def visible(self, labels: Any, images: Any = slice(None)) -> Codes:
        """What the page shows of cells, as `values`; in a blind review only answers."""
        return self.answers[labels, images] if self.blind else self.values(labels, images)

    def predict(self, predictions: Mapping[int, tuple[NDArray[np.float32], float]]) -> None:
        """Takes over what a model predicts.

        Args:
            predictions: The probabilities of a label for all images, shape ``(N,)``, and its threshold, by the label's
                number; the other labels stay as they are.
        """
        target = self.target
        with self.lock:
            if target.probs is None:
                target.probs = np.full(target.given.shape, np.nan, np.float32)
            if target.predicted is None:
                target.predicted = np.full_like(target.given, NONE)
            for label, (probs, threshold) in predictions.items():
                target.probs[label], target.thresholds[label] = probs, threshold
                target.predicted[label] = np.where(np.isnan(probs), NONE, decide(probs, threshold))
            self.forget_counts()

    def counts(self, label: int) -> dict[str, int]:
        """Numbers of images of a label: ``yes``, ``no``, ``unknown``, and ``reviewed`` by a person."""
        if label not in self._counts:
            values = self.visible(label)
            yes, no = (int(np.count_nonzero(values == code)) for code in (YES, NO))
            reviewed = int(np.count_nonzero(self.answers[label] != NONE))
            self._counts[label] = {"yes": yes, "no": no, "unknown": len(values) - yes - no, "reviewed": reviewed}
        return self._counts[label]

    def is_learnable(self, label: int) -> bool:
        """Whether a label has a yes and a no: answers, or in a labelled data set what is given without an answer."""
        if label not in self._learnable:
            answers, given = self.answers[label], self.target.given[label]
            said = answers if self.target.data is None else np.where(answers == NONE, given, answers)
            self._learnable[label] = bool((said == YES).any() and (said == NO).any())
        return self._learnable[label]

    def forget_counts(self) -> None:
        """Has the numbers of all labels counted again, as after new probabilities."""
        self._counts.clear()
        self._learnable.clear()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
