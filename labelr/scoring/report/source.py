"""What a page is made from."""

import csv
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from labelr.model import shelf
from labelr.model.predict import Model
from labelr.scoring.evaluation import Evaluation
from labelr.scoring.report.charts import History
from labelr.scoring.suspects import Suspects, find_suspects


@dataclass(frozen=True)
class Source:
    """What a page is made from.

    Attributes:
        model: The model.
        evaluation: Of N images: their probabilities, their labels and where they lie.
        scored: Which images these are, as a sentence part: ``of the test part, which ...``.
        doubted: The images among whose labels suspects were sought, which may be more.
        whence: Which images those are, as a sentence part.
        numbers: The report in ``metrics.json``, which with folds holds means; None where it is that of `evaluation`.
        own: Whether the page is of the training itself, whose history it shows, or of a later evaluation.
        learned_from: Whether the model has learned from some of the N images.
    """

    model: Model
    evaluation: Evaluation
    scored: str
    doubted: Evaluation
    whence: str
    numbers: dict[str, Any] | None = None
    own: bool = True
    learned_from: bool = False

    @cached_property
    def report(self) -> dict[str, Any]:
        """The numbers as they stand in ``metrics.json``."""
        return self.evaluation.to_json() if self.numbers is None else self.numbers

    @cached_property
    def suspects(self) -> Suspects:
        """The given labels of the doubted images that the model contradicts."""
        return find_suspects(self.doubted.probs, self.doubted.targets)


def read_history(folder: Path) -> History:
    """The columns of a model's ``history.csv``; none where it has none, or it is damaged: then there is no chart."""
    try:
        with (folder / shelf.HISTORY_FILE).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else ())}
    except (OSError, ValueError, TypeError, csv.Error):
        return {}


def last(history: History, column: str) -> float:
    """The last value of a column that is a number; NaN where there is none."""
    finite = [value for value in history.get(column, ()) if math.isfinite(value)]
    return finite[-1] if finite else math.nan
