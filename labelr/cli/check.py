"""``labelr check``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from labelr import console
from labelr.cli import options as opt
from labelr.config import ReadOptions, TrainConfig
from labelr.errors import LabelrError, pluralize
from labelr.files import local_path

_SETTINGS = (
    *(name for name in ReadOptions.names() if name not in ("on_error", "skip_missing", "skip_invalid", "cache_limit")),
    *("splits", "val_fraction", "test_fraction", "seed", "workers"),
)


@opt.takes_settings(TrainConfig, leave_out=set(TrainConfig.names()) - set(_SETTINGS))
def check(
    printing: opt.Printing,
    data: opt.Data,
    write_labels: Annotated[
        Path | None,
        opt.option("--write-labels", "Write the labels as a CSV, one column per label.", "Output", metavar="FILE"),
    ] = None,
    fix: Annotated[
        Path | None,
        opt.option(
            "--fix",
            "Write a corrected CSV: file names as they are, unreadable cells emptied, and a column of changes.",
            "Output",
            metavar="FILE",
        ),
    ] = None,
    force: opt.Force = False,
    **settings: Any,
) -> None:
    """Check a data set: print how it is understood and what is wrong with it.

    Trains and changes nothing. The exit code is 3 if something needs attention; the last lines say what.

    Examples:
        labelr check photos
        labelr check photos --labels birds.csv --fix corrected.csv
    """
    options = TrainConfig.of(settings)
    for option, path in (("--write-labels", write_labels), ("--fix", fix)):
        if path is not None and local_path(path).is_dir():
            raise LabelrError(f"{path} is a folder", f"name a file in it with `{option} FILE`")
        if path is not None and path.exists() and not force:
            raise LabelrError(f"the file {path} exists already", "replace it with `--force`")
    from labelr.data.check import check as check_data
    from labelr.data.dataset import write_labels as write_table

    with printing.session() as track:
        result = check_data(data, options, track=track)
    found = result.to_json()
    printing.show(found, _show)
    if write_labels is not None:
        write_table(write_labels, result.dataset)
        console.show_note(f"Wrote {write_labels}.")
    if fix is not None:
        result.fixed.write(fix)
        left_out = sum(not change.filename for change in result.fixed.changes)
        changed = len({change.filename for change in result.fixed.changes} - {""})
        console.show_note(f"Wrote {fix}: {pluralize(changed, 'row')} changed, {left_out:,} left out.")
    if found["problems"]:
        raise typer.Exit(opt.EXIT_ATTENTION)


def _show(found: Mapping[str, Any]) -> None:
    from labelr.data.value_range import ValueRange

    value_range = ValueRange(**found["value_range"])
    console.show_note(f"{found['source']}: {found['layout']}", to=console.stdout)
    for note in found["notes"]:
        console.show_note(f"  {note}", to=console.stdout)
    console.show_table(found["per_label"])
    facts = {
        "images": f"{found['images']:,}",
        "split": _join(found["split"]),
        "pixels": ", ".join(f"{name} {width} x {height}" for name, (width, height) in found["sizes"].items()),
        "formats": _join(found["formats"]),
        "modes": _join(found["modes"]),
        **({"value range": f"{value_range}, of images of more than 8 bits"} if value_range else {}),
        "groups of copies": f"{len(found['duplicates']):,}, and of near-duplicates {len(found['near_duplicates']):,}",
    }
    for name, value in facts.items():
        console.show_note(f"{name}: {value}", to=console.stdout)
    console.show_problems(found["problems"])


def _join(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
