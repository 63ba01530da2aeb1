"""``labelr tune``."""

import dataclasses
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelr import console
from labelr.cli import options as opt
from labelr.cli.fit import AS_MANY_AS_SET, FitCommand, check_source_and_place, fit
from labelr.config import SEARCHABLE, TrainConfig, TuneOptions
from labelr.tuning.space import Space, check_search, said, shown

if TYPE_CHECKING:
    from labelr.tuning.outcome import Outcome
    from labelr.tuning.trials import Trial

MOST_LIVE = 8
"""Of the trials that are over, while others go on."""
NARROW = 80
"""Terminals of fewer characters are shown fewer columns."""
MOST_ROWS = 30
"""Of the table of trials; trials.csv has all."""
_LEFT_OUT = ("folds", "time", "select", "name", "output", "log_dir", "resume", "suspects", "force", "json")
"""The options of `fit` that a search has not, or has with another meaning."""
_HELP = {
    "epochs": "How often a trial sees each image, at most; auto: 30.",
    "patience": "End a trial after this many epochs without a better score; auto: 10.",
}
"""Of settings whose help in `fit` speaks of what a search has not."""
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_SWITCHES = [name for name in SEARCHABLE if isinstance(getattr(opt.DEFAULTS, name), bool)]


class TuneCommand(FitCommand):
    """A command whose switches may stand with their values, or without as those of `fit`."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def]
        """Writes a switch without values as one with its value."""
        flags = {f"--{name.replace('_', '-')}" for name in _SWITCHES}
        filled = []
        for position, argument in enumerate(args):
            follower = args[position + 1] if position + 1 < len(args) else ""
            positive = argument.replace("--no-", "--", 1)
            if argument in flags and "," not in follower and follower.lower() not in ("true", "false"):
                filled.append(f"{argument}=true")
            else:
                filled.append(f"{positive}=false" if argument != positive and positive in flags else argument)
        return super().parse_args(ctx, filled)  # type: ignore[no-untyped-call]


def tune(
    context: typer.Context,
    data: list[Path] | None,
    synthetic: int | None,
    config: Path | None,
    study: Annotated[
        str | None,
        opt.option(
            "--study",
            help="The search's name; the same command goes on with it.",
            default="the data folder's",
            panel=opt.SEARCH,
        ),
    ] = None,
    storage: Annotated[
        str | None,
        opt.option(
            "--storage",
            metavar="URL",
            help="A PostgreSQL or MySQL database in which machines share the search: the same command on each. Needs "
            "labelr[storage].",
            panel=opt.SEARCH,
        ),
    ] = None,
    name: Annotated[
        str | None,
        opt.option("--name", help="The best model's name.", default="as that of `fit`", panel=opt.OUTPUT),
    ] = None,
    output: Annotated[
        Path | None,
        opt.option(
            "--output",
            "-o",
            metavar="DIR",
            help="Save the best model here instead of the user's cache.",
            panel=opt.OUTPUT,
        ),
    ] = None,
    force: Annotated[
        bool, opt.option("--force", help="Begin the search anew, whatever it has found.", panel=opt.OUTPUT)
    ] = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    **others: Any,
) -> None:
    """Search the settings that suit a data set best, and train a model with them.

    Give several values to any setting of the network or the training, `--lr 1e-3,4e-3 --dropout 0.2,0.5`, or a range,
    `--lr 1e-4..1e-2:log`; all other options are as those of `fit`. Trials are compared on validation images, and the
    best settings are trained again and scored on the test part. Prints them as a `labelr fit` command, the only line
    on stdout; `trials.csv` and `report/report.html` in the study's directory show all trials. A search that was stopped
    goes on by the same command, which may also run several times at once.
    """
    check_source_and_place(data, synthetic, name, output)
    chosen = {key: value for key, value in opt.given(context).items() if key not in _LEFT_OUT}
    if synthetic == AS_MANY_AS_SET:
        del chosen["synthetic"]
    texts = {key: chosen.pop(key) for key in SEARCHABLE if key in chosen}
    settings = TrainConfig.of(TrainConfig.read(config) if config else None, **chosen)
    options = opt.given(context, TuneOptions)
    check_search(settings, Space.of(texts)[0], TuneOptions.of(options))
    from labelr.tuning.tune import tune as search

    with console.session(quiet=quiet, verbose=verbose) as track:
        outcome = search(
            data, texts, settings, study=study, storage=storage, name=name, output=output, force=force,
            track=track, watch=_show_live, **options,
        )  # fmt: skip
    if not quiet:
        _show_outcome(outcome)
    if json:
        console.show_json(outcome.to_json())
    else:
        console.show_line(outcome.command)


def _parameters() -> Iterator[inspect.Parameter]:
    """The options of `tune`: those of `fit`, searchable ones with several values, those of a search, and its own."""
    own = dict(inspect.signature(tune, eval_str=True).parameters)
    yield own.pop("context")
    for field in dataclasses.fields(TuneOptions):
        flag = field.name.replace("_", "-")
        flags = f"--{flag}/--no-{flag}" if isinstance(field.default, bool) else f"--{flag}"
        annotation = Annotated[field.type, opt.setting(field.name, flags, panel=opt.SEARCH, of=TuneOptions)]  # type: ignore[name-defined]
        yield inspect.Parameter(field.name, _KEYWORD, annotation=annotation, default=field.default)
    for name, parameter in inspect.signature(fit, eval_str=True).parameters.items():
        if name in SEARCHABLE:
            yield _several(parameter)
        elif name not in (*_LEFT_OUT, "context", "quiet", "verbose"):
            yield parameter
    yield from (parameter for parameter in own.values() if parameter.default is not inspect.Parameter.empty)


def _several(parameter: inspect.Parameter) -> inspect.Parameter:
    """The option of a setting as one that takes several values."""
    info = copy(parameter.annotation.__metadata__[0])
    info.default = info.default.split("/")[0]
    info.help = _HELP.get(parameter.name, info.help)
    info.metavar = f"{info.metavar or 'VALUE'},..."
    if info.show_default is True:
        info.show_default = said(parameter.default)
    return parameter.replace(annotation=Annotated[str | None, info], default=None)


tune.__signature__ = inspect.Signature([one.replace(kind=_KEYWORD) for one in _parameters()])  # type: ignore[attr-defined]


def _show_live(trials: "Sequence[Trial]") -> None:
    """The trials that are being trained, and the best so far."""
    if not trials:
        console.show_live(())
        return
    from labelr.tuning.outcome import seconds_left, trial_rows
    from labelr.tuning.trials import ranked
    from labelr.tuning.words import minutes_text

    running = [trial for trial in trials if trial.state == "running"]
    over = [trial for trial in ranked(trials) if trial.is_over]
    names = list(dict.fromkeys(name for trial in trials for name in trial.settings))
    left = seconds_left(trials, len(trials), max(1, len(running)))
    title = f"{len(over)} of {len(trials)} trials" + (f", {minutes_text(left)} left" if left else "")
    console.show_live(_cells(trial_rows([*running, *over[:MOST_LIVE]], names, shown)), title)


def _show_outcome(outcome: "Outcome") -> None:
    """The ranked trials, and what each setting matters."""
    from labelr.tuning.outcome import trial_rows

    rows = _cells(trial_rows(outcome.trials, outcome.space.dimensions, shown))
    console.show_table(rows[:MOST_ROWS], to=console.stderr)
    if len(rows) > MOST_ROWS:
        console.show_note(f"and {len(rows) - MOST_ROWS:,} more in {outcome.folder}/trials.csv")
    if outcome.importance:
        shares = [{"setting": name, "importance": share} for name, share in outcome.importance.items()]
        console.show_table(shares, to=console.stderr)


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    """Rows of trials as they are shown: without what no trial has."""
    kept = [name for name in (rows[0] if rows else ()) if any(not _is_empty(row[name]) for row in rows)]
    if console.stderr.is_terminal and console.stderr.width < NARROW:
        kept = [name for name in kept if name not in ("rank", "epochs_trained", "seconds")]
    titles = {} if "epochs" in kept else {"epochs_trained": "epochs"}
    return [{titles.get(name, name): _cell(name, row[name]) for name in kept} for row in rows]


def _cell(name: str, value: Any) -> object:
    return "" if _is_empty(value) else round(value) if name == "seconds" else value


def _is_empty(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
