"""The settings of a search, each with its one default; without heavy imports, since the command line reads them."""

from dataclasses import dataclass

from labelr.config import CRITERIA, TrainConfig
from labelr.errors import preview
from labelr.fields import SettingError, Settings, choice, number, switch
from labelr.tuning.space import Space

SAMPLERS = ("grid", "random", "tpe")
DEFAULT_TRIALS = 20


@dataclass(frozen=True, kw_only=True)
class TuneOptions(Settings):
    """How settings are searched.

    Raises:
        SettingError: If a value is of the wrong kind or out of range.
    """

    sampler: str = choice(
        "auto",
        "auto",
        *SAMPLERS,
        help="Which points are tried: all of a grid, random ones, or those that look best after what was seen (TPE); "
        "auto: grid, and tpe where a setting has a range.",
    )
    trials: int | None = number(
        None,
        low=1,
        auto=True,
        help=f"How many points are tried in all; auto: a grid's all, else {DEFAULT_TRIALS}, or what `--time` allows.",
    )
    time: float | None = number(
        None,
        low=0.01,
        auto=True,
        help="Minutes after which no trial goes on; the best so far is trained after that.",
    )
    prune: bool = switch(
        False, help="Stop trials early that fall behind others after as many epochs (successive halving)."
    )
    seeds: int = number(
        1, low=1, high=100, help="Train each point so often, from other first weights; the mean counts."
    )
    jobs: int = number(1, low=1, high=1024, help="Trials at a time, each a process; CPU threads are divided.")
    metric: str = choice("map", *CRITERIA, help="The validation score that is searched for; F1 and exact match at 0.5.")
    refit: bool = switch(
        True, help="Whether the best point is trained again in the end, saved as a model and scored on the test part."
    )
    keep: int = number(0, low=0, help="How many of the best trials' models are kept in the study's directory.")


def check_search(given: TrainConfig, space: Space, options: TuneOptions) -> str:
    """The sampler that is meant.

    Raises:
        SettingError: If there is nothing to search, or not in this way.
    """
    if not space.dimensions:
        raise SettingError(
            "there is nothing to search: no setting has several values",
            "give some, such as `--lr 1e-3,4e-3 --dropout 0.2,0.3,0.5`",
        )
    for flag, wrong in {"--time": given.time, "--folds": given.folds}.items():
        if wrong is not None:
            raise SettingError(
                f"a trial has a number of epochs and one validation part, and no use for the setting {flag[2:]}",
                f"leave `{flag}` out of the configuration",
            )
    sampler = options.sampler if options.sampler != "auto" else "tpe" if space.ranges else "grid"
    if sampler == "grid" and space.ranges:
        raise SettingError(
            f"a grid needs values, and {preview(space.ranges)} has a range",
            "list its values, or choose `--sampler random` or `--sampler tpe`",
        )
    return sampler
