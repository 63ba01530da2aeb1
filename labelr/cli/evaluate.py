"""``labelr evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from labelr import console
from labelr.cli import options as opt


def evaluate(
    context: typer.Context,
    data: Annotated[list[Path], typer.Argument(metavar="DATA", help="Folders of labelled images.", show_default=False)],
    model: opt.Model = None,
    threshold: opt.Threshold = "auto",
    split: Annotated[
        str,
        opt.option(
            "--split",
            metavar="[auto|train|val|test|all]",
            help="Which images are scored; auto: all that the model has not learned from, by their content.",
            panel=opt.DATA,
        ),
    ] = "auto",
    labels: opt.Labels = opt.NOTHING,
    layout: opt.Layout = opt.DEFAULTS.layout,
    images: opt.Images = opt.DEFAULTS.images,
    only: opt.Only = opt.NOTHING,
    exclude: opt.Exclude = opt.NOTHING,
    minus_one: opt.MinusOne = opt.DEFAULTS.minus_one,
    blank: opt.Blank = opt.DEFAULTS.blank,
    tag_separator: opt.TagSeparator = opt.DEFAULTS.tag_separator,
    skip_missing: opt.SkipMissing = opt.DEFAULTS.skip_missing,
    skip_invalid: opt.SkipInvalid = opt.DEFAULTS.skip_invalid,
    on_error: opt.OnError = opt.DEFAULTS.on_error,
    max_pixels: opt.MaxPixels = opt.DEFAULTS.max_pixels,
    device: opt.Device = opt.DEFAULTS.device,
    amp: opt.Amp = opt.DEFAULTS.amp,
    threads: opt.Threads = opt.DEFAULTS.threads,
    workers: opt.Workers = opt.DEFAULTS.workers,
    cache_limit: opt.CacheLimit = opt.DEFAULTS.cache_limit,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Print how good a model is on labelled images.

    Precision, recall and F1 follow scikit-learn with zero_division=0: an image that rightly gets no label counts 0 in
    the samples average. Unknown cells count nowhere.
    """
    wanted = opt.read_threshold(threshold)
    reading = opt.reading(context)
    from labelr.scoring.evaluate import evaluate as score

    with console.session(quiet=quiet, verbose=verbose) as track:
        machine = opt.machine(context)
        result = score(
            data, model, options=reading, split=split, threshold=wanted, machine=machine, track=track
        ).to_json()
    if json:
        console.show_json(result)
    else:
        console.show_evaluation(result)
