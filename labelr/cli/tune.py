"""``labelr tune``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

from labelr import console
from labelr.cli import completion
from labelr.cli import options as opt
from labelr.cli.fit import FitCommand, Output, Synthetic, source_settings
from labelr.config import SEARCHABLE, TrainConfig, TuneOptions, check_place
from labelr.errors import pluralize
from labelr.fields import kind_of, option_of

if TYPE_CHECKING:
    from labelr.tuning.trials import Trial, TuneResult

COMMON = ("synthetic", "labels", "trials", "time", "metric", "jobs", "study", "name", "device")
"""What `labelr tune --help` shows first."""
MAX_LIVE_ROWS = 8
"""Finished trials in the live table, below those that run."""
MAX_ROWS = 30
"""Trials in the final table; trials.csv has all."""
NARROW_WIDTH = 80
"""Narrower terminals get fewer columns."""
Study = Annotated[
    str | None,
    opt.option(
        "--study", "Name of the search. Default: the data folder's.", "Search", metavar="NAME", find=completion.studies
    ),
]
Storage = Annotated[
    str | None,
    opt.option(
        "--storage", "PostgreSQL or MySQL database of a search that several machines share. Requires labelr[storage].",
        "Search", metavar="URL",
    ),
]  # fmt: skip
Name = Annotated[
    str | None, opt.option("--name", "Name of the best model. Default: as in `labelr fit`.", "Output", metavar="NAME")
]
_SWITCHES = [
    option_of(field.name) for field in fields(TrainConfig) if field.name in SEARCHABLE and kind_of(field) is bool
]


class TuneCommand(FitCommand):
    """A command whose switches can be given with values (``--flip true,false``) or without (``--no-flip``)."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def]
        """Adds the value to a switch without one."""
        filled = []
        for argument, following in pairwise([*args, ""]):
            positive = argument.replace("--no-", "--", 1)
            if argument in _SWITCHES and "," not in following and following.lower() not in ("true", "false"):
                filled.append(f"{argument}=true")
            else:
                filled.append(f"{positive}=false" if argument != positive and positive in _SWITCHES else argument)
        return super().parse_args(ctx, filled)  # type: ignore[no-untyped-call]


COMMAND = TuneCommand


@opt.takes_settings(
    TuneOptions, TrainConfig, leave_out=["synthetic", "folds", "select", "devices"], several=SEARCHABLE, common=COMMON
)
def tune(
    printing: opt.Printing,
    data: opt.OptionalData = None,
    synthetic: Synthetic = None,
    config: opt.Config = None,
    study: Study = None,
    storage: Storage = None,
    name: Name = None,
    output: Output = None,
    force: Annotated[bool, opt.option("--force", "Start the search from scratch.", "Output")] = False,
    **settings: Any,
) -> None:
    """Search for the settings that suit a data set best, and train a model with them.

    Give several values to any setting of the network or the training, `--lr 1e-3,4e-3 --dropout 0.2,0.5`, or a range,
    `--lr 1e-4..1e-2:log`. All other options are those of `labelr fit`. Trials are compared on validation images; the
    best settings are trained again and tested on the test split.

    Prints these settings as a `labelr fit` command, the only line on stdout. `trials.csv` and `report/report.html` in
    the study's directory show all trials. The same command resumes a stopped search; it may also run several times at
    once.

    Examples:
        labelr tune photos --lr 1e-3,4e-3 --dropout 0.2,0.5
        labelr tune photos --lr 1e-4..1e-2:log --time 120 --jobs 2
    """
    from labelr.tuning.space import Plan

    settings |= source_settings("tune", data, synthetic)
    check_place(name, output)
    base = TrainConfig.read(config) if config else None
    Plan.of(data or (), None, base, settings)  # reports mistakes before the heavy imports
    from labelr.tuning.tune import tune as search

    with printing.session() as track:
        result = search(
            data, None, base, study=study, storage=storage, name=name, output=output, force=force, track=track,
            watch=_show_live, **settings,
        )  # fmt: skip
    _show_result(result)
    printing.show(result.to_json(), result.command)


def _show_live(trials: "Sequence[Trial]") -> None:
    """Shows the running trials and the best finished ones while a search runs; no trials end it."""
    if not trials:
        console.show_live(())
        return
    from labelr.tuning.space import format_rounded
    from labelr.tuning.trials import format_time_left, ranked, select, trial_rows

    running = select(trials, "running")
    finished = [trial for trial in ranked(trials) if trial.is_finished]
    names = list(dict.fromkeys(name for trial in trials for name in trial.settings))
    done = f"{len(finished):,} of {pluralize(len(trials), 'trial')}"
    title = f"{done}  {format_time_left(trials, len(trials), max(1, len(running)))}"
    console.show_live(_cells(trial_rows([*running, *finished[:MAX_LIVE_ROWS]], names, format_rounded)), title)


def _show_result(result: "TuneResult") -> None:
    """Shows the ranked trials, and the importance of each setting."""
    from labelr.tuning.space import format_rounded
    from labelr.tuning.trials import trial_rows

    rows = _cells(trial_rows(result.ranking, result.plan.space.dimensions, format_rounded))
    console.show_table(rows[:MAX_ROWS], to=console.stderr)
    if len(rows) > MAX_ROWS:
        console.show_note(f"and {len(rows) - MAX_ROWS:,} more in {result.folder}/trials.csv")
    if result.importance:
        shares = [{"setting": name, "importance": share} for name, share in result.importance.items()]
        console.show_table(shares, to=console.stderr)


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    """Rows of trials for a table, without empty columns."""
    kept = [name for name in (rows[0] if rows else ()) if any(not _is_empty(row[name]) for row in rows)]
    if console.stderr.is_terminal and console.stderr.width < NARROW_WIDTH:
        kept = [name for name in kept if name not in ("rank", "epochs_trained", "seconds")]
    titles = {} if "epochs" in kept else {"epochs_trained": "epochs"}
    return [{titles.get(name, name): _cell(name, row[name]) for name in kept} for row in rows]


def _cell(name: str, value: Any) -> object:
    return "" if _is_empty(value) else round(value) if name == "seconds" else value


def _is_empty(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
