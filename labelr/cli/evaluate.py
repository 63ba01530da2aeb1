"""``labelr evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from labelr import console
from labelr.cli import options as opt
from labelr.cli.scores import show_evaluation, warn_of_few_positives


def evaluate(
    context: typer.Context,
    data: Annotated[list[Path], typer.Argument(metavar="DATA", help="Folders of labelled images.", show_default=False)],
    model: opt.Model = None,
    threshold: opt.Threshold = "auto",
    threshold_file: opt.ThresholdFile = None,
    split: Annotated[
        str,
        opt.option(
            "--split",
            metavar="[auto|train|val|test|all]",
            help="Which images are scored; auto: all that the model has not learned from, by their content.",
            panel=opt.DATA,
        ),
    ] = "auto",
    common_labels: Annotated[
        bool,
        opt.option(
            "--common-labels",
            help="Score the labels that data and model have in common where the data lacks some of the model's.",
            panel=opt.DATA,
        ),
    ] = False,
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
    sort: Annotated[
        str | None,
        opt.option(
            "--sort",
            metavar="COLUMN",
            help="Sort the table of labels by one of its columns, such as f1: highest first.",
            default="the model's order",
            panel=opt.OUTPUT,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        opt.option(
            "--output",
            "-o",
            metavar="DIR",
            help="Write metrics.json, per_label.csv, predictions.csv, errors.csv and the page report/report.html here.",
            panel=opt.OUTPUT,
        ),
    ] = None,
    plot_format: opt.PlotFormat = opt.DEFAULTS.plot_format,
    suspects: opt.Suspects = None,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Print how good a model is on labelled images.

    Precision, recall and F1 follow scikit-learn with zero_division=0: an image that rightly gets no label counts 0 in
    the samples average. Unknown cells count nowhere. Intervals hold 95 % of what other images of the same kind would
    give (bootstrap). The label prior takes each label for as probable as it was frequent in the model's own data,
    random guessing any probability; both write labels from 0.5 on.
    """
    wanted = opt.read_threshold(threshold)
    reading = opt.reading(context)
    from labelr.scoring.evaluate import evaluate as score

    with console.session(quiet=quiet, verbose=verbose) as track:
        machine = opt.machine(context)
        result = score(
            data, model, options=reading, split=split, threshold=wanted, threshold_file=threshold_file,
            common_labels=common_labels, sort=sort, output=output, suspects=suspects,
            plot_format=plot_format, force=force, machine=machine, track=track,
        ).to_json()  # fmt: skip
    if json:
        console.show_json(result)
    else:
        show_evaluation(result)
    warn_of_few_positives(result)
