"""What a search has to do, as every process of it is told."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from labelr.config import DEFAULT_TRIALS, TrainConfig, TuneOptions
from labelr.data.dataset import Dataset
from labelr.model.device import Runtime
from labelr.training.prepare import DEFAULT_EPOCHS, resolve
from labelr.tuning.space import Point, Space, Values


@dataclass(frozen=True)
class Job:
    """What all workers of a search do; it travels to each of them.

    Attributes:
        name: Of the study.
        folder: Of the study.
        url: Of the study's storage.
        dataset: The data.
        drawn: Whether its images are drawn.
        given: The settings that all trials have.
        space: Those that are searched.
        options: How.
        sampler: ``"grid"``, ``"random"`` or ``"tpe"``.
        threads: CPU threads of each worker.
        deadline: When no trial goes on, in seconds since 1970; None for never.
    """

    name: str
    folder: Path
    url: str | None
    dataset: Dataset
    drawn: bool
    given: TrainConfig
    space: Space
    options: TuneOptions
    sampler: str
    threads: int
    deadline: float | None

    @property
    def num_points(self) -> int | None:
        """How many points are tried in all; None where only time ends the search."""
        size, most = self.space.size, self.options.trials
        if most is None and self.sampler != "grid" and not self.options.time:
            most = DEFAULT_TRIALS
        return size if most is None else most if size is None else min(size, most)

    @property
    def is_late(self) -> bool:
        """Whether the time is over."""
        return self.deadline is not None and time.time() >= self.deadline

    def point_settings(self, point: Point, machine: Runtime) -> TrainConfig:
        """The settings of a point, every "auto" replaced."""
        config = replace(self.given, **point)
        return resolve(config, machine, drawn=self.drawn, num_train=len(self.dataset.split_rows("train")))

    @property
    def most_epochs(self) -> int:
        """How long the longest trial is trained."""
        searched = self.space.dimensions.get("epochs")
        if isinstance(searched, Values):
            return max(choice or DEFAULT_EPOCHS for choice in searched.choices)
        return int(searched.high) if searched else self.given.epochs or DEFAULT_EPOCHS
