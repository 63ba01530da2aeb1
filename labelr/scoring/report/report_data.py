"""What a report is made from."""

import csv
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from labelr.model import store
from labelr.model.predict import Model
from labelr.scoring.report.charts import History
from labelr.scoring.results import Evaluation
from labelr.scoring.suspects import Suspects, find_suspects


@dataclass(frozen=True)
class ReportData:
    """What a report is made from.

    Attributes:
        model: The evaluated model.
        evaluation: Its evaluation on N images.
        images: Which images these are, as a phrase such as ``of the test split, which ...``.
        checked: The evaluation on the images whose labels are checked for errors, which may be more.
        checked_images: Which images these are, as a phrase.
        saved_result: The content of ``metrics.json`` where it is not that of `evaluation`: with folds it holds means.
        seen_in_training: Whether the model was trained on some of the N images, or its thresholds were.
    """

    model: Model
    evaluation: Evaluation
    images: str
    checked: Evaluation
    checked_images: str
    saved_result: dict[str, Any] | None = None
    seen_in_training: bool = False

    @cached_property
    def result(self) -> dict[str, Any]:
        """The content of ``metrics.json``."""
        return self.evaluation.to_json() if self.saved_result is None else self.saved_result

    @cached_property
    def suspects(self) -> Suspects:
        """The suspected label errors among the checked images."""
        return find_suspects(self.checked.probs, self.checked.targets)

    @cached_property
    def history(self) -> History:
        """The columns of the model's ``history.csv``; empty where the file is missing or damaged."""
        try:
            with (self.model.path / store.HISTORY_FILE).open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else ())}
        except (OSError, ValueError, TypeError, csv.Error):
            return {}


def last_value(history: History, column: str) -> float:
    """The last finite value of a column; NaN where there is none."""
    finite = [value for value in history.get(column, ()) if math.isfinite(value)]
    return finite[-1] if finite else math.nan
