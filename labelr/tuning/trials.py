"""The results of a search: the trial of each point as read from the study, their ranking and tables, the best one.

- Point: one combination of settings, listed or chosen by the sampler; points have numbers.
- Attempt: one try at a point, a trial of Optuna. If it is interrupted, the point gets another one.
- Trial: a point and its outcome, as users see it.
"""

import dataclasses
import logging
import math
import shlex
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import optuna
from msgspec import Meta
from optuna.trial import FrozenTrial, TrialState

from labelr import serialization
from labelr.config import SEARCHABLE, TrainConfig
from labelr.errors import pluralize
from labelr.frames import as_html, format_number
from labelr.model.info import Count, Setting
from labelr.progress import format_duration
from labelr.tuning.space import Plan, format_rounded, format_value

if TYPE_CHECKING:
    import pandas as pd

TRIALS_FILE = "trials.csv"
MAX_DEATHS = 3
"""A point is given up after this many attempts whose process died without progress over the previous attempt."""
POINT, WORKER, REASON, REQUEUED = "point", "worker", "reason", "requeued"
"""Attributes of an attempt: number of its point, worker, why it failed, whether its point was returned to the queue."""
PROGRESS = "progress"
"""Attribute of an attempt: ``"scores"`` of the seeds that are finished, ``"epochs"`` and ``"seconds"`` of all seeds."""
STATES = ("complete", "pruned", "failed", "running", "waiting")
"""In order of precedence, where the attempts at a point differ."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """A point of a search and its outcome. In Optuna it is one trial for each attempt at it.

    Attributes:
        number: From 1.
        state: ``"complete"``, ``"pruned"``, ``"failed"``, ``"running"`` or ``"waiting"``.
        settings: The values of the searched settings; empty until they are chosen.
        scores: The validation score of each seed; the last known score if the trial is not complete.
        epochs: Epochs trained, over all seeds.
        seconds: Training time.
        reason: Why it failed.
    """

    number: int
    state: str
    settings: Mapping[str, Any]
    scores: tuple[float, ...] = ()
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""

    @property
    def score(self) -> float:
        """The mean of the scores; NaN if there is none."""
        return statistics.fmean(self.scores) if self.scores else math.nan

    @property
    def spread(self) -> float:
        """The standard deviation of the scores; NaN for fewer than two."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else math.nan

    @property
    def is_finished(self) -> bool:
        """Whether its outcome is final."""
        return self.state in ("complete", "pruned", "failed")

    @property
    def description(self) -> str:
        """Its settings in one line."""
        return ", ".join(f"{name.replace('_', ' ')} {format_rounded(value)}" for name, value in self.settings.items())

    def to_json(self) -> dict[str, Any]:
        """The trial, ready for JSON."""
        return {
            "number": self.number, "settings": dict(self.settings), "score": self.score, "spread": self.spread,
            "scores": list(self.scores), "epochs": self.epochs, "seconds": self.seconds, "state": self.state,
            "reason": self.reason,
        }  # fmt: skip


@dataclass(frozen=True)
class TuneResult:
    """The result of a search.

    Attributes:
        study: The study's name.
        folder: The study's directory.
        plan: What was searched and how.
        ranking: The trials, best first.
        val_images: The number of validation images, on which trials are scored.
        importance: The share of each setting in the variance of the scores, in [0, 1], highest first; empty if too few
            trials are complete.
        model: The refitted model, as in `FitResult.to_json`; None without one.
        optimistic_bias: The refitted model's scores on ``"val"``, which chose the settings and the epoch, and on
            ``"test"``; None without a model or a test split.
    """

    study: str
    folder: Path
    plan: Plan
    ranking: tuple[Trial, ...]
    val_images: int
    importance: Mapping[str, float]
    model: Mapping[str, Any] | None = None
    optimistic_bias: Mapping[str, float] | None = None

    @property
    def best(self) -> Trial:
        """The best complete trial."""
        return self.ranking[0]

    @cached_property
    def trials(self) -> "pd.DataFrame":
        """``trials.csv``: one row per trial, best first, by the index ``trial``, the trial's number.

        Columns: ``rank``, missing unless the trial is complete; one column per searched setting, its values missing
        where they are "auto" or not chosen yet; ``score`` and ``spread``, mean and standard deviation over the seeds,
        NaN where there is none; ``epochs_trained``, ``seconds``, ``state``, ``reason``.
        """
        import pandas as pd

        names = list(self.plan.space.dimensions)
        rows = trial_rows(self.ranking, names)
        for row, trial in zip(rows, self.ranking, strict=True):
            row.update((name, trial.settings.get(name)) for name in names)
        return pd.DataFrame(rows).set_index("trial").astype({"rank": "Int64"})

    @property
    def best_config(self) -> TrainConfig:
        """The settings of the best trial, before "auto" is resolved."""
        return dataclasses.replace(self.plan.config, **self.best.settings)

    @property
    def command(self) -> str:
        """The `labelr fit` command that trains a model with the best settings; default values are left out."""
        words = ["labelr", "fit", *(f"./{folder}" if folder.startswith("-") else folder for folder in self.plan.data)]
        for field in dataclasses.fields(self.best_config):
            value, flag = getattr(self.best_config, field.name), field.name.replace("_", "-")
            if field.name == "synthetic":
                words += [] if self.plan.data else ["--synthetic", str(value)]
            elif value == field.default:
                continue
            elif isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                for item in value if isinstance(value, tuple) else (value,):
                    words += [f"--{flag}", format_value(item)]
        return shlex.join(words)

    def to_json(self) -> dict[str, Any]:
        """The result, ready for JSON: the model's object, and the search."""
        best, model = self.best, self.model or {"model": None, "name": None, "settings": self.best_config.to_dict()}
        search = {
            "study": self.study, "study_path": str(self.folder), "metric": self.plan.options.metric,
            "sampler": self.plan.sampler, "space": self.plan.space.to_dict(), "best_trial": best.number,
            "best_settings": dict(best.settings), "score": best.score, "command": self.command,
            "importance": dict(self.importance), "optimistic_bias": self.optimistic_bias,
            "trials": [trial.to_json() for trial in self.ranking],
        }  # fmt: skip
        return {**model, **serialization.without_nan(search)}

    def __repr__(self) -> str:
        score = f"{self.plan.options.metric} {format_number(self.best.score)}"
        trials = pluralize(len(self.ranking), "trial")
        return f"<TuneResult of study {self.study}: {trials}; best {score} with {self.best.description}>"

    def _repr_html_(self) -> str:
        facts = {
            "Study": self.study,
            "Directory": self.folder,
            "Best settings": self.best.description,
            f"Validation {self.plan.options.metric}": format_number(self.best.score),
            "Model": (self.model or {}).get("model"),
            "Command": self.command,
        }
        return as_html("TuneResult", facts, self.trials)


class ProgressAttribute(TypedDict):
    """The attribute `PROGRESS` of an attempt."""

    scores: list[float]
    epochs: Count
    seconds: float


class AttemptAttributes(TypedDict, total=False):
    """The attributes of an attempt."""

    point: Count
    worker: Annotated[str, Meta(pattern=r"^[\w-]{1,64}\Z")]
    reason: str
    requeued: bool
    progress: ProgressAttribute


Scalar = bool | int | float | str | None
Attribute = Scalar | list[Scalar] | dict[str, Scalar | list[Scalar]]
"""What attributes hold, those of Optuna too: none is nested deeply."""


class FixedParams(TypedDict, total=False):
    """The values with which Optuna enqueued an attempt."""

    fixed_params: dict[str, Setting]


def check_attempts(attempts: Iterable[FrozenTrial]) -> None:
    """Raises ValueError where an attempt has values that labelr does not write: a study may come from anywhere."""
    for attempt in attempts:
        for attributes in (attempt.user_attrs, attempt.system_attrs):
            serialization.convert(attributes, dict[str, Attribute])
        serialization.convert(attempt.user_attrs, AttemptAttributes)
        serialization.convert(attempt.system_attrs, FixedParams)
        serialization.convert(attempt.params, dict[str, Setting])
        serialization.convert(attempt.values or [], list[float])
        serialization.convert(attempt.intermediate_values, dict[int, float])


def read_trials(study: optuna.Study) -> list[Trial]:
    """The trial of each point that was enqueued so far, by number."""
    attempts = attempts_by_point(study.get_trials(deepcopy=False))
    return [_trial(point, attempts[point]) for point in sorted(attempts)]


def attempts_by_point(attempts: Iterable[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
    """The attempts at each point, by its number from 0, in the order in which they were enqueued."""
    found: dict[int, list[FrozenTrial]] = {}
    for attempt in attempts:
        if POINT in attempt.user_attrs:
            found.setdefault(attempt.user_attrs[POINT], []).append(attempt)
    return found


def is_interrupted(attempt: FrozenTrial) -> bool:
    """Whether an attempt ended for a reason outside of its point: its process died, was stopped or ran out of time."""
    return attempt.state == TrialState.FAIL and REASON not in attempt.user_attrs


def count_deaths(attempts: Iterable[FrozenTrial]) -> int:
    """The number of successive attempts, up to the last, whose process died without progress over earlier ones."""
    deaths = farthest = 0
    for attempt in attempts:
        epochs = attempt.user_attrs.get(PROGRESS, {}).get("epochs", 0)
        died = is_interrupted(attempt) and REQUEUED not in attempt.user_attrs
        deaths = deaths + died if epochs <= farthest else 0
        farthest = max(farthest, epochs)
    return deaths


def _trial(point: int, attempts: Sequence[FrozenTrial]) -> Trial:
    def state_of(attempt: FrozenTrial) -> str:
        state = attempt.state.name.lower()
        return "waiting" if is_interrupted(attempt) else "failed" if state == "fail" else state

    attempt = min(attempts, key=lambda attempt: (STATES.index(state_of(attempt)), -attempt.number))
    state, reason = state_of(attempt), str(attempt.user_attrs.get(REASON, ""))
    deaths = count_deaths(attempts)
    if state == "waiting" and deaths >= MAX_DEATHS:
        state, reason = "failed", f"its process died {deaths} times; memory may not suffice"
    params = attempt.params or attempt.system_attrs.get("fixed_params", {})
    progress = attempt.user_attrs.get(PROGRESS, {"scores": (), "epochs": 0, "seconds": 0.0})
    curve = attempt.intermediate_values
    last = (curve[max(curve)],) if curve else ()
    return Trial(
        number=point + 1, state=state, settings={name: params[name] for name in SEARCHABLE if name in params},
        scores=tuple(progress["scores"]) if state == "complete" else last, epochs=progress["epochs"],
        seconds=progress["seconds"], reason=reason,
    )  # fmt: skip


def select(trials: Iterable[Trial], state: str) -> list[Trial]:
    """The trials in a state, in the order given."""
    return [trial for trial in trials if trial.state == state]


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """The trials, best first: complete ones by score, then pruned ones, then the others."""
    return sorted(trials, key=lambda trial: (STATES.index(trial.state), -sum(trial.scores), trial.number))


def trial_rows(
    trials: Iterable[Trial], names: Iterable[str], format_setting: Callable[[Any], str] = format_value
) -> list[dict[str, Any]]:
    """The trials as rows of a table with the settings of some names; NaN where there is no score."""
    rows, searched = [], list(names)
    for rank, trial in enumerate(trials, start=1):
        values = {name: format_setting(trial.settings[name]) if name in trial.settings else "" for name in searched}
        rows.append({
            "rank": rank if trial.state == "complete" else None, "trial": trial.number, **values, "score": trial.score,
            "spread": trial.spread, "epochs_trained": trial.epochs, "seconds": round(trial.seconds, 1),
            "state": trial.state, "reason": trial.reason,
        })  # fmt: skip
    return rows


def trials_csv(trials: Sequence[Trial], names: Iterable[str]) -> str:
    """The content of ``trials.csv``."""
    rows = [serialization.without_nan(row) for row in trial_rows(trials, names)]
    return serialization.csv_text(rows[0], (row.values() for row in rows))


def format_time_left(trials: Sequence[Trial], num_points: int | None, jobs: int) -> str:
    """An estimate from the mean time of the finished trials, such as ``"about 3 min left"``; empty if unknown."""
    times = [trial.seconds for trial in trials if trial.is_finished]
    if not any(times) or num_points is None or num_points <= len(times):
        return ""
    seconds = statistics.fmean(times) * (num_points - len(times)) / jobs
    return f"about {format_duration(seconds)} left"


def log_finished(trials: Sequence[Trial], plan: Plan, logged: set[int]) -> None:
    """Logs one line for each finished trial whose number is not in `logged`, and adds it there."""
    best = max((trial.score for trial in select(trials, "complete")), default=math.nan)
    for trial in trials:
        if not trial.is_finished or trial.number in logged:
            continue
        logged.add(trial.number)
        total = "" if plan.num_points is None else f" of {plan.num_points:,}"
        line = f"{len(logged):,}{total}  trial {trial.number}: {trial.description}: "
        if trial.state == "failed":
            log.warning("%sfailed: %s", line, trial.reason)
            continue
        score = f"{plan.options.metric} {trial.score:.4f}" + (f" ± {trial.spread:.4f}" if trial.spread >= 0 else "")
        log.info(
            "%s%s%s  %s  %.1f s  best %.4f  %s", line, "pruned at " if trial.state == "pruned" else "", score,
            pluralize(trial.epochs, "epoch"), trial.seconds, best,
            format_time_left(trials, plan.num_points, plan.options.jobs),
        )  # fmt: skip
