"""The queues of a review: which images a person sees, in which order, and which cells of each are in question."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelr.review.session import NAMES, Rows, Session
from labelr.review.targets import NO, NONE, YES
from labelr.scoring.metrics import find_suspects

MAX_CELLS = 12
"""Cells of an image that a list shows, at most."""
MAX_FOLDERS = 500
MAX_LISTS = 32
"""Lists that are kept in memory."""
MAX_AT_ONCE = 2_000_000
"""Of more cells, it is not said how many are in a queue before that is opened."""
TITLES = {
    "sweep": "One label at a time",
    "uncertain": "Uncertain first",
    "suspects": "Suspected label errors",
    "duplicates": "Near-duplicates with different labels",
    "unreviewed": "Not yet reviewed",
    "all": "All images",
}


class Filter(NamedTuple):
    """Which images of a queue are listed: all, or those below a folder whose names contain a text."""

    folder: str = ""
    text: str = ""


class Item(NamedTuple):
    """An image in a list, the cells in question, by number, and why it is in the list."""

    image: int
    labels: list[int]
    reason: str = ""


class Queues:
    """The lists of images of a session.

    Attributes:
        session: The answers.
        duplicates: Groups of near-duplicates, once they are known.
    """

    def __init__(self, session: Session) -> None:
        self.session, self.target = session, session.target
        self.duplicates: list[list[int]] | None = None
        self._cached: dict[tuple[Any, ...], Any] = {}
        self.folders = self._find_folders()

    def forget(self) -> None:
        """Has all lists made again, as after new probabilities."""
        self._cached.clear()

    def describe(self, queue: str) -> dict[str, Any]:
        """What the page needs to know of a queue."""
        is_slow = queue in ("uncertain", "suspects") and self.session.answers.size > MAX_AT_ONCE
        is_known = any(key[0] == queue for key in self._cached) or not (is_slow or queue == "duplicates")
        count = len(self.order(queue, 0 if queue == "sweep" else None, Filter())) if is_known else None
        return {
            "id": queue, "title": TITLES[queue], "count": count, "per_label": queue == "sweep",
            "asks": queue in ("suspects", "uncertain", "duplicates"), "shrinks": queue == "unreviewed",
        }  # fmt: skip

    def order(self, queue: str, label: int | None, chosen: Filter) -> Rows:
        """The images of a queue that pass a filter, in order.

        With a label, those of which it is in question, or to which it applies where no cells are in question.
        """
        with self.session.lock:
            images = self._unfiltered(queue, label)
            if label is not None and queue in ("suspects", "duplicates"):
                items = self._items_by_image(queue)
                images = images[[label in items[image].labels for image in images.tolist()]]
            elif label is not None and queue in ("all", "unreviewed"):
                images = images[self.session.visible(label)[images] == YES]
            if not chosen.folder and not chosen.text:
                return images
            return images[self._passing(chosen)[images]]

    def items(self, queue: str, label: int | None, images: Rows) -> list[dict[str, Any]]:
        """What the page shows of some images of a queue."""
        with self.session.lock:
            if queue == "sweep" and label is not None:
                values = self.session.visible(label)
                return [
                    {"image": image, "name": self.target.names[image], **self.cell(label, image)}
                    | {"value": {YES: True, NO: False}.get(int(values[image]))}
                    for image in images.tolist()
                ]
            return [self._item(queue, label, image) for image in images.tolist()]

    def threshold_at(self, label: int, images: Rows) -> int | None:
        """The position of the first image below the threshold of a label in a sweep; None without a threshold."""
        if self.session.blind or self.target.probs is None or np.isnan(self.target.thresholds[label]):
            return None
        return int(np.count_nonzero(self._ranks(label)[images] >= self.target.thresholds[label]))

    def next_open(self, queue: str, label: int | None, images: Rows, start: int) -> int | None:
        """The position, from `start`, of the first image of a list of which a cell in question has no answer."""
        with self.session.lock:
            answers = self.session.answers
            if label is not None:
                is_open = answers[label, images] == NONE
            elif queue in ("all", "unreviewed"):
                is_open = (answers[:, images] == NONE).any(axis=0)
            else:
                for position in range(start, len(images)):
                    image = int(images[position])
                    if (answers[self._item_to_show(queue, None, image).labels, image] == NONE).any():
                        return position
                return None
        found = np.flatnonzero(is_open[start:])
        return start + int(found[0]) if len(found) else None

    def _unfiltered(self, queue: str, label: int | None) -> Rows:
        session, count = self.session, len(self.target.names)
        if queue == "unreviewed":
            return np.flatnonzero((session.answers == NONE).all(axis=0))
        key = (queue, label if queue in ("sweep", "uncertain") else None)
        if key not in self._cached:
            if queue == "uncertain" and not session.blind:
                found = self._uncertain(label)
            elif queue == "sweep" and label is not None and not session.blind:  # from the most to the least probable
                found = np.argsort(-self._ranks(label), kind="stable")
            elif queue in ("suspects", "duplicates"):
                found = np.array(list(self._items_by_image(queue)), np.int64)
            else:
                found = np.arange(count)
            if queue == "duplicates" and self.duplicates is None:
                return found
            if len(self._cached) >= MAX_LISTS:  # of 100,000 images, each takes 0.8 MB
                self._cached.pop(next(iter(self._cached)))
            self._cached[key] = found
        return self._cached[key]  # type: ignore[no-any-return]

    def _ranks(self, label: int) -> NDArray[np.float64]:
        """The probability of a label for each image; where there is none, what is given counts as one."""
        target = self.target
        ranks = np.select([target.given[label] == YES, target.given[label] == NO], [1.0, 0.0], 0.5)
        return ranks if target.probs is None else np.where(np.isnan(target.probs[label]), ranks, target.probs[label])

    def _uncertain(self, label: int | None) -> Rows:
        """The images of a table in its order; else from the nearest to the farthest from a threshold."""
        target = self.target
        if target.uncertain is not None:
            return np.array(target.uncertain, np.int64)
        nearest = np.full(len(target.names), np.inf)
        for each in range(len(target.labels)) if label is None else [label]:
            if target.probs is not None and not np.isnan(target.thresholds[each]):
                nearest = np.fmin(nearest, self._distance(each, slice(None)))
        order: Rows = np.argsort(nearest, kind="stable")
        certain: Rows = order[np.isfinite(nearest[order])]
        return certain

    def _distance(self, labels: Any, images: Any) -> NDArray[np.float64]:
        """How far the log-odds of a label, or of all for an image, are from those of the threshold."""
        assert self.target.probs is not None  # noqa: S101 - for mypy
        return np.abs(_log_odds(self.target.probs[labels, images]) - _log_odds(self.target.thresholds[labels]))

    def _item(self, queue: str, label: int | None, image: int) -> dict[str, Any]:
        item = self._item_to_show(queue, label, image)
        cells = [[each, *self.cell(each, image).values()] for each in item.labels[:MAX_CELLS]]
        reason = "" if queue == "suspects" and self._is_hidden(item.labels[0], image) else item.reason
        return {"image": image, "name": self.target.names[image], "cells": cells, "reason": reason}

    def _item_to_show(self, queue: str, label: int | None, image: int) -> Item:
        """The cells of an image that a queue is about; else those of the labels that apply."""
        if queue in ("suspects", "duplicates"):
            return self._items_by_image(queue)[image]
        if queue == "uncertain" and self.target.probs is not None and not self.session.blind:
            distances = self._distance(slice(None), image)
            near = np.argsort(distances)[: min(3, np.count_nonzero(~np.isnan(distances)))]  # NaN is last
            return Item(image, near.tolist() if label is None else [label])
        return Item(image, np.flatnonzero(self.session.visible(slice(None), image) == YES).tolist())

    def _items_by_image(self, queue: str) -> dict[int, Item]:
        """The images of the suspects or of the near-duplicates, with the labels in question, the worst first."""
        key = (f"items of {queue}",)
        if key not in self._cached:
            if queue == "duplicates" and self.duplicates is None:
                return {}
            found = self._find_suspects() if queue == "suspects" else self._find_different()
            self._cached[key] = found
        return self._cached[key]  # type: ignore[no-any-return]

    def _find_suspects(self) -> dict[int, Item]:
        target, found = self.target, dict[int, Item]()
        for image, label in target.suspects if target.suspects is not None else self._suspected():
            if not found.setdefault(image, Item(image, [])).labels:
                says = "yes" if target.given[label, image] == YES else "no"
                reason = f"{target.labels[label]}: given {says}"
                if target.probs is not None and not np.isnan(target.probs[label, image]):
                    reason += f", probability {target.probs[label, image]:.2f}"
                found[image] = Item(image, [], reason)
            found[image].labels.append(label)
        return found

    def _suspected(self) -> Iterator[tuple[int, int]]:
        """The cells whose given label the probabilities contradict, the least plausible first."""
        if self.target.probs is None:
            return
        cells: list[tuple[float, int, int]] = []
        for label in range(len(self.target.labels)):  # one at a time, for the memory
            probs, given = self.target.probs[label], self.target.given[label]
            known = np.flatnonzero((given != NONE) & ~np.isnan(probs))
            rows = known[find_suspects(probs[known, None], given[known, None].astype(np.float32)).rows]
            confidence = np.where(given[rows] == YES, probs[rows], 1 - probs[rows])
            cells += zip(confidence.tolist(), rows.tolist(), [label] * len(rows), strict=True)
        yield from ((image, label) for _, image, label in sorted(cells))

    def _find_different(self) -> dict[int, Item]:
        """The images of groups of near-duplicates that differ in a label, group by group."""
        found = {}
        for group in self.duplicates or ():
            values = np.stack([self.session.values(slice(None), image) for image in group])
            differ = ((values == YES).any(axis=0) & (values == NO).any(axis=0)).nonzero()[0].tolist()
            for image in group if differ else ():
                others = [self.target.names[other] for other in group if other != image]
                more = f" and {len(others) - 1} more" if len(others) > 1 else ""
                found[image] = Item(image, differ, f"looks like {others[0]}{more}")
        return found

    def cell(self, label: int, image: int) -> dict[str, Any]:
        """What is known of a cell, ready for JSON: ``prob``, ``given``, ``answer`` and ``predicted``."""
        target, is_hidden = self.target, self._is_hidden(label, image)
        prob = np.nan if is_hidden or target.probs is None else float(target.probs[label, image])
        given = NONE if is_hidden else int(target.given[label, image])
        predicted = NONE if is_hidden or target.predicted is None else int(target.predicted[label, image])
        return {
            "prob": None if np.isnan(prob) else prob,
            "given": None if given == NONE else given,
            "answer": NAMES[int(self.session.answers[label, image])],
            "predicted": None if predicted == NONE else predicted,
        }

    def _is_hidden(self, label: int, image: int) -> bool:
        """Whether a blind review hides what is given and predicted of a cell."""
        return self.session.blind and self.session.answers[label, image] == NONE

    def _passing(self, chosen: Filter) -> NDArray[np.bool_]:
        """Which images pass a filter, shape ``(N,)``."""
        key = ("filter", *chosen)
        if key not in self._cached:
            for other in [other for other in self._cached if other[0] == "filter"]:
                del self._cached[other]
            prefix, text = f"{chosen.folder}/" if chosen.folder else "", chosen.text.casefold()
            names = self.target.names
            passing = (name.startswith(prefix) and text in name.casefold() for name in names)
            self._cached[key] = np.fromiter(passing, np.bool_, len(names))
        return self._cached[key]  # type: ignore[no-any-return]

    def _find_folders(self) -> list[str]:
        """The folders of images, the ones with the most first if there are too many, sorted."""
        own = Counter(os.path.dirname(name) for name in self.target.names)  # noqa: PTH120 - of relative names
        found = Counter[str]()
        for folder, count in own.items():
            while folder:
                found[folder] += count
                folder = folder.rpartition("/")[0]  # noqa: PLW2901
        return sorted(folder for folder, _ in found.most_common(MAX_FOLDERS))


def _log_odds(probs: Any) -> NDArray[np.float64]:
    clipped = np.clip(np.asarray(probs, np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
