"""``labelr fit``."""

import dataclasses
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from labelr import console
from labelr.cli import options as opt
from labelr.cli.evaluate import show_evaluation, warn_of_few_positives
from labelr.config import TrainConfig, check_place
from labelr.errors import UnconfirmedError
from labelr.fields import SettingError, parsed
from labelr.ranks import Place

_SYNTHETIC = next(field for field in dataclasses.fields(TrainConfig) if field.name == "synthetic")
COMMON = (
    "synthetic", "labels", "backbone", "image_size", "epochs", "time", "name", "output", "resume", "device",
)  # fmt: skip
"""What `labelr fit --help` shows first."""
Synthetic = Annotated[
    str | None, opt.option("--synthetic", _SYNTHETIC.metadata["help"], _SYNTHETIC.metadata["panel"], metavar="[N]")
]
Name = Annotated[
    str | None,
    opt.option("--name", "Name of the model. Default: the data folder's, numbered if taken.", "Output", metavar="NAME"),
]
Output = Annotated[
    Path | None, opt.option("--output -o", "Save the model here, not in the cache.", "Output", metavar="DIR")
]
LogDir = Annotated[
    Path | None, opt.option("--log-dir", "Write scores for TensorBoard, epoch by epoch.", "Output", metavar="DIR")
]
Resume = Annotated[bool, opt.option("--resume", "Resume a stopped run if there is one; not with `--time`.", "Output")]


class FitCommand(opt.Command):
    """A command whose option ``--synthetic`` can be given without its number, which may have separators."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def]
        """Replaces ``--synthetic`` without a number by ``--synthetic=auto``."""
        filled = [
            "--synthetic=auto" if argument == "--synthetic" and not re.fullmatch(r"\d[\d,._]*", following) else argument
            for argument, following in pairwise([*args, ""])
        ]
        return super().parse_args(ctx, filled)  # type: ignore[no-untyped-call]


COMMAND = FitCommand


def source_settings(command: str, data: list[Path] | None, synthetic: str | None) -> dict[str, Any]:
    """The setting of ``--synthetic`` if it has a number.

    Raises:
        SettingError: Unless there is either DATA or ``--synthetic``.
    """
    if not data and synthetic is None:
        raise SettingError(
            f"`labelr {command}` needs images to train on",
            f"name the folder of images and labels, such as `labelr {command} photos`, or the label file, such as "
            f"`labelr {command} labels.csv --images photos`, or take synthetic images, `labelr {command} --synthetic`",
        )
    if data and synthetic is not None:
        raise SettingError("DATA and `--synthetic` exclude each other", "give one of them")
    return {} if synthetic in (None, "auto") else {"synthetic": parsed(_SYNTHETIC, str(synthetic))}


@opt.takes_settings(TrainConfig, leave_out=["synthetic"], common=COMMON)
def fit(
    printing: opt.Printing,
    data: opt.OptionalData = None,
    synthetic: Synthetic = None,
    config: opt.Config = None,
    name: Name = None,
    output: Output = None,
    log_dir: LogDir = None,
    resume: Resume = False,
    suspects: opt.Suspects = None,
    force: opt.Force = False,
    **settings: Any,
) -> None:
    """Train a model on a folder of images and its labels.

    DATA holds images and their labels: a table, the export of an annotation tool, text files next to the images, or
    folders named after labels. The first lines on stderr say how it was read; `labelr check DATA` says more and trains
    nothing.

    Prints the model's directory, the only line on stdout. `report/report.html` in it shows how good the model is. The
    main scores are printed on stderr, all tables with `--verbose`.

    Examples:
        labelr fit photos
        labelr fit photos --backbone efficientnet-lite0 --name birds
        labelr fit photos --labels birds.csv --epochs 60 --output models/birds
    """
    settings |= source_settings("fit", data, synthetic)
    check_place(name, output)
    options = TrainConfig.of(TrainConfig.read(config) if config else None, **settings)
    if Place.of_environment().rank:
        from labelr.training.follower import follow

        follow()
        return
    from labelr.training.fit import fit as train

    def run(options: TrainConfig) -> dict[str, Any]:
        with printing.session() as track:
            return train(
                data, options, name=name, output=output, log_dir=log_dir, suspects=suspects, force=force, resume=resume,
                track=track,
            ).to_json()  # fmt: skip

    try:
        result = run(options)
    except UnconfirmedError as error:
        trust = console.ask(f"{error.message}. Use them as labels? Otherwise they are left out.")
        if trust is None:
            raise
        result = run(dataclasses.replace(options, trust_predictions=trust))
    if result["scored_on"]:
        show_scores(result, printing)
    printing.show(result, result["model"])


def show_scores(result: Mapping[str, Any], printing: opt.Printing) -> None:
    """Prints on stderr how good a new model is: in words, in its main or all scores, and which labels are uncertain.

    All of it is also in the log file, but for the warning with `--quiet`.
    """
    from labelr.scoring.report.text import headline, headline_rows
    from labelr.training.finalize import SCORED

    told = headline(result, SCORED[result["scored_on"]], seen_in_training=False)
    for sentence in (told.first, *told.rest, told.measured):
        console.show_note(sentence)
    if printing.verbose and not printing.json:
        show_evaluation(result, to=console.stderr)
    elif not printing.json:
        console.show_table(headline_rows(result), to=console.stderr)
    if not printing.quiet:
        warn_of_few_positives(result)
