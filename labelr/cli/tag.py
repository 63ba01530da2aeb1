"""``labelr tag``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from labelr import console
from labelr.cli import options as opt
from labelr.config import TagOptions
from labelr.errors import pluralize
from labelr.fields import SettingError

COMMON = ("model", "threshold", "top_k", "only", "format", "output", "dry_run", "force", "device")
"""What `labelr tag --help` shows first."""
FilesFrom = Annotated[
    str | None,
    opt.option(
        "--files-from",
        "Also tag images and folders listed in a file, one per line or separated by NUL bytes; - is stdin.",
        "Data",
        metavar="FILE|-",
    ),
]
Model = Annotated[
    str | None,
    opt.model_option(
        "Model by name or directory, or ONNX file. Default: of `labelr models default`, else the newest.",
        "NAME|DIR|FILE",
    ),
]
Output = Annotated[
    Path | None,
    opt.option(
        "--output -o",
        "Directory of the results; -: labels.csv or JSON Lines on stdout. Default: ./NAME_labels for a folder NAME.",
        "Output",
        metavar="DIR|-",
    ),
]


@opt.takes_settings(TagOptions, common=COMMON)
def tag(
    printing: opt.Printing,
    photos: Annotated[list[Path] | None, opt.argument("PHOTOS", "Folders of images, or image files.")] = None,
    files_from: FilesFrom = None,
    model: Model = None,
    output: Output = None,
    dry_run: Annotated[bool, opt.option("--dry-run", "Show what would be done, and write nothing.", "Output")] = False,
    force: opt.Force = False,
    **settings: Any,
) -> None:
    """Write the labels of each image in a folder.

    Each image gets a CSV `label,probability` in a tree like the folder's. `labels.csv` and `probabilities.csv` list all
    images, `errors.csv` those that could not be opened, `summary.json` the totals.

    The same command resumes a stopped run, and updates finished results: only new and changed images are tagged. Prints
    the directory. The exit code is 3 if an image failed that did not fail in the previous run, or had other content.

    Examples:
        labelr tag new_photos
        labelr tag new_photos --model birds --threshold 0.5 --output labels
        ls today/*.jpg | labelr tag --files-from - --output labels
    """
    options = TagOptions.of(settings)
    to_stdout = output is not None and str(output) == "-"
    if to_stdout:
        _check_stdout(options, {"--json": printing.json, "--dry-run": dry_run, "--force": force})
    from labelr.buckets.results import place_of
    from labelr.tagging.tag import stream
    from labelr.tagging.tag import tag as tag_images

    with printing.session() as track:
        if to_stdout:
            summary = stream(photos or [], model, options, console.show_text, files_from=files_from, track=track)
        else:
            summary = tag_images(
                photos or [], model, options, files_from=files_from, output=output, force=force, dry_run=dry_run,
                track=track,
            )  # fmt: skip
    _show_summary(summary.to_json(), dry_run=dry_run)
    if printing.json:
        console.show_json(summary.to_json())
    elif not to_stdout and not dry_run and place_of(summary.output).exists():  # not if there was nothing to tag
        console.show_line(summary.output)
    if summary.new_failures:
        raise typer.Exit(opt.EXIT_ATTENTION)


def _check_stdout(options: TagOptions, others: Mapping[str, bool]) -> None:
    """Raises SettingError for a setting or another option that makes no sense with results on stdout."""
    if (len(options.formats) > 1 and options.format) or not set(options.format) <= {"table", "jsonl"}:
        raise SettingError("stdout takes one table or JSON Lines", "give `--format table` or `--format jsonl`")
    chosen = {
        **others,
        "--in-place": options.in_place,
        "--uncertain": options.uncertain > 0,
        "--sort-into": options.sort_into is not None,
        "--gallery": options.gallery,
    }
    for name, given in chosen.items():
        if given:
            raise SettingError(
                f"`{name}` cannot be combined with results on stdout", "name a directory with `--output DIR`"
            )


def _show_summary(summary: Mapping[str, Any], *, dry_run: bool) -> None:
    counts = _describe_plan(summary) if dry_run else _describe_results(summary)
    console.show_note(f"{pluralize(summary['found'], 'image')} found: {counts}")
    for note in summary["notes"]:
        console.show_note(f"  {note}")


def _describe_plan(summary: Mapping[str, Any]) -> str:
    to_do = summary["found"] - summary["skipped"] - summary["unchanged"] - summary["failed"]
    line = (
        f"{to_do:,} to tag, {summary['unchanged']:,} unchanged, {summary['skipped']:,} to skip; "
        f"results to delete: {summary['vanished']:,}"
    )
    return line + (f"; {pluralize(summary['failed'], 'folder')} cannot be listed" if summary["failed"] else "")


def _describe_results(summary: Mapping[str, Any]) -> str:
    failed = f"{summary['failed']:,} failed"
    if summary["known_failures"]:
        failed += f" ({summary['known_failures']:,} of them in the previous run too)"
    tagged = f"{summary['ok']:,} tagged"
    if summary["unchanged"]:
        tagged += f" ({summary['unchanged']:,} of them in an earlier run)"
    line = f"{tagged}, {failed}, {summary['skipped']:,} skipped"
    if summary["vanished"]:
        line += f"; results of {pluralize(summary['vanished'], 'missing image')} deleted"
    if summary["ok"] > summary["unchanged"]:
        line += f" ({summary['images_per_second']:,.1f} images/s)"
    return line
