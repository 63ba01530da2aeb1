"""``labelr tag``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from labelr import console
from labelr.cli import options as opt
from labelr.config import TagOptions
from labelr.fields import SettingError

EXIT_ATTENTION = 3


def tag(
    context: typer.Context,
    photos: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PHOTOS", help="Folders of images, or image files.", show_default=False),
    ] = None,
    files_from: Annotated[
        str | None,
        opt.option(
            "--files-from",
            metavar="FILE|-",
            help="Take images and folders from a list too, one a line or divided by NUL bytes; - is stdin.",
            panel=opt.DATA,
        ),
    ] = None,
    recursive: Annotated[
        bool, opt.tag_setting("recursive", "--recursive/--no-recursive", panel=opt.DATA)
    ] = opt.TAG_DEFAULTS.recursive,
    ignore: Annotated[list[str], opt.tag_setting("ignore", panel=opt.DATA, metavar="GLOB")] = opt.NOTHING,
    on_error: Annotated[str, opt.tag_setting("on_error", panel=opt.DATA)] = opt.TAG_DEFAULTS.on_error,
    max_pixels: Annotated[int, opt.tag_setting("max_pixels", panel=opt.DATA)] = opt.TAG_DEFAULTS.max_pixels,
    model: opt.Model = None,
    threshold: opt.Threshold = "auto",
    threshold_file: opt.ThresholdFile = None,
    top_k: Annotated[int | None, opt.tag_setting("top_k", panel=opt.LABELS)] = opt.TAG_DEFAULTS.top_k,
    min_labels: Annotated[int, opt.tag_setting("min_labels", panel=opt.LABELS)] = opt.TAG_DEFAULTS.min_labels,
    only: Annotated[list[str], opt.tag_setting("only", panel=opt.LABELS, metavar="LABEL")] = opt.NOTHING,
    exclude: Annotated[list[str], opt.tag_setting("exclude", panel=opt.LABELS, metavar="LABEL")] = opt.NOTHING,
    device: opt.Device = opt.DEFAULTS.device,
    amp: opt.Amp = opt.DEFAULTS.amp,
    threads: opt.Threads = opt.DEFAULTS.threads,
    workers: opt.Workers = opt.DEFAULTS.workers,
    output: Annotated[
        Path | None,
        opt.option(
            "--output",
            "-o",
            metavar="DIR|-",
            help="The directory of the results; - writes labels.csv, or JSON Lines, to stdout and keeps nothing.",
            default="./NAME_labels, after the folder's name",
            panel=opt.OUTPUT,
        ),
    ] = None,
    format: Annotated[list[str], opt.tag_setting("format", panel=opt.OUTPUT, metavar="NAME")] = opt.NOTHING,
    in_place: Annotated[bool, opt.tag_setting("in_place", "--in-place", panel=opt.OUTPUT)] = opt.TAG_DEFAULTS.in_place,
    append: Annotated[bool, opt.tag_setting("append", "--append", panel=opt.OUTPUT)] = opt.TAG_DEFAULTS.append,
    uncertain: Annotated[int, opt.tag_setting("uncertain", panel=opt.OUTPUT, metavar="N")] = opt.TAG_DEFAULTS.uncertain,
    dry_run: Annotated[
        bool, opt.option("--dry-run", help="Say what would be done, and write nothing.", panel=opt.OUTPUT)
    ] = False,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Write the labels of each image in a folder.

    Each image gets a CSV `label,probability` in a tree like the folder's; `labels.csv` and `probabilities.csv` hold
    all images, `errors.csv` those that could not be opened, `summary.json` the account. Prints the directory. The same
    command goes on where it was stopped, and brings finished results up to date: only images that are new or have
    changed are tagged again. The exit code is 3 if an image failed.
    """
    settings = opt.given(context, TagOptions)
    options = TagOptions.of({**settings, "threshold": opt.read_threshold(threshold)})
    to_stdout = output is not None and str(output) == "-"
    if to_stdout:
        _check_stdout(options, {"--json": json, "--dry-run": dry_run, "--force": force})
    from labelr.tagging.tag import stream
    from labelr.tagging.tag import tag as tag_images

    with console.session(quiet=quiet, verbose=verbose) as track:
        if to_stdout:
            summary = stream(photos or [], model, options, console.show_text, files_from=files_from, track=track)
        else:
            summary = tag_images(
                photos or [], model, options, files_from=files_from, output=output, force=force, dry_run=dry_run,
                track=track,
            )  # fmt: skip
    if not quiet:
        _show_account(summary.to_json(), dry_run=dry_run)
    if json:
        console.show_json(summary.to_json())
    elif not to_stdout and not dry_run:
        console.show_line(summary.output)
    if summary.failed:
        raise typer.Exit(EXIT_ATTENTION)


def _show_account(summary: Mapping[str, Any], *, dry_run: bool) -> None:
    """What became of the images that were found."""
    if dry_run:
        to_do = summary["found"] - summary["skipped"] - summary["unchanged"]
        console.show_note(
            f"{summary['found']:,} images found: {to_do:,} would be tagged, {summary['unchanged']:,} have not changed, "
            f"{summary['skipped']:,} would be skipped; results of {summary['vanished']:,} others would be deleted"
        )
        return
    parts = [f"{summary['ok']:,} tagged", f"{summary['failed']:,} failed", f"{summary['skipped']:,} skipped"]
    line = f"{summary['found']:,} images found: {', '.join(parts)}"
    if summary["unchanged"]:
        line += f"; {summary['unchanged']:,} had not changed"
    if summary["vanished"]:
        line += f"; results of {summary['vanished']:,} that are gone were deleted"
    console.show_note(f"{line} ({summary['images_per_second']:,.1f} images/s)")


def _check_stdout(options: TagOptions, others: Mapping[str, bool]) -> None:
    """Raises SettingError where an option, or one of the others by its flag, has no meaning for results on stdout."""
    if (len(options.formats) > 1 and options.format) or not set(options.format) <= {"table", "jsonl"}:
        raise SettingError("stdout takes one table or JSON Lines", "give `--format table` or `--format jsonl`")
    chosen = {**others, "--in-place": options.in_place, "--uncertain": options.uncertain > 0}
    for flag, wrong in chosen.items():
        if wrong:
            raise SettingError(f"results on stdout leave no place for `{flag}`", "name a directory with `--output DIR`")
