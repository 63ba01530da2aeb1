"""Every setting once: its type, default, range, help text and option."""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from labelr.fields import SettingError, Settings, option_of, setting

PANELS = (
    "Data", "Invalid data", "Split", "Model", "Labels", "Search", "Network", "Training", "Machine", "Output",
    "Further output",
)  # fmt: skip
"""The groups of options in ``--help``, in order."""
DATA_PANELS = ("Data", "Invalid data", "Split")
"""The groups of those that say how a data set is read."""
_data = partial(setting, panel="Data")
_invalid = partial(setting, panel="Invalid data")
_split = partial(setting, panel="Split")
_model = partial(setting, panel="Model")
_labels = partial(setting, panel="Labels")
_search = partial(setting, panel="Search")
_network = partial(setting, panel="Network", searchable=True)
_training = partial(setting, panel="Training")
_searchable = partial(setting, panel="Training", searchable=True)
_machine = partial(setting, panel="Machine")
_output = partial(setting, panel="Output")
_further = partial(setting, panel="Further output")

MAX_PIXELS = 200_000_000
MAX_CELLS = 10_000_000
MIN_EPOCHS, MAX_EPOCHS, EPOCHS_OF_1000 = 30, 200, 60
"""Without pretrained weights, 1,000 photographs are trained for 60 epochs, fewer for more, but not in proportion."""
MIXUP, MIXUP_EPOCHS = 0.3, 45
"""Without pretrained weights, runs of this many epochs or more mix images: it pays in 60, and costs quality in 15."""
FINE_TUNING_EPOCHS, MAX_FINE_TUNING_EPOCHS, FINE_TUNING_STEPS = 12, 30, 200
"""Pretrained weights are trained for this many epochs, and for more if they have less than this many steps."""
DEFAULT_TRIALS = 20
NO_CLUSTER = "none"
"""Stands for no Ray cluster."""

Device = Literal["auto", "cpu", "cuda", "mps"]
ResizeRule = Literal["squish", "letterbox", "crop"]
Stem = Literal["deep", "classic"]
PlotFormat = Literal["png", "svg"]
PLOT_FORMATS: tuple[PlotFormat, ...] = get_args(PlotFormat)
Criterion = Literal["map", "f1_micro", "f1_macro", "exact_match"]
"""The validation metric that epochs and settings are selected by."""
DEFAULT_CRITERION: Criterion = "map"
Layout = Literal[
    "auto", "wide", "tags", "long", "classes", "open-images", "camtrap-dp", "vertex", "label-studio", "cvat", "coco",
    "voc", "yolo", "tagged", "sidecar", "xmp", "folders",
]  # fmt: skip
LAYOUTS: tuple[Layout, ...] = get_args(Layout)[1:]
SortColumn = Literal[
    "label", "support", "predicted", "tp", "fp", "fn", "tn", "precision", "recall", "f1", "ap", "auroc", "threshold",
]  # fmt: skip
"""The columns of the table of labels of an evaluation."""
TagFormat = Literal["csv", "table", "jsonl", "txt", "xmp", "parquet", "coco", "label-studio", "cvat"]
SortKind = Literal["symlink", "hardlink", "copy"]
TABLE_FORMATS = frozenset({"csv", "table"})
"""The formats that hold only what the model predicts, without further tags."""


@dataclass(frozen=True, kw_only=True)
class MachineOptions(Settings):
    """Where and how fast the work is done."""

    device: Device = _machine("auto", "Device of the network; auto: cuda, else mps, else cpu.")
    amp: bool | None = _machine(None, "Automatic mixed precision; auto: on if the processor computes in 16 bits.")
    tf32: bool = _machine(False, "Instead of mixed precision, float32 with products in TF32, on an NVIDIA GPU.")
    threads: int | None = _machine(
        None, "CPU threads, which do not change results; auto: as many as this process may use.", low=1
    )
    workers: int | None = _machine(None, "Threads that decode images; auto: one per CPU thread.", low=1, short="-j")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.amp and self.tf32:
            raise SettingError("amp and tf32 exclude each other", "give `--amp` or `--tf32`, not both")


@dataclass(frozen=True, kw_only=True)
class ImageOptions(Settings):
    """Which image files are opened, and how."""

    ignore: tuple[str, ...] = _data(
        (),
        "Leave out images and folders whose path or name matches, such as `thumbs` or `*_old.jpg`; repeat for several.",
        metavar="GLOB",
    )
    on_error: Literal["skip", "fail"] = _invalid(
        "skip", "Skip images that cannot be opened and list them in errors.csv, or fail."
    )
    max_pixels: int = _invalid(MAX_PIXELS, "Do not open larger images: they may be decompression bombs.", low=1)


@dataclass(frozen=True, kw_only=True)
class TextOptions(Settings):
    """How the text files of the user are read."""

    encoding: str | None = _data(
        None,
        "Encoding of label files and tables, such as cp1252. Default: UTF-8, or what fits their words.",
        metavar="NAME",
    )
    max_cells: int = _invalid(MAX_CELLS, "Do not read label files with more cells, or 10 times as many bytes.", low=1)


@dataclass(frozen=True, kw_only=True)
class ThresholdOptions(Settings):
    """The probabilities from which labels apply."""

    EXCLUSIVE = (("threshold", "threshold_file"),)

    threshold: float | None = _model(
        None, "Probability from which a label applies; auto: the model's threshold for each label.", low=0, high=1
    )
    threshold_file: str | None = _model(
        None, "Table of thresholds, `label,threshold`; labels that it does not name keep the model's.", metavar="FILE"
    )


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Settings):
    """How charts are written."""

    plot_format: PlotFormat = _output("png", "File format of the charts.")


@dataclass(frozen=True, kw_only=True)
class ReadOptions(ImageOptions, TextOptions):
    """How a labelled data set is read."""

    labels: tuple[str, ...] = _data(
        (), "Label file, or folder of label files; repeat for several. Default: found in DATA.", metavar="FILE",
        remote=True,
    )  # fmt: skip
    layout: Layout = _data(
        "auto",
        "Layout of the labels, such as wide, tags, long, coco, yolo or folders; auto: recognised by content.",
        metavar="NAME",
    )
    sheet: str | None = _data(None, "Sheet of a spreadsheet. Default: the only one that has cells.", metavar="NAME")
    image_column: tuple[str, ...] = _data(
        (), "Column of file names; repeat for columns that are joined as folder and file. Default: found by name.",
        metavar="COLUMN",
    )  # fmt: skip
    label_column: tuple[str, ...] = _data(
        (), "Column of labels; repeat for several, whose words become labels such as season=Fall. Default: found.",
        metavar="COLUMN",
    )  # fmt: skip
    annotator: str | None = _data(
        None, "Column that says who judged a row: rows of one image are joined by majority vote.", metavar="COLUMN"
    )
    images: str | None = _data(
        None, "Folder that file names are relative to. Default: DATA/images if it exists, else DATA.", metavar="DIR",
        remote=True,
    )  # fmt: skip
    group: str | None = _split(
        None,
        "Column of the label file whose values (patient, scene, burst) are never spread over several splits.",
        metavar="COLUMN",
    )
    only: tuple[str, ...] = _data((), "Label to use; repeat for several. Default: all labels.", metavar="LABEL")
    exclude: tuple[str, ...] = _data((), "Label or column to leave out; repeat for several.", metavar="LABEL")
    minus_one: Literal["auto", "no", "unknown"] = _data(
        "auto", "Meaning of -1 in a cell; auto: unknown if a cell is 0, no if all others are 1, else an error."
    )
    blank: Literal["auto", "no", "unknown"] = _data(
        "auto", "Meaning of an empty cell; auto: no if no cell says no or if cells hold tags, else unknown."
    )
    tag_separator: str | None = _data(
        None,
        "Separator of tags in a cell, text file or folder name. Default: the first found of | ; , and line breaks.",
    )
    leaf_only: bool = _data(False, "Of keywords in a hierarchy (`--layout xmp`), use the lowest level, not each.")
    skip_missing: bool = _invalid(False, "Leave out rows whose image is missing, instead of failing.")
    skip_invalid: bool = _invalid(False, "Leave out rows that are invalid, instead of failing.")
    trust_predictions: bool | None = _invalid(
        None,
        "Use labels of `labelr tag` that nobody confirmed, or leave them out. Default: ask on a terminal, or fail.",
    )
    cache_limit: float = _machine(
        20.0,
        "Disk space for decoded images and features; the least recently used are deleted first; 0 disables the cache.",
        low=0,
        metavar="GB",
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ReadOptions, ReportOptions, MachineOptions):
    """The settings of a training run.

    None means "auto": what was chosen is stored with the model.
    """

    EXCLUSIVE = (("epochs", "time"), ("target_precision", "target_recall"), ("init", "width"))
    ARGUMENTS = ("data", "config", "name", "output", "log_dir", "suspects", "force", "resume", "track", "progress")

    synthetic: int = _data(1800, "Train on N synthetic images instead of DATA; 1,800 if N is left out.", low=20)
    num_labels: int = _data(6, "Number of labels of synthetic images.", low=1, high=12)

    val_fraction: float = _split(
        0.1, "Fraction of the images to choose thresholds on, and to follow training.", low=0, below=1
    )
    test_fraction: float = _split(0.1, "Fraction of the images to test the trained model on.", low=0, below=1)
    folds: int | None = _split(
        None,
        "Cross-validate: test N models on a fold each, then train one on all images.",
        low=2,
        high=100,
        metavar="N",
    )
    splits: tuple[str, ...] | None = _split(
        None,
        "Table that assigns images to splits, such as a model's splits.csv; lists such as train.txt, or their folder.",
        metavar="FILE|DIR",
    )

    backbone: str = _network(
        "none",
        "Pretrained network of `labelr backbones`; auto: best on this machine; none: from scratch.",
        metavar="NAME",
    )
    weights: str = _network(
        "default", "Weights of the backbone: default, none (random), or a file.", metavar="default|none|FILE"
    )
    init: str | None = _network(
        None, "Model of labelr to start from: its labels keep their weights, new ones are added.", metavar="NAME|DIR"
    )
    train: Literal["auto", "head", "last", "all"] = _network(
        "auto",
        "Layers of a pretrained network to train: head, last (quarter) or all; auto: all, or head for few images.",
    )
    image_size: int | None = _network(
        None,
        "Edge of input images in pixels; auto: 128 on a CPU, 224 on a GPU, 64 if synthetic, or the backbone's.",
        low=32,
        high=2048,
    )
    resize: ResizeRule | None = _network(
        None,
        "How images become square: squish (stretch), letterbox (pad) or crop; auto: squish, or as in `--init`.",
    )
    flip: bool = _network(True, "Flip images horizontally at random in training, and average both views in prediction.")
    stem: Stem = _network("deep", "First layers of the network: three 3x3 convolutions (deep) or one of 7x7 (classic).")
    width: float | None = _network(
        None, "Multiplier of the network's channel counts; auto: 1, or 0.5 for synthetic images.", low=0.125, high=8
    )
    dropout: float = _network(0.3, "Dropout probability before the last layer.", low=0, below=1)

    epochs: int | None = _searchable(
        None, "Number of epochs; auto: 60 for 1,000 photographs, 30 if synthetic, or 13 or more if pretrained.", low=1
    )
    time: float | None = _training(
        None,
        "Time limit of the whole command, instead of `--epochs`; stops early only with `--patience`.",
        low=0.01,
        metavar="MINUTES",
    )
    batch_size: int | None = _searchable(
        None,
        "Images per step; auto: 64, or 32 if synthetic or pretrained, and fewer for few images.",
        low=2,
        short="-b",
    )
    micro_batch: int | None = _training(
        None, "Images per forward pass; auto: 16 on a CPU, else the batch, and fewer if memory runs out.", low=2
    )
    optimizer: Literal["muon", "adamw"] | None = _searchable(
        None, "Optimizer: muon (AdamW where it does not apply) or adamw; auto: muon, or adamw if pretrained."
    )
    lr: float | None = _searchable(
        None,
        "Peak learning rate; auto: 0.004, or 0.0015 for adamw on photographs, 0.001 if pretrained.",
        low=1e-8,
        below=10,
    )
    weight_decay: float = _searchable(0.05, "Decoupled weight decay, without normalisation layers and biases.", low=0)
    ema: float = _searchable(0.99, "Decay per step of the averaged weights, which are saved; 0: off.", low=0, below=1)
    mixup: float | None = _searchable(
        None, "Mix pairs of images by Beta(mixup, mixup); auto: 0.3 from 45 epochs on, 0 if pretrained.", low=0
    )
    augment: Literal["none", "light", "strong"] | None = _searchable(
        None, "Augmentation of training images: none, light or strong; auto: light, or strong if pretrained."
    )
    vertical_flip: bool = _searchable(False, "Flip training images vertically at random, for example aerial images.")
    progressive: bool | None = _searchable(
        None, "Train on smaller images first, full size in the last third; auto: yes, or no if pretrained."
    )
    patience: int | None = _searchable(
        None, "Stop after this many epochs without a better validation score. Default: train all epochs.", low=1
    )
    select: Criterion | None = _training(
        None,
        "Keep the best epoch by map, f1_micro, f1_macro or exact_match; auto: last, map with `--patience`.",
        metavar="METRIC",
    )
    target_precision: float | None = _training(
        None, "Choose thresholds for this precision of each label, with 90 % confidence, not for F1.", low=0.01, below=1
    )
    target_recall: float | None = _training(
        None, "Choose thresholds for this recall of each label on validation images, not for F1.", low=0.01, high=1
    )
    seed: int = _training(
        0, "Random seed of split, initial weights, order of images and augmentation.", low=0, high=2**31 - 1
    )
    devices: int | None = _machine(
        None, "Number of GPUs, or of processes on the CPU, that train together; auto: 1, or those of torchrun.", low=1
    )
    compile: bool = _machine(False, "Compile the network with torch.compile: slow first steps; needs a C++ compiler.")

    checkpoint_minutes: float = _output(
        5.0, "Time between checkpoints within long epochs; each epoch ends with one.", low=0, metavar="MINUTES"
    )
    report: bool = _output(True, "Write report/report.html and its charts.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.val_fraction + self.test_fraction >= 1:
            raise SettingError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave nothing to train on",
                "make them smaller: their sum must be below 1",
            )
        if self.folds is not None:
            self._check_folds()
        self._check_start()

    def _check_start(self) -> None:
        other = "--init" if self.init is not None else "--backbone" if self.backbone != "none" else ""
        if self.init is not None and self.backbone != "none":
            raise SettingError("init and backbone exclude each other", "give `--init` or `--backbone`, not both")
        if other and (self.stem != type(self).stem or self.width is not None):
            option = "--stem" if self.stem != type(self).stem else "--width"
            raise SettingError(f"`{option}` is of the residual CNN", f"give `{option}` or `{other}`, not both")
        if self.backbone == "none" and self.weights != "default":
            raise SettingError("weights are of a backbone", "name it with `--backbone`, or leave `--weights` out")
        if self.train in ("head", "last") and not self.is_pretrained:
            raise SettingError(
                f"without pretrained weights all layers are trained, not only {self.train}",
                "name a `--backbone` or a model with `--init`, or leave `--train` out",
            )
        if self.train in ("last", "all") and self.is_pretrained and self.epochs == 1:
            raise SettingError("the first epoch trains the head alone", "give 2 `--epochs` or more, or `--train head`")
        if self.train == "head" and (self.devices or 1) > 1:
            raise SettingError(
                "the head alone is trained in one process, on features that are computed once",
                "leave `--devices` out, or torchrun",
            )

    @property
    def is_pretrained(self) -> bool:
        """Whether training starts from weights that were trained before."""
        return self.init is not None or (self.backbone != "none" and self.weights != "none")

    def _check_folds(self) -> None:
        for name in ("time", "splits", "test_fraction"):
            if getattr(self, name) != getattr(type(self), name):
                option = option_of(name)
                raise SettingError(
                    f"folds test on each image once, for a number of epochs: `{option}` has no meaning there",
                    f"give `--folds` or `{option}`, not both",
                )

    def resolved(self, machine: MachineOptions, *, num_train: int, is_synthetic: bool) -> "TrainConfig":
        """The settings with every "auto" resolved, those of the machine as in `machine`."""
        default_size = 64 if is_synthetic else 128 if machine.device == "cpu" else 224
        largest = 32 if is_synthetic or self.is_pretrained else 64
        batch_sizes = (size for size in (64, 32, 16) if num_train >= 16 * size and size <= largest)
        batch_size = self.batch_size or next(batch_sizes, 8)
        optimizer = self.optimizer or ("adamw" if self.is_pretrained else "muon")
        default_lr = 1e-3 if self.is_pretrained else 4e-3 if is_synthetic or optimizer == "muon" else 1.5e-3
        has_width = self.init is None and self.backbone == "none"
        epochs = 1 if self.train == "head" and self.time is None else self.epochs
        if epochs is None and self.time is None:
            epochs = self._default_epochs(num_train, num_train // batch_size, is_synthetic=is_synthetic)
        is_long = not self.is_pretrained and (epochs or 0) >= MIXUP_EPOCHS
        return dataclasses.replace(
            self,
            image_size=self.image_size or default_size,
            resize=self.resize or "squish",
            epochs=epochs,
            mixup=(MIXUP if is_long else 0.0) if self.mixup is None else self.mixup,
            select=self.select or (DEFAULT_CRITERION if self.patience else None),
            width=self.width or (0.5 if is_synthetic else 1.0) if has_width else None,
            batch_size=batch_size,
            optimizer=optimizer,
            lr=self.lr or default_lr,
            progressive=not self.is_pretrained if self.progressive is None else self.progressive,
            augment=self.augment or ("strong" if self.is_pretrained else "light"),
            device=machine.device,
            amp=machine.amp,
            threads=machine.threads,
            workers=machine.workers,
        )

    def _default_epochs(self, num_train: int, steps: int, *, is_synthetic: bool) -> int:
        """The default number of epochs, given the images and the steps of one."""
        if not self.is_pretrained:
            wanted = 0 if is_synthetic else round(EPOCHS_OF_1000 * math.sqrt(1000 / max(1, num_train)))
            return max(MIN_EPOCHS, min(MAX_EPOCHS, wanted))
        return 1 + max(FINE_TUNING_EPOCHS, min(MAX_FINE_TUNING_EPOCHS, FINE_TUNING_STEPS // max(1, steps)))


def applicable(settings: Mapping[str, Any], *, is_synthetic: bool) -> dict[str, Any]:
    """The settings of a training run without those that have no meaning for its data, network and split."""
    of_synthetic = {"synthetic", "num_labels"}
    of_data = {field.name for field in dataclasses.fields(ReadOptions) if field.metadata["panel"] in DATA_PANELS}
    unused = of_data - {"only", "exclude"} if is_synthetic else of_synthetic
    has_backbone, has_start = settings["backbone"] != "none", settings["init"] is not None
    unused |= set() if has_backbone else {"weights"}
    unused |= {"stem", "width"} if has_backbone or has_start else {"train"}
    unused |= {"test_fraction"} if settings["folds"] or settings["splits"] else set()
    unused |= {"epochs"} if settings["time"] else {"time"}
    return {name: value for name, value in settings.items() if name not in unused}


SEARCHABLE = tuple(field.name for field in dataclasses.fields(TrainConfig) if field.metadata["searchable"])
"""The settings that `tune` may give several values."""
DEPENDENT = ("backbone", "weights", "init", "train", "stem", "width")
"""Those of them that do not all fit each other."""


def check_place(name: str | None, output: object) -> None:
    """Raises SettingError if a model would have two places."""
    if name is not None and output is not None:
        raise SettingError("a model in a directory has the directory's name", "give `--name` or `--output`, not both")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ReadOptions, ThresholdOptions, ReportOptions, MachineOptions):
    """How a model is evaluated."""

    ARGUMENTS = ("data", "model", "options", "output", "suspects", "force", "track", "progress")

    split: Literal["auto", "train", "val", "test", "all"] = _data(
        "auto", "Images to evaluate on: a split of the training run, or all; auto: all not used in training."
    )
    common_labels: bool = _data(False, "If the data lacks labels of the model, evaluate those that both have.")
    sort: SortColumn | None = _output(
        None,
        "Sort the table of labels by a column, such as f1, highest first. Default: the model's order.",
        metavar="COLUMN",
    )


@dataclass(frozen=True, kw_only=True)
class CompareOptions(ReadOptions, ThresholdOptions, MachineOptions):
    """How models are compared."""


@dataclass(frozen=True, kw_only=True)
class TagOptions(ImageOptions, ThresholdOptions, TextOptions, MachineOptions):
    """Which images are tagged, and which labels are written in which formats."""

    ARGUMENTS = ("photos", "model", "options", "files_from", "output", "force", "dry_run", "track", "progress")

    recursive: bool = _data(True, "Search subfolders too.")
    top_k: int | None = _labels(
        None, "Write at most this many labels per image, the most probable; auto: no limit.", low=1
    )
    min_labels: int = _labels(0, "Write at least this many labels per image: the most probable if fewer apply.", low=0)
    only: tuple[str, ...] = _labels((), "Label to write; repeat for several. Default: all labels.", metavar="LABEL")
    exclude: tuple[str, ...] = _labels((), "Label to leave out; repeat for several.", metavar="LABEL")
    rename: str | None = _labels(
        None, "Table `label,written` of the names by which labels are written; others keep theirs.", metavar="FILE"
    )
    prefix: str | None = _labels(None, "Text before the name of each label in the results, such as `auto:`.")
    always: tuple[str, ...] = _labels(
        (), "Further tag of each image, except in csv and table; repeat for several.", metavar="TAG"
    )
    format: tuple[TagFormat, ...] = _output(
        (),
        "coco, csv, cvat, jsonl, label-studio, parquet, table, txt, xmp; repeatable. Default: csv, table.",
        metavar="NAME",
    )
    csv_style: Literal["plain", "excel"] = _output(
        "plain", "CSV with commas (plain), or with semicolons and a byte order mark for Excel with decimal commas."
    )
    in_place: bool = _output(False, "Write the files of single images (csv, txt, xmp) next to them.")
    append: bool = _output(False, "Append to existing txt files, and keep the tags in them.")
    sort_into: str | None = _further(
        None, "Sort the images into a folder for each label; what labelr made there is updated.", metavar="DIR"
    )
    sort_as: SortKind = _further("symlink", "What `--sort-into` makes: symlink, hardlink or copy.", metavar="KIND")
    xmp_name: Literal["full", "stem"] = _further(
        "full", "Name of XMP files: a.jpg.xmp (full), or a.xmp (stem) as for raw files in Lightroom."
    )
    xmp_root: str = _further("", "Parent keyword of the labels in XMP, such as `auto`.", metavar="NAME")
    embed: bool = _further(False, "Write XMP into JPEG images themselves; other images get an XMP file.")
    backup: bool = _further(True, "Keep the original of an image that `--embed` changes as a.jpg.bak.")
    gallery: bool = _further(False, "Write gallery/index.html: thumbnails by label, the most probable first.")
    uncertain: int = _further(
        0, "List the N images closest to their thresholds in uncertain.csv, to label them next.", low=0, metavar="N"
    )
    engine: Literal["auto", "torch", "onnx"] = _machine(
        "auto", "What computes: torch, or onnx for what `labelr export` wrote; auto: onnx for an ONNX file."
    )
    ray: str = _machine(
        NO_CLUSTER,
        "Ray cluster to tag on: local (started on this machine), auto (the running one), or its address.",
        metavar="local|auto|ADDRESS",
    )
    num_gpus: float = _machine(0.0, "GPUs of each worker on a Ray cluster; 0: workers use CPUs.", low=0, high=1024)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.in_place and not {"csv", "txt", "xmp"} & set(self.formats):
            raise SettingError(
                "there are no files of single images to write next to them", "add `--format csv`, `txt` or `xmp`"
            )
        self._check_xmp()
        if self.append and "txt" not in self.formats:
            raise SettingError("only txt files can be appended to", "add `--format txt`, or leave out `--append`")
        if self.always and set(self.formats) <= TABLE_FORMATS:
            raise SettingError(
                "always: csv and table hold only what the model predicts",
                "add a format of tags, such as `--format txt`",
            )
        if self.sort_into is None and self.sort_as != type(self).sort_as:
            raise SettingError("sort_as: there is no folder to sort into", "name one with `--sort-into DIR`")
        if self.top_k is not None and self.min_labels > self.top_k:
            raise SettingError(
                f"min_labels {self.min_labels} is more than top_k {self.top_k}", "increase `--top-k`, or leave it out"
            )
        self._check_ray()

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats that are written, each once."""
        return tuple(dict.fromkeys(self.format or ("csv", "table")))

    @property
    def reads_images_again(self) -> bool:
        """Whether an image is opened again after it was tagged."""
        return bool(self.gallery or self.uncertain or self.sort_into is not None or "xmp" in self.formats)

    def _check_xmp(self) -> None:
        chosen = {"--xmp-name": self.xmp_name != "full", "--xmp-root": self.xmp_root, "--embed": self.embed}
        given = next((option for option, is_given in chosen.items() if is_given), "")
        if given and "xmp" not in self.formats:
            raise SettingError(f"`{given}` is of XMP, which is not written", f"add `--format xmp` to `{given}`")
        if self.embed and not self.in_place:
            raise SettingError("`--embed` changes the images themselves", "add `--in-place` if that is meant")
        if not self.backup and not self.embed:
            raise SettingError("without `--embed`, no image is changed", "leave `--no-backup` out")

    def _check_ray(self) -> None:
        if self.num_gpus and self.ray == NO_CLUSTER:
            raise SettingError("num_gpus: there is no Ray cluster whose GPUs to use", "name one with `--ray`")
        if self.num_gpus and self.device == "cpu":
            raise SettingError("num_gpus: workers on the CPU use no GPU", "leave out `--num-gpus` or `--device`")
        if self.ray != NO_CLUSTER and self.device == "cuda" and not self.num_gpus:
            raise SettingError("device: workers on a Ray cluster get no GPU", "ask for it with `--num-gpus 1`")
        if self.ray not in (NO_CLUSTER, "local", "auto") and not re.fullmatch(r"[^\s/]+:\d{1,5}", self.ray):
            raise SettingError(
                f"ray: expected local, auto or HOST:PORT, got {self.ray!r}",
                "run labelr on a node of the cluster, with `--ray auto`",
            )

    @property
    def file_kinds(self) -> tuple[str, ...]:
        """The kinds of files of single images that are written, as `file_names` takes them."""
        own = {"csv": "csv", "txt": "txt", "xmp": "xmp" if self.xmp_name == "full" else "xmp stem"}
        return tuple(kind for name, kind in own.items() if name in self.formats)

    @property
    def for_excel(self) -> bool:
        """Whether CSV files are written as Excel opens them."""
        return self.csv_style == "excel"


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Settings):
    """How a model is exported."""

    ARGUMENTS = ("model", "output", "options", "data", "force", "track", "progress")

    format: Literal["onnx"] = _output("onnx", "Format of the file.")
    int8: bool = _output(
        False, "Quantise to int8: smaller and faster; refused if it lowers mAP on the validation split by 0.005."
    )


@dataclass(frozen=True, kw_only=True)
class TuneOptions(Settings):
    """How settings are searched."""

    sampler: Literal["auto", "grid", "random", "tpe"] = _search(
        "auto", "Points to try: all (grid), random ones, or the most promising (tpe); auto: grid, or tpe for ranges."
    )
    trials: int | None = _search(
        None, f"Maximum number of points; auto: the whole grid, else {DEFAULT_TRIALS}, or what `--time` allows.", low=1
    )
    time: float | None = _search(
        None, "Time limit of the search; the best point is trained after that.", low=0.01, metavar="MINUTES"
    )
    prune: bool = _search(False, "Stop trials early that are worse than others at the same epoch (successive halving).")
    seeds: int = _search(1, "Train each point with this many seeds; compare the mean scores.", low=1, high=100)
    jobs: int = _search(
        1, "Trials to run in parallel, each in a process; they share the CPU threads.", low=1, high=1024
    )
    metric: Criterion = _search(
        DEFAULT_CRITERION,
        "Validation metric to maximise: map, or at threshold 0.5 f1_micro, f1_macro or exact_match.",
        metavar="METRIC",
    )
    refit: bool = _search(True, "Train the best point again, save it as a model, and test it on the test split.")
