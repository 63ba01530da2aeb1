"""``labelr check``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from labelr import console
from labelr.cli import options as opt
from labelr.config import TrainConfig
from labelr.errors import LabelrError


def check(
    context: typer.Context,
    data: Annotated[list[Path], typer.Argument(metavar="DATA", help="Folders of labelled images.", show_default=False)],
    labels: opt.Labels = opt.NOTHING,
    layout: opt.Layout = opt.DEFAULTS.layout,
    images: opt.Images = opt.DEFAULTS.images,
    only: opt.Only = opt.NOTHING,
    exclude: opt.Exclude = opt.NOTHING,
    minus_one: opt.MinusOne = opt.DEFAULTS.minus_one,
    blank: opt.Blank = opt.DEFAULTS.blank,
    tag_separator: opt.TagSeparator = opt.DEFAULTS.tag_separator,
    group: opt.Group = opt.DEFAULTS.group,
    splits: opt.Splits = opt.DEFAULTS.splits,
    val_fraction: opt.ValFraction = opt.DEFAULTS.val_fraction,
    test_fraction: opt.TestFraction = opt.DEFAULTS.test_fraction,
    seed: opt.Seed = opt.DEFAULTS.seed,
    max_pixels: opt.MaxPixels = opt.DEFAULTS.max_pixels,
    workers: opt.Workers = opt.DEFAULTS.workers,
    write_labels: Annotated[
        Path | None,
        opt.option(
            "--write-labels",
            metavar="FILE",
            help="Write the labels as a CSV of one row an image and one column a label.",
            panel=opt.OUTPUT,
        ),
    ] = None,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Print what labelr understands of a data set, and what is wrong with it; trains and changes nothing.

    Exit code 3 means that something needs attention: what it is stands at the end.
    """
    config = TrainConfig.of(opt.given(context))
    if write_labels is not None and write_labels.is_dir():
        raise LabelrError(f"{write_labels} is a folder", "name a file in it with `--write-labels FILE`")
    if write_labels is not None and write_labels.exists() and not force:
        raise LabelrError(f"there is a file {write_labels} already", "replace it with `--force`")
    from labelr.data.check import check as look
    from labelr.data.dataset import write_labels as write_table

    with console.session(quiet=quiet, verbose=verbose) as track:
        result = look(data, config, track=track)
    found = result.to_json()
    if json:
        console.show_json(found)
    else:
        _show(found)
    if write_labels is not None:
        write_table(write_labels, result.dataset)
        console.show_note(f"Wrote {write_labels}.")
    if found["problems"]:
        raise typer.Exit(3)


def _show(found: Mapping[str, Any]) -> None:
    """What was understood of a data set, and what needs attention, from the same object that machines get."""
    console.stdout.print(console.visible(f"{found['source']}: {found['layout']}"), soft_wrap=True)
    for note in found["notes"]:
        console.stdout.print(console.visible(f"  {note}"), soft_wrap=True)
    console.show_table(found["per_label"])
    sizes = ", ".join(f"{name} {width} x {height}" for name, (width, height) in found["sizes"].items())
    facts = {
        "images": f"{found['images']:,}",
        "split": ", ".join(f"{count:,} {part}" for part, count in found["split"].items()),
        "pixels": sizes,
        "formats": ", ".join(f"{count:,} {name}" for name, count in found["formats"].items()),
        "modes": ", ".join(f"{count:,} {name}" for name, count in found["modes"].items()),
        "copies": f"{len(found['duplicates']):,} groups byte for byte, {len(found['near_duplicates']):,} alike",
    }
    for name, value in facts.items():
        console.stdout.print(console.visible(f"{name}: {value}"), soft_wrap=True)
    for problem in found["problems"]:
        console.stdout.print(Text("Attention: ", style="yellow") + console.visible(problem), soft_wrap=True)
    if not found["problems"]:
        console.stdout.print("Nothing needs attention.")
