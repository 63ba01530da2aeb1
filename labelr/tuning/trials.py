"""What became of each point of a search, read from the study that all of its processes share."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

MAX_DEATHS = 3
"""A point whose process died so often in a row, and came no farther, is not tried again."""
TICKET, WORKER, REASON, STOPPED, SCORES, EPOCHS, SECONDS = (
    "ticket", "worker", "reason", "stopped", "scores", "epochs", "seconds",
)  # fmt: skip
"""What is written beside a trial: the number of its point, who tries it, why it failed, whether it was put back, and
for each time that it was trained the score, the epochs and the time."""


STATES = ("complete", "pruned", "failed", "running", "waiting", "")
"""From what says most of a point to what says nothing."""


@dataclass(frozen=True)
class Trial:
    """One point of a search, and what became of it.

    Attributes:
        number: From 1.
        state: ``"complete"``, ``"pruned"``, ``"failed"``, ``"running"`` or ``"waiting"``.
        settings: The values of what is searched, by name; empty as long as they are not chosen.
        scores: On validation images, of each time it was trained; of a trial that is not complete what is known.
        epochs: How many epochs were trained, in all.
        seconds: What they took.
        reason: Why it failed.
        curve: The score after each epoch, by its number; those of the second seed follow those of the first.
    """

    number: int
    state: str
    settings: Mapping[str, Any]
    scores: tuple[float, ...] = ()
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""
    curve: Mapping[int, float] | None = None

    @property
    def score(self) -> float:
        """The mean of its scores; NaN where there is none."""
        return statistics.fmean(self.scores) if self.scores else math.nan

    @property
    def spread(self) -> float:
        """The standard deviation of its scores; NaN of fewer than two."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else math.nan

    @property
    def is_over(self) -> bool:
        """Whether nothing more becomes of it."""
        return self.state in ("complete", "pruned", "failed")


def read_trials(study: optuna.Study) -> list[Trial]:
    """All points that were queued so far, by number, each once however often it was begun."""
    attempts = by_ticket(study.get_trials(deepcopy=False))
    return [_trial(number, attempts[number]) for number in sorted(attempts)]


def by_ticket(attempts: Iterable[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
    """The attempts at each point, by its number from 0."""
    found: dict[int, list[FrozenTrial]] = {}
    for attempt in attempts:
        if TICKET in attempt.user_attrs:
            found.setdefault(attempt.user_attrs[TICKET], []).append(attempt)
    return found


def _trial(number: int, attempts: Sequence[FrozenTrial]) -> Trial:
    """What became of a point: the best that any attempt says of it."""
    deaths = count_deaths(attempts)
    attempt = min(attempts, key=lambda one: (STATES.index(_state(one)), one.number))
    state, reason = _state(attempt), str(attempt.user_attrs.get(REASON, ""))
    if not state:
        state = "failed" if deaths >= MAX_DEATHS else "waiting"
        reason = f"its process died {deaths} times; memory may not suffice" if deaths >= MAX_DEATHS else ""
    curve = dict(attempt.intermediate_values)
    scores = tuple(attempt.user_attrs.get(SCORES, ()))
    if state != "complete" and curve:
        scores = (curve[max(curve)],)
    return Trial(
        number=number + 1, state=state, settings=attempt.params or attempt.system_attrs.get("fixed_params", {}),
        scores=scores, epochs=attempt.user_attrs.get(EPOCHS, len(curve)),
        seconds=attempt.user_attrs.get(SECONDS, 0.0), reason=reason, curve=curve,
    )  # fmt: skip


def _state(attempt: FrozenTrial) -> str:
    """What became of one attempt; nothing where it was cut short and so says nothing of its point."""
    if attempt.state == TrialState.FAIL:
        return "failed" if REASON in attempt.user_attrs else ""
    return attempt.state.name.lower()


def is_cut_short(attempt: FrozenTrial) -> bool:
    """Whether an attempt ended before its time, for no fault of its point."""
    return not _state(attempt)


def count_deaths(attempts: Iterable[FrozenTrial]) -> int:
    """How many attempts in a row, up to the last, ended with their process, unasked, and no farther than before."""
    deaths = farthest = 0
    for attempt in sorted(attempts, key=lambda attempt: attempt.number):
        epochs = attempt.user_attrs.get(EPOCHS, 0)
        is_dead = is_cut_short(attempt) and STOPPED not in attempt.user_attrs
        deaths = deaths + is_dead if epochs <= farthest else 0
        farthest = max(farthest, epochs)
    return deaths


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """The trials from the best on: complete ones by score, then pruned ones, then the others by number."""

    def place(trial: Trial) -> tuple[int, float, int]:
        return STATES.index(trial.state), -trial.score if math.isfinite(trial.score) else math.inf, trial.number

    return sorted(trials, key=place)
