"""The content of ``model.json``: everything about a model except its weights."""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

from msgspec import Meta

from labelr import files, serialization
from labelr.config import ResizeRule, Stem
from labelr.data.value_range import ValueRange
from labelr.model.calibration import Calibration

FORMAT = 1
DAMAGED_HINT = "copy the directory again if it is a copy, else delete it and train the model again"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Channels = tuple[float, float, float]
Mean = Annotated[float, Meta(ge=-1e4, le=1e4)]
Std = Annotated[float, Meta(ge=1e-4, le=1e4)]
"""A smaller divisor would make numbers of float32 infinite."""
Size = Annotated[int, Meta(ge=1, le=2048)]
"""The edge of a square of pixels, up to the largest that a network is trained with."""
Count = Annotated[int, Meta(ge=0, le=2**53)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Timestamp = Annotated[str, Meta(pattern=r"^(\d{4}-\d\d-\d\dT[\d:.]+\+00:00)?\Z")]
"""ISO 8601 in UTC; empty where it is not known."""
Setting = bool | int | float | str | list[str] | None
"""The value of a setting, as JSON has it."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes the network's input, the same in training, scoring and tagging.

    Attributes:
        image_size: S, the edge of the square in pixels.
        resize: How a picture becomes a square.
        mean: Of each channel, subtracted from pixels in [0, 1].
        std: Of each channel; divides the pixels afterwards.
        flip_averaging: Whether probabilities are averaged over the image and its mirror image.
        value_range: Which values of images of more than 8 bits a sample become black and white.
    """

    image_size: Size
    resize: ResizeRule = "squish"
    mean: tuple[Mean, Mean, Mean] = IMAGENET_MEAN
    std: tuple[Std, Std, Std] = IMAGENET_STD
    flip_averaging: bool = True
    value_range: ValueRange = field(default_factory=ValueRange)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The hyperparameters that a network is built from.

    Attributes:
        dropout: Dropout probability before the last layer.
        stem: The first layers of the residual CNN; None for a backbone.
        width: The multiplier of the residual CNN's channel counts; None for a backbone.
        backbone: The name of the backbone; None for the residual CNN.
    """

    dropout: Annotated[float, Meta(ge=0, lt=1)]
    stem: Stem | None = None
    width: Annotated[float, Meta(gt=0, le=16)] | None = None
    backbone: Annotated[str, Meta(max_length=200)] | None = None


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """Where a network's weights came from before it was trained on the data set.

    Attributes:
        backbone: The name of the backbone; empty for the residual CNN.
        source: Who published it.
        licence: Of the weights.
        weights: ``"default"``, the file, or the model of labelr that training started from.
        sha256: Of the file.
    """

    backbone: str
    source: str
    licence: str
    weights: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Everything about a model except its weights.

    Attributes:
        labels: L label names, in the order of the network's outputs.
        thresholds: A label applies where its probability is at least its threshold, ``(L,)``.
        preprocessing: How an image becomes the network's input.
        architecture: The network's hyperparameters.
        pretraining: Where the weights came from before training; None if they were random.
        calibration: Applied to the network's probabilities before they are compared with thresholds or shown.
        config: The settings of the training run, with every "auto" resolved.
        counts: The number of positives, negatives and unknown cells of each label in the whole data set.
        scores: The metrics on the split named by `scored_on`; None if the model is not evaluated yet.
        scored_on: ``"test"``, or ``"val"`` without a test split, or ``"folds"``, or None.
        best_epoch: The epoch of the weights, from 1.
        complete: Whether training is finished.
        created: When training ended, ISO 8601.
        versions: Of labelr and torch.
        data: The absolute data folders that it was trained on; empty in models from before they were kept.
        weights: Name and SHA-256 of the weights file.
    """

    labels: Annotated[tuple[str, ...], Meta(min_length=1)]
    thresholds: tuple[Probability, ...]
    preprocessing: Preprocessing
    architecture: Architecture
    pretraining: Pretraining | None = None
    calibration: Calibration
    config: dict[str, Setting] = field(default_factory=dict)
    counts: dict[str, dict[str, Count]] = field(default_factory=dict)
    scores: dict[str, float | None] | None = None
    scored_on: str | None = None
    best_epoch: Count = 0
    complete: bool = False
    created: Timestamp = ""
    versions: dict[str, str] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    weights: dict[str, str] = field(default_factory=dict)

    def prevalence(self, label: str) -> float:
        """The share of positives of a label in the whole data set, among known cells; 0.5 if none is known."""
        counts = self.counts.get(label, {})
        positives, negatives = counts.get("positives", 0), counts.get("negatives", 0)
        return positives / (positives + negatives) if positives + negatives else 0.5

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of everything that probabilities depend on."""
        preprocessing = dataclasses.asdict(self.preprocessing)
        if not self.preprocessing.value_range:  # as in models from before there was one
            del preprocessing["value_range"]
        content = [self.weights, self.labels, preprocessing, dataclasses.asdict(self.calibration)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def to_json(self) -> str:
        """The content of ``model.json``."""
        return serialization.json_text({"format": FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def read(cls, path: Path) -> Self:
        """The content of a ``model.json``, validated.

        Raises:
            LabelrError: If there is none, or it is damaged or of a newer format.
        """
        info = serialization.read_json(path, cls, DAMAGED_HINT, newest=FORMAT)
        with files.reading(path, DAMAGED_HINT):
            info.validate()
        return info

    def check_weights(self, sha256: str) -> None:
        """Raises ValueError unless weights of this digest are the model's."""
        if sha256 != self.weights["sha256"]:
            raise ValueError("its digest is not the one in model.json")

    def validate(self) -> None:
        """Raises ValueError where values do not fit each other: the file may be edited, or come from anywhere."""
        architecture, weights = self.architecture, self.weights
        checks = {
            "labels, one of which is given twice": len(set(self.labels)) == len(self.labels),
            "labels, one of which is no text": all(files.is_text(label) and label.strip() for label in self.labels),
            "number of thresholds": len(self.thresholds) == len(self.labels),
            "value_range": self.preprocessing.value_range.is_valid,
            "stem and width": architecture.backbone is not None or None not in (architecture.stem, architecture.width),
            "weights": re.fullmatch("[0-9a-f]{64}", weights.get("sha256", "")) is not None,
            "weights file": weights.get("file") == f"weights-{weights.get('sha256', '')[:12]}.safetensors",
        }
        wrong = [name for name, holds in checks.items() if not holds]
        if wrong:
            raise ValueError(f"invalid {', '.join(wrong)}")
