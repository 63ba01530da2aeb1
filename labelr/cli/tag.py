"""``labelr tag``."""

from pathlib import Path
from typing import Annotated

import typer

from labelr import console
from labelr.cli import options as opt

EXIT_ATTENTION = 3


def tag(
    context: typer.Context,
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTOS", help="A folder of images, or image files.", show_default=False)
    ],
    model: opt.Model = None,
    threshold: opt.Threshold = "auto",
    threshold_file: opt.ThresholdFile = None,
    recursive: Annotated[
        bool,
        opt.option("--recursive/--no-recursive", help="Whether to descend into subfolders.", panel=opt.DATA),
    ] = True,
    on_error: opt.OnError = opt.DEFAULTS.on_error,
    max_pixels: opt.MaxPixels = opt.DEFAULTS.max_pixels,
    device: opt.Device = opt.DEFAULTS.device,
    amp: opt.Amp = opt.DEFAULTS.amp,
    threads: opt.Threads = opt.DEFAULTS.threads,
    workers: opt.Workers = opt.DEFAULTS.workers,
    output: Annotated[
        Path | None,
        opt.option(
            "--output",
            "-o",
            metavar="DIR",
            help="The directory of the results.",
            default="./NAME_labels, after the folder's name",
            panel=opt.OUTPUT,
        ),
    ] = None,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Write the labels of each image in a folder.

    Each image gets a CSV `label,probability` in a tree like the folder's; `labels.csv` and `probabilities.csv` hold
    all images, `errors.csv` those that could not be opened, `summary.json` the account. Prints the directory. The
    exit code is 3 if an image could not be opened.
    """
    wanted = opt.read_threshold(threshold)
    reading = opt.reading(context)
    from labelr.tagging.tag import tag as tag_images

    with console.session(quiet=quiet, verbose=verbose) as track:
        summary = tag_images(
            photos, model, output=output, threshold=wanted, threshold_file=threshold_file, recursive=recursive,
            on_error=reading.on_error, max_pixels=reading.max_pixels, force=force, machine=opt.machine(context),
            track=track,
        )  # fmt: skip
    if json:
        console.show_json(summary.to_json())
    else:
        console.show_line(summary.output)
    if summary.failed:
        raise typer.Exit(EXIT_ATTENTION)
