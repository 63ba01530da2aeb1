"""Every option, defined once: its flags, its help, and the panel of ``--help`` that it stands in."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelr.config import ReadOptions, TagOptions, TrainConfig
from labelr.fields import SettingError, Settings, choices_of

if TYPE_CHECKING:
    from labelr.model import device

DEFAULTS = TrainConfig()
NOTHING: list[str] = []
"""The default of options that may be given several times."""
TAG_DEFAULTS = TagOptions()


def option(*flags: str, help: str, panel: str, metavar: str | None = None, default: str | bool = True) -> Any:
    """An option of a command alone; `default` is how its default is shown."""
    return typer.Option(
        *flags, help=help, metavar=metavar, rich_help_panel=panel, show_default=default, show_envvar=False
    )


def setting(name: str, *flags: str, panel: str, metavar: str | None = None, of: type[Settings] = TrainConfig) -> Any:
    """The option of a setting, its help taken from where it is defined; None is shown as "auto"."""
    field = next(field for field in dataclasses.fields(of) if field.name == name)
    choices, help_text = choices_of(field), str(field.metadata["help"])
    return option(
        *flags or (f"--{name.replace('_', '-')}",),
        help=help_text,
        panel=panel,
        metavar=metavar or (f"[{'|'.join(choices)}]" if choices else None),
        default="auto" if "auto:" in help_text else field.default not in (None, ()),
    )


def tag_setting(name: str, *flags: str, panel: str, metavar: str | None = None) -> Any:
    """The option of a setting of `TagOptions`."""
    return setting(name, *flags, panel=panel, metavar=metavar, of=TagOptions)


def given(context: typer.Context, of: type[Settings] = TrainConfig) -> dict[str, Any]:
    """The settings among a command's options that were given, on the line or in the environment."""
    names = {field.name for field in dataclasses.fields(of)}
    chosen = {name: value for name, value in context.params.items() if name in names}
    return {name: value for name, value in chosen.items() if _source(context, name) != "DEFAULT"}


def _source(context: typer.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    return source.name if source else "DEFAULT"


DATA, LABELS, NETWORK, TRAINING = "Data", "Labels", "Network", "Training"
SEARCH, MACHINE, OUTPUT = "Search", "Machine", "Output"

Labels = Annotated[list[str], setting("labels", panel=DATA, metavar="FILE")]
Layout = Annotated[str, setting("layout", panel=DATA, metavar="NAME")]
Only = Annotated[list[str], setting("only", panel=DATA, metavar="LABEL")]
Exclude = Annotated[list[str], setting("exclude", panel=DATA, metavar="LABEL")]
MinusOne = Annotated[str, setting("minus_one", panel=DATA)]
Blank = Annotated[str, setting("blank", panel=DATA)]
TagSeparator = Annotated[str | None, setting("tag_separator", panel=DATA, metavar="TEXT")]
Group = Annotated[str | None, setting("group", panel=DATA)]
Splits = Annotated[str | None, setting("splits", panel=DATA)]
Images = Annotated[str | None, setting("images", panel=DATA)]
SkipMissing = Annotated[bool, setting("skip_missing", "--skip-missing", panel=DATA)]
SkipInvalid = Annotated[bool, setting("skip_invalid", "--skip-invalid", panel=DATA)]
OnError = Annotated[str, setting("on_error", panel=DATA)]
MaxPixels = Annotated[int, setting("max_pixels", panel=DATA)]
CacheLimit = Annotated[float, setting("cache_limit", panel=MACHINE)]
ValFraction = Annotated[float, setting("val_fraction", panel=DATA)]
TestFraction = Annotated[float, setting("test_fraction", panel=DATA)]
Folds = Annotated[int | None, setting("folds", panel=DATA)]
NumLabels = Annotated[int, setting("num_labels", panel=DATA)]

ImageSize = Annotated[int | None, setting("image_size", panel=NETWORK)]
Resize = Annotated[str, setting("resize", panel=NETWORK)]
Flip = Annotated[bool, setting("flip", "--flip/--no-flip", panel=NETWORK)]
Stem = Annotated[str, setting("stem", panel=NETWORK)]
Width = Annotated[float | None, setting("width", panel=NETWORK)]
Dropout = Annotated[float, setting("dropout", panel=NETWORK)]

Epochs = Annotated[int | None, setting("epochs", panel=TRAINING)]
Time = Annotated[float | None, setting("time", "--time", panel=TRAINING, metavar="MINUTES")]
BatchSize = Annotated[int | None, setting("batch_size", "--batch-size", "-b", panel=TRAINING)]
MicroBatch = Annotated[int | None, setting("micro_batch", panel=TRAINING)]
Optimizer = Annotated[str, setting("optimizer", panel=TRAINING)]
Lr = Annotated[float | None, setting("lr", panel=TRAINING)]
WeightDecay = Annotated[float, setting("weight_decay", panel=TRAINING)]
Ema = Annotated[float, setting("ema", panel=TRAINING)]
Mixup = Annotated[float, setting("mixup", panel=TRAINING)]
Augment = Annotated[str, setting("augment", panel=TRAINING)]
VerticalFlip = Annotated[bool, setting("vertical_flip", "--vertical-flip/--no-vertical-flip", panel=TRAINING)]
Progressive = Annotated[bool, setting("progressive", "--progressive/--no-progressive", panel=TRAINING)]
Patience = Annotated[int | None, setting("patience", panel=TRAINING)]
Select = Annotated[str, setting("select", panel=TRAINING)]
TargetPrecision = Annotated[float | None, setting("target_precision", panel=TRAINING)]
TargetRecall = Annotated[float | None, setting("target_recall", panel=TRAINING)]
Seed = Annotated[int, setting("seed", panel=TRAINING)]

Report = Annotated[bool, setting("report", "--report/--no-report", panel=OUTPUT)]
PlotFormat = Annotated[str, setting("plot_format", panel=OUTPUT)]
Suspects = Annotated[
    Path | None,
    option(
        "--suspects",
        metavar="FILE",
        help="Write the given labels that are probably wrong here, the most doubtful first, as a CSV.",
        panel=OUTPUT,
    ),
]

Device = Annotated[str, setting("device", panel=MACHINE)]
Amp = Annotated[bool | None, setting("amp", "--amp/--no-amp", panel=MACHINE)]
Threads = Annotated[int | None, setting("threads", panel=MACHINE)]
Workers = Annotated[int | None, setting("workers", "--workers", "-j", panel=MACHINE)]
CheckpointMinutes = Annotated[float, setting("checkpoint_minutes", panel=OUTPUT, metavar="MINUTES")]
Compile = Annotated[bool, setting("compile", "--compile/--no-compile", panel=MACHINE)]

Model = Annotated[
    str | None,
    option(
        "--model", metavar="NAME|DIR", help="A model by its name or directory.", default="the newest", panel="Model"
    ),
]
Threshold = Annotated[
    str,
    option(
        "--threshold",
        metavar="auto|0..1",
        help="A label applies where its probability is at least this; auto: the model's own threshold of each label.",
        panel="Model",
    ),
]
ThresholdFile = Annotated[
    Path | None,
    option(
        "--threshold-file",
        metavar="FILE",
        help="A CSV `label,threshold` instead; a label that it does not name keeps the model's own threshold.",
        panel="Model",
    ),
]
Json = Annotated[bool, option("--json", help="Print the result as JSON.", panel=OUTPUT)]
Force = Annotated[bool, option("--force", help="Replace a result that is there.", panel=OUTPUT)]
Quiet = Annotated[bool, option("--quiet", "-q", help="Only warnings and errors.", panel=OUTPUT)]
Verbose = Annotated[bool, option("--verbose", "-v", help="Say more.", panel=OUTPUT)]


def read_threshold(text: str) -> float | None:
    """The number that an option ``--threshold`` holds; None for ``auto``.

    Raises:
        SettingError: If it is neither.
    """
    if text == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise SettingError(f"threshold: expected auto or a number from 0 to 1, got {text!r}")
    return value


def reading(context: typer.Context) -> ReadOptions:
    """How a command's data is read, from its options."""
    names = {field.name for field in dataclasses.fields(ReadOptions)}
    return ReadOptions.of({name: value for name, value in given(context).items() if name in names})


def machine(context: typer.Context) -> "device.Runtime":
    """What a command runs on, from its options."""
    from labelr.model.device import pick_runtime

    chosen = TrainConfig.of(given(context))  # checks the values
    return pick_runtime(chosen.device, amp=chosen.amp, threads=chosen.threads, workers=chosen.workers)
