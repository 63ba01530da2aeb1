"""The settings of a training run: each with its one default, checked once."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from labelr.fields import SettingError, Settings, choice, number, switch, text, texts

MAX_PIXELS = 200_000_000
ResizeRule = Literal["squish", "letterbox", "crop"]
RESIZE_RULES: tuple[ResizeRule, ...] = ("squish", "letterbox", "crop")
STEMS = ("deep", "classic")
OPTIMIZERS = ("muon", "adamw")
AUGMENTS = ("none", "light", "strong")
PLOT_FORMATS = ("png", "svg")
CRITERIA = ("map", "f1_micro", "f1_macro", "exact_match")
"""What epochs and settings are chosen by, on validation images."""
EXCLUSIVE = (("epochs", "time"), ("target_precision", "target_recall"))
LAYOUTS = (
    "wide", "tags", "long", "open-images", "vertex", "label-studio", "cvat", "coco", "voc", "yolo", "tagged", "sidecar",
    "folders",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ReadOptions(Settings):
    """How a labelled data set is read.

    Raises:
        SettingError: If a value is of the wrong kind or out of range.
    """

    labels: tuple[str, ...] = texts(
        help="A label file or a folder of them, once for each; auto: what reads as labels in the data folder."
    )
    layout: str = choice(
        "auto", "auto", *LAYOUTS, help=f"How labels are written: {', '.join(LAYOUTS)}; auto: recognised by their shape."
    )
    images: str | None = text(
        help="The folder that its file names are relative to; auto: `images` in the data folder, else the data folder."
    )
    group: str | None = text(
        help="A column of the label file: images with the same entry (patient, scene, burst) are never divided."
    )
    only: tuple[str, ...] = texts(help="A label to take, several times for several; the others are left out.")
    exclude: tuple[str, ...] = texts(help="A label or column to leave out, several times for several.")
    minus_one: str = choice(
        "auto", "auto", "no", "unknown", help="What -1 means; auto: unknown, and asked for where no cell holds 0."
    )
    blank: str = choice(
        "auto",
        "auto",
        "no",
        "unknown",
        help="What an empty cell means; auto: unknown, and no where no cell says no, or in a cell of tags.",
    )
    tag_separator: str | None = text(
        help="What divides the tags in a cell or text file; auto: the first of | ; , and line breaks that is found."
    )
    skip_missing: bool = switch(False, help="Leave rows out whose image is not there, instead of signals.")
    skip_invalid: bool = switch(False, help="Leave rows out that cannot be understood, instead of signals.")
    on_error: str = choice(
        "skip", "skip", "fail", help="What to do with an image that cannot be opened: leave it out, or stop."
    )
    max_pixels: int = number(
        MAX_PIXELS, low=1, help="A picture with more pixels is not opened: a guard against decompression bombs."
    )
    cache_limit: float = number(
        20.0,
        low=0,
        help="Gigabytes of disk for decoded images; the longest unused go first, and what does not fit is decoded "
        "whenever it is needed. 0 keeps none.",
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ReadOptions):
    """The settings of a training run.

    None stands for "auto": what is chosen then is stored with the model.

    Raises:
        SettingError: If a value is of the wrong kind or out of range.
    """

    val_fraction: float = number(0.1, low=0, below=1, help="Share of the images that choose the best epoch.")
    test_fraction: float = number(0.1, low=0, below=1, help="Share of the images that the trained model is scored on.")
    folds: int | None = number(
        None,
        low=2,
        high=100,
        auto=True,
        help="Cross-validate: train so many models, each scored on its share of the images, then one on all of them.",
    )
    splits: str | None = text(
        help="A table `image,part` that says which images are train, val and test, such as a model's splits.csv."
    )
    synthetic: int = number(1800, low=20, help="How many images are drawn where no data is given.")
    labels_count: int = number(6, low=1, high=12, help="How many patterns these may show.")

    image_size: int | None = number(
        None,
        low=32,
        high=2048,
        auto=True,
        help="Edge of what the network sees, in pixels; auto: 128 on a CPU, 224 on a GPU, 64 for drawn images.",
    )
    resize: ResizeRule = choice(
        "squish", *RESIZE_RULES, help="How a picture becomes a square; only `crop` loses some of it."
    )
    flip: bool = switch(
        True,
        help="Whether left and right may be exchanged: in training, and in averaging the two views' probabilities.",
    )
    stem: str = choice("deep", *STEMS, help="How the network begins.")
    width: float | None = number(
        None,
        low=0.125,
        high=8,
        auto=True,
        help="Scales every channel count of the network; auto: 1, and 0.5 for drawn images.",
    )
    dropout: float = number(0.3, low=0, below=1, help="Probability of the dropout before the last layer.")

    epochs: int | None = number(
        None, low=1, auto=True, help="How often training sees each image, at most; auto: 30, or what `--time` allows."
    )
    time: float | None = number(
        None,
        low=0.01,
        auto=True,
        help="Minutes that the whole command may take, instead of a number of epochs; the learning rate falls in time.",
    )
    batch_size: int | None = number(
        None,
        low=2,
        auto=True,
        help="Images a step; auto: 64, and 32 for drawn images, fewer where an epoch would have less than 16 steps.",
    )
    micro_batch: int | None = number(
        None,
        low=2,
        auto=True,
        help="Images that go through the network at a time, their gradients added up to a step; auto: the whole batch, "
        "and fewer once memory has run out.",
    )
    optimizer: str = choice(
        "muon", *OPTIMIZERS, help="What makes the steps: Muon, with AdamW for what is no convolution, or AdamW alone."
    )
    lr: float | None = number(
        None,
        low=1e-8,
        below=10,
        auto=True,
        help="Peak of the learning rate; auto: 0.004, and 0.0015 for AdamW on photographs.",
    )
    weight_decay: float = number(0.05, low=0, help="Decoupled weight decay; norms and biases have none.")
    ema: float = number(
        0.99,
        low=0,
        below=1,
        help="Decay, per step, of the averaged weights that are scored and saved; 0 keeps the last weights.",
    )
    mixup: float = number(
        0.0,
        low=0,
        help="Each training image is laid over another, by a share from Beta(mixup, mixup); 0 leaves them as they are.",
    )
    augment: str = choice("light", *AUGMENTS, help="How far training images are changed at random.")
    vertical_flip: bool = switch(
        False, help="Whether training images may be turned upside down, as pictures from above may."
    )
    progressive: bool = switch(
        True,
        help="Whether training begins with smaller images, of 64 px at least, and sees full size in the last third.",
    )
    patience: int | None = number(
        None,
        low=1,
        auto=True,
        help="Stop after this many epochs without a better validation score; auto: 10, and never with `--time`.",
    )
    select: str = choice(
        "map", *CRITERIA, help="The validation score that chooses the best epoch: mAP, or F1 or exact match at 0.5."
    )
    target_precision: float | None = number(
        None,
        low=0.01,
        high=1,
        auto=True,
        help="Choose thresholds so that each label has this precision on validation images, instead of the best F1.",
    )
    target_recall: float | None = number(
        None, low=0.01, high=1, auto=True, help="Choose thresholds so that each label has this recall there."
    )
    seed: int = number(
        0, low=0, high=2**31 - 1, help="Decides the split, the first weights, the order and the augmentation."
    )

    checkpoint_minutes: float = number(
        5.0,
        low=0,
        help="Minutes after which a long epoch is saved in its middle; each epoch is saved at its end anyway.",
    )

    device: str = choice(
        "auto", "auto", "cpu", "cuda", "mps", help="Where the network runs; auto: cuda, then mps, then cpu."
    )
    amp: bool | None = switch(None, help="Mixed precision; auto: where the processor computes in 16 bits.")
    threads: int | None = number(None, low=1, auto=True, help="CPU threads; auto: as many as this process may use.")
    workers: int | None = number(
        None,
        low=1,
        auto=True,
        help="Threads that open images; auto: one a CPU thread.",
    )
    compile: bool = switch(
        False, help="Compile the network by torch.compile, which makes the first steps slow and needs a C++ compiler."
    )

    report: bool = switch(True, help="Whether a page to look at, report/report.html, and charts are written as well.")
    plot_format: str = choice("png", *PLOT_FORMATS, help="Format of the charts that stand beside the page.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None and self.time is not None:
            raise SettingError("a run has either a number of epochs or a time", "give `--epochs` or `--time`, not both")
        if self.val_fraction + self.test_fraction >= 1:
            raise SettingError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave nothing to train on",
                "make them smaller: their sum must be below 1",
            )
        if self.target_precision is not None and self.target_recall is not None:
            raise SettingError(
                "thresholds are chosen for a precision or for a recall",
                "give `--target-precision` or `--target-recall`, not both",
            )
        if self.folds is not None:
            self._check_folds()

    def _check_folds(self) -> None:
        """Raises SettingError where a setting has no meaning beside folds."""
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        for name in ("time", "splits", "test_fraction"):
            if getattr(self, name) != usual[name]:
                option = f"--{name.replace('_', '-')}"
                raise SettingError(
                    f"folds take all images in turn, for a number of epochs, and have no use for `{option}`",
                    f"give `--folds` or `{option}`, not both",
                )

    def overridden(self, chosen: Mapping[str, Any]) -> "TrainConfig":
        """The settings with some replaced, each of which also takes the place of the one that it excludes."""
        excluded = {
            other: None for pair in EXCLUSIVE for name, other in (pair, pair[::-1]) if chosen.get(name) is not None
        }
        return dataclasses.replace(self, **{**excluded, **chosen})

    @property
    def has_target(self) -> bool:
        """Whether thresholds are chosen for a precision or recall."""
        return self.target_precision is not None or self.target_recall is not None
