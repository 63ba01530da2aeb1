"""What a search has found: the trials in order, what matters, and the best settings in the forms that people use."""

import dataclasses
import math
import shlex
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelr import files
from labelr.config import TrainConfig, TuneOptions
from labelr.scoring.results import without_nan
from labelr.tuning.space import Space, said
from labelr.tuning.trials import Trial

TRIALS_FILE = "trials.csv"


@dataclass(frozen=True)
class Flattery:
    """How far validation images, on which everything was chosen, flatter the best settings.

    Attributes:
        val: The score of the model trained again on the validation part.
        test: Its score on the test part.
    """

    val: float
    test: float

    def __str__(self) -> str:
        return f"{self.val:.4f} on validation images, {self.test:.4f} on test images: {self.val - self.test:+.4f}"


@dataclass(frozen=True)
class Outcome:
    """A search that is over, or as far as it is.

    Attributes:
        study: Its name.
        folder: Its directory.
        data: The data folders as given; none where images were drawn.
        given: The settings that all trials had.
        space: Those that were searched.
        options: How.
        sampler: ``"grid"``, ``"random"`` or ``"tpe"``.
        trials: From the best on.
        importance: The share of each setting in the differences of the scores, in [0, 1] and 1 in all, the largest
            first; empty where too few trials are complete.
        model: What `FitResult.to_json` says of the best settings' model; None where they were not trained again.
        flattery: Of that model; None without one, or without a test part.
    """

    study: str
    folder: Path
    data: tuple[str, ...]
    given: TrainConfig
    space: Space
    options: TuneOptions
    sampler: str
    trials: tuple[Trial, ...]
    importance: Mapping[str, float]
    model: Mapping[str, Any] | None = None
    flattery: Flattery | None = None

    @property
    def best(self) -> Trial:
        """The best complete trial."""
        return self.trials[0]

    @property
    def best_config(self) -> TrainConfig:
        """The settings of the best trial, "auto" where it had that."""
        return dataclasses.replace(self.given, **self.best.settings)

    @property
    def command(self) -> str:
        """The command that trains a model with the best settings."""
        return fit_command(self.data, self.best_config)

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for JSON: the model's object, and what the search has found."""
        found = {
            "study": self.study, "study_path": str(self.folder), "metric": self.options.metric, "sampler": self.sampler,
            "space": self.space.to_dict(), "best_trial": self.best.number, "best_settings": dict(self.best.settings),
            "score": self.best.score, "command": self.command, "importance": dict(self.importance),
            "flattery": dataclasses.asdict(self.flattery) if self.flattery else None,
            "trials": [trial_json(trial) for trial in self.trials],
        }  # fmt: skip
        return {
            "model": None,
            "name": None,
            **(self.model or {"settings": self.best_config.to_dict()}),
            **without_nan(found),
        }


def trial_json(trial: Trial) -> dict[str, Any]:
    """A trial, ready for JSON."""
    return {
        "number": trial.number, "settings": dict(trial.settings), "score": trial.score, "spread": trial.spread,
        "scores": list(trial.scores), "epochs": trial.epochs, "seconds": trial.seconds, "state": trial.state,
        "reason": trial.reason,
    }  # fmt: skip


def trial_rows(
    trials: Iterable[Trial], names: Iterable[str], write: Callable[[Any], str] = said
) -> list[dict[str, Any]]:
    """The trials as rows of a table; NaN where there is no score.

    Args:
        trials: In order.
        names: The settings that are searched.
        write: Makes a text of a setting's value.
    """
    rows, searched = [], list(names)
    for rank, trial in enumerate(trials, start=1):
        settings = {name: write(trial.settings[name]) if name in trial.settings else "" for name in searched}
        row = {"rank": rank if trial.state == "complete" else None, "trial": trial.number, **settings}
        rows.append({
            **row, "score": trial.score, "spread": trial.spread, "epochs_trained": trial.epochs,
            "seconds": round(trial.seconds, 1), "state": trial.state, "reason": trial.reason,
        })  # fmt: skip
    return rows


def trials_csv(outcome: Outcome) -> str:
    """The content of ``trials.csv``."""
    rows = trial_rows(outcome.trials, outcome.space.dimensions)
    cells = ([_cell(value) for value in row.values()] for row in rows)
    return files.csv_text(rows[0] if rows else (), cells)


def _cell(value: object) -> object:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return files.escape_formula(value) if isinstance(value, str) else value


def fit_command(data: Sequence[str], config: TrainConfig) -> str:
    """The command line of `labelr fit` for some settings: only what is not usual stands in it."""
    words = ["labelr", "fit", *(f"./{folder}" if folder.startswith("-") else folder for folder in data)]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        flag = field.name.replace("_", "-")
        if field.name == "synthetic":
            words += [] if data else ["--synthetic", str(value)]
        elif value == field.default:
            continue
        elif isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            for one in value if isinstance(value, tuple) else (value,):
                words += [f"--{flag}", said(one)]
    return shlex.join(words)


def seconds_left(trials: Sequence[Trial], num_points: int | None, jobs: int) -> float | None:
    """How long the rest of a search will take, as long as its trials have taken so far; None if nobody can tell."""
    over = [trial for trial in trials if trial.is_over and trial.seconds]
    if not over or num_points is None:
        return None
    mean = statistics.fmean(trial.seconds for trial in over)
    running = sum(trial.seconds for trial in trials if trial.state == "running")
    left = num_points - sum(trial.is_over for trial in trials)
    return max(0.0, mean * left - running) / max(1, min(jobs, left))
