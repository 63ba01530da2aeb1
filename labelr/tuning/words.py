"""What a search says while it goes on."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from labelr.tuning.job import Job
from labelr.tuning.outcome import seconds_left
from labelr.tuning.space import Values, shown
from labelr.tuning.trials import Trial

log = logging.getLogger(__name__)


def describe_search(job: Job, folder: Path, num_over: int) -> str:
    """How much there is to do, before the first trial."""
    parts = []
    for name, dimension in job.space.dimensions.items():
        parts.append(f"{len(dimension.choices)} of {name}" if isinstance(dimension, Values) else f"{name} {dimension}")
    number = f"{job.num_points:,} points" if job.num_points is not None else f"points for {job.options.time:g} minutes"
    how = {"grid": "", "random": " drawn at random", "tpe": " chosen by TPE"}[job.sampler]
    seeds = "once" if job.options.seeds == 1 else f"{job.options.seeds} times"
    jobs = f"{job.options.jobs} at a time, each on {job.threads} CPU thread{'s' if job.threads > 1 else ''}"
    done = f"; {num_over:,} of them are done" if num_over else ""
    return f"study {job.name} in {folder}: {number}{how} ({' x '.join(parts)}), each trained {seeds}, {jobs}{done}"


def summarise(trials: Sequence[Trial]) -> str:
    """What became of all trials."""
    names = {"complete": "complete", "pruned": "stopped early", "failed": "failed", "waiting": "not tried"}
    counts = ((sum(trial.state == state for trial in trials), name) for state, name in names.items())
    return f"{len(trials):,} trials: {', '.join(f'{count:,} {name}' for count, name in counts if count)}"


def point_text(trial: Trial) -> str:
    """A trial's settings in a line."""
    return ", ".join(f"{name} {shown(value)}" for name, value in trial.settings.items())


def minutes_text(seconds: float) -> str:
    """About how long something takes."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 90 * 60 else f"about {seconds / 3600:.1f} h"


class Teller:
    """Says a line of each trial that comes to its end.

    Args:
        job: The search.
        trials: As they were when it went on: what is over already is not told again.
    """

    def __init__(self, job: Job, trials: Iterable[Trial]) -> None:
        self._job = job
        self._told = {trial.number for trial in trials if trial.is_over}

    def tell(self, trials: Sequence[Trial]) -> None:
        """Says what is new."""
        for trial in trials:
            if trial.is_over and trial.number not in self._told:
                self._told.add(trial.number)
                self._tell_one(trial, trials)

    def _tell_one(self, trial: Trial, trials: Sequence[Trial]) -> None:
        total = f" of {self._job.num_points:,}" if self._job.num_points is not None else ""
        line = f"{len(self._told):,}{total}  trial {trial.number}: {point_text(trial)}: "
        if trial.state == "failed":
            log.warning("%sfailed: %s", line, trial.reason)
            return
        metric = self._job.options.metric
        score = f"{metric} {trial.score:.4f}" + (f" ± {trial.spread:.4f}" if len(trial.scores) > 1 else "")
        what = f"stopped early at {score}" if trial.state == "pruned" else score
        best = max((one.score for one in trials if one.state == "complete"), default=None)
        parts = [what, f"{trial.epochs} epochs", f"{trial.seconds:.1f} s"]
        if best is not None:
            parts.append(f"best {best:.4f}")
        running = sum(one.state == "running" for one in trials)
        left = seconds_left(trials, self._job.num_points, max(self._job.options.jobs, running))
        if left:
            parts.append(f"{minutes_text(left)} left")
        log.info("%s%s", line, "  ".join(parts))
