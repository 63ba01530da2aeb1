"""The content of ``model.json``: everything about a model except its weights."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from labelr import files
from labelr.config import RESIZE_RULES, STEMS, ResizeRule
from labelr.data.value_range import ValueRange
from labelr.errors import LabelrError
from labelr.model.calibration import UNCALIBRATED, Calibration
from labelr.version import upgrade_hint

FORMAT = 1
DAMAGED_HINT = "copy the directory again if it is a copy, else delete it and train the model again"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Channels = tuple[float, float, float]


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

    image_size: int
    resize: ResizeRule = "squish"
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
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

    dropout: float
    stem: str | None = None
    width: float | None = None
    backbone: str | None = None


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

    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    preprocessing: Preprocessing
    architecture: Architecture
    pretraining: Pretraining | None = None
    calibration: Calibration = UNCALIBRATED
    config: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    scores: dict[str, float | None] | None = None
    scored_on: str | None = None
    best_epoch: int = 0
    complete: bool = False
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    weights: dict[str, str] = field(default_factory=dict)

    def prevalence(self, label: str) -> float:
        """The share of positives of a label in the whole data set, among known cells; 0.5 if none is known."""
        counts = self.counts.get(label, {})
        known = counts.get("positives", 0) + counts.get("negatives", 0)
        return counts["positives"] / known if known else 0.5

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
        return files.json_text({"format": FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def read(cls, path: Path) -> Self:
        """The content of a ``model.json``, validated.

        Raises:
            LabelrError: If there is none, or it is damaged or of a newer format.
        """
        with files.reading(path, DAMAGED_HINT):
            values = json.loads(path.read_text(encoding="utf-8"))
            version = values.pop("format")
            if isinstance(version, int) and version > FORMAT:
                raise LabelrError(
                    f"{path} has model format {version}, and this labelr reads up to {FORMAT}",
                    upgrade_hint(),
                )
            preprocessing = values["preprocessing"]
            preprocessing |= {name: tuple(preprocessing[name]) for name in ("mean", "std")}
            value_range = preprocessing.get("value_range", {})  # models from before there was one have none
            preprocessing["value_range"] = ValueRange(
                **{kind: ends and tuple(ends) for kind, ends in value_range.items()}
            )
            values["labels"] = tuple(values["labels"])
            values["data"] = tuple(values.get("data", ()))
            values["thresholds"] = tuple(float(threshold) for threshold in values["thresholds"])
            values["preprocessing"] = Preprocessing(**preprocessing)
            values["architecture"] = Architecture(**values["architecture"])
            values["calibration"] = Calibration(**values["calibration"])
            pretraining = values.get("pretraining")
            values["pretraining"] = Pretraining(**pretraining) if pretraining else None
            info = cls(**values)
            _validate(info)
        return info


def _validate(info: ModelInfo) -> None:
    """Raises ValueError where a value is impossible: the file may be edited, or come from anywhere."""
    preprocessing, architecture = info.preprocessing, info.architecture
    checks = {
        "labels": bool(info.labels) and all(isinstance(label, str) for label in info.labels),
        "data": all(isinstance(folder, str) for folder in info.data),
        "thresholds": len(info.thresholds) == len(info.labels) and all(0 <= value <= 1 for value in info.thresholds),
        "calibration": info.calibration.is_valid,
        "image_size": isinstance(preprocessing.image_size, int) and 1 <= preprocessing.image_size <= 8192,
        "resize": preprocessing.resize in RESIZE_RULES,
        "mean and std": len(preprocessing.mean) == len(preprocessing.std) == 3,
        "value_range": preprocessing.value_range.is_valid,
        "stem": architecture.stem in STEMS or architecture.backbone is not None,
        "width": architecture.backbone is not None or 0 < float(architecture.width or 0) <= 16,
        "dropout": 0 <= float(architecture.dropout) < 1,
        "weights": set(info.weights) == {"file", "sha256"},
        "weights file": info.weights["file"] == f"weights-{info.weights['sha256'][:12]}.safetensors",
    }
    wrong = [name for name, holds in checks.items() if not holds]
    if wrong:
        raise ValueError(f"invalid {', '.join(wrong)}")
