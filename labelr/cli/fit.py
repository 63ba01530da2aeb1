"""``labelr fit``."""

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

from labelr import console
from labelr.cli import options as opt
from labelr.cli.scores import show_evaluation, warn_of_few_positives
from labelr.config import TrainConfig
from labelr.fields import SettingError

AS_MANY_AS_SET = -1
"""The number of an option ``--synthetic`` that stands alone."""


class FitCommand(TyperCommand):
    """A command whose option ``--synthetic`` may stand without its number."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def]
        """Puts a number behind a ``--synthetic`` that stands alone."""
        filled = []
        for position, argument in enumerate(args):
            follower = args[position + 1] if position + 1 < len(args) else ""
            alone = argument == "--synthetic" and not follower.isdecimal()
            filled.append(f"--synthetic={AS_MANY_AS_SET}" if alone else argument)
        return super().parse_args(ctx, filled)


def check_source_and_place(
    data: list[Path] | None, synthetic: int | None, name: str | None, output: Path | None
) -> None:
    """Raises SettingError unless there is one source of images, and at most one place for the model."""
    if (not data) == (synthetic is None):
        raise SettingError("expected either a folder of images or drawn ones", "give DATA or `--synthetic`, not both")
    if name is not None and output is not None:
        raise SettingError("a model in a directory has the directory's name", "give `--name` or `--output`, not both")


def fit(
    context: typer.Context,
    data: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DATA", help="Folders of labelled images, one data set.", show_default=False),
    ] = None,
    synthetic: Annotated[
        int | None,
        opt.option(
            "--synthetic",
            metavar="[N]",
            help=f"Train on N drawn images instead of DATA (N is {opt.DEFAULTS.synthetic} unless given).",
            panel=opt.DATA,
        ),
    ] = None,
    num_labels: opt.NumLabels = opt.DEFAULTS.num_labels,
    labels: opt.Labels = opt.NOTHING,
    layout: opt.Layout = opt.DEFAULTS.layout,
    images: opt.Images = opt.DEFAULTS.images,
    only: opt.Only = opt.NOTHING,
    exclude: opt.Exclude = opt.NOTHING,
    minus_one: opt.MinusOne = opt.DEFAULTS.minus_one,
    blank: opt.Blank = opt.DEFAULTS.blank,
    tag_separator: opt.TagSeparator = opt.DEFAULTS.tag_separator,
    group: opt.Group = opt.DEFAULTS.group,
    folds: opt.Folds = opt.DEFAULTS.folds,
    splits: opt.Splits = opt.DEFAULTS.splits,
    val_fraction: opt.ValFraction = opt.DEFAULTS.val_fraction,
    test_fraction: opt.TestFraction = opt.DEFAULTS.test_fraction,
    skip_missing: opt.SkipMissing = opt.DEFAULTS.skip_missing,
    skip_invalid: opt.SkipInvalid = opt.DEFAULTS.skip_invalid,
    on_error: opt.OnError = opt.DEFAULTS.on_error,
    max_pixels: opt.MaxPixels = opt.DEFAULTS.max_pixels,
    image_size: opt.ImageSize = opt.DEFAULTS.image_size,
    resize: opt.Resize = opt.DEFAULTS.resize,
    flip: opt.Flip = opt.DEFAULTS.flip,
    stem: opt.Stem = opt.DEFAULTS.stem,
    width: opt.Width = opt.DEFAULTS.width,
    dropout: opt.Dropout = opt.DEFAULTS.dropout,
    epochs: opt.Epochs = opt.DEFAULTS.epochs,
    time: opt.Time = opt.DEFAULTS.time,
    batch_size: opt.BatchSize = opt.DEFAULTS.batch_size,
    micro_batch: opt.MicroBatch = opt.DEFAULTS.micro_batch,
    optimizer: opt.Optimizer = opt.DEFAULTS.optimizer,
    lr: opt.Lr = opt.DEFAULTS.lr,
    weight_decay: opt.WeightDecay = opt.DEFAULTS.weight_decay,
    ema: opt.Ema = opt.DEFAULTS.ema,
    augment: opt.Augment = opt.DEFAULTS.augment,
    vertical_flip: opt.VerticalFlip = opt.DEFAULTS.vertical_flip,
    mixup: opt.Mixup = opt.DEFAULTS.mixup,
    progressive: opt.Progressive = opt.DEFAULTS.progressive,
    patience: opt.Patience = opt.DEFAULTS.patience,
    select: opt.Select = opt.DEFAULTS.select,
    target_precision: opt.TargetPrecision = opt.DEFAULTS.target_precision,
    target_recall: opt.TargetRecall = opt.DEFAULTS.target_recall,
    seed: opt.Seed = opt.DEFAULTS.seed,
    device: opt.Device = opt.DEFAULTS.device,
    amp: opt.Amp = opt.DEFAULTS.amp,
    threads: opt.Threads = opt.DEFAULTS.threads,
    workers: opt.Workers = opt.DEFAULTS.workers,
    cache_limit: opt.CacheLimit = opt.DEFAULTS.cache_limit,
    compile: opt.Compile = opt.DEFAULTS.compile,
    config: Annotated[
        Path | None,
        opt.option(
            "--config",
            metavar="FILE",
            help="Take settings from a TOML or JSON file, such as a model's config.json; options win over it.",
            panel=opt.TRAINING,
        ),
    ] = None,
    name: Annotated[
        str | None,
        opt.option(
            "--name", help="The model's name.", default="the data folder's, with a number if taken", panel=opt.OUTPUT
        ),
    ] = None,
    output: Annotated[
        Path | None,
        opt.option(
            "--output", "-o", metavar="DIR", help="Save the model here instead of the user's cache.", panel=opt.OUTPUT
        ),
    ] = None,
    log_dir: Annotated[
        Path | None,
        opt.option(
            "--log-dir", metavar="DIR", help="Write the scores of each epoch here, for TensorBoard.", panel=opt.OUTPUT
        ),
    ] = None,
    checkpoint_minutes: opt.CheckpointMinutes = opt.DEFAULTS.checkpoint_minutes,
    resume: Annotated[
        bool,
        opt.option(
            "--resume",
            help="Go on with the run that was stopped, to the same result; without one, begin. Not with `--time`.",
            panel=opt.OUTPUT,
        ),
    ] = False,
    report: opt.Report = opt.DEFAULTS.report,
    plot_format: opt.PlotFormat = opt.DEFAULTS.plot_format,
    suspects: opt.Suspects = None,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Train a model on a folder of images and its label file.

    Prints the model's directory as the only line on stdout; `report/report.html` in it shows how good the model is.
    DATA holds images and their labels as you have them: a table, an export of an annotation tool, text files beside
    the images, or folders named after labels. How it is read stands in the first lines on stderr; `labelr check DATA`
    looks closer and trains nothing.
    """
    check_source_and_place(data, synthetic, name, output)
    chosen = opt.given(context)
    if synthetic == AS_MANY_AS_SET:
        del chosen["synthetic"]
    settings = TrainConfig.of(TrainConfig.read(config) if config else None, **chosen)
    from labelr.training.fit import fit as train

    with console.session(quiet=quiet, verbose=verbose) as track:
        result = train(
            data,
            settings,
            name=name,
            output=output,
            log_dir=log_dir,
            suspects=suspects,
            force=force,
            resume=resume,
            track=track,
        ).to_json()
    if not quiet and result["scored_on"]:
        show_evaluation(result, to=console.stderr)
        warn_of_few_positives(result)
    if json:
        console.show_json(result)
    else:
        console.show_line(result["model"])
