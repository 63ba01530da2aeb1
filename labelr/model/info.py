"""What ``model.json`` says of a model: all that its weights do not."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Self

from labelr import files
from labelr.config import RESIZE_RULES, STEMS, ResizeRule
from labelr.errors import LabelrError
from labelr.model.calibration import UNCALIBRATED, Calibration

FORMAT = 2
"""1 had no calibration: its probabilities are the network's own."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes the network's input, the same in training, scoring and tagging.

    Attributes:
        image_size: S, the edge of the square in pixels.
        resize: How a picture becomes a square.
        mean: Of each channel, subtracted from pixels in [0, 1].
        std: Of each channel, divided by afterwards.
        flip_averaging: Whether probabilities are the mean of those of the image and of its mirror image.
    """

    image_size: int
    resize: ResizeRule = "squish"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    flip_averaging: bool = True


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes that a network is built from."""

    stem: str
    width: float
    dropout: float


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a model is, beside its weights.

    Attributes:
        labels: L label names, in the order of the network's outputs.
        thresholds: A label applies where its probability is at least its threshold, ``(L,)``.
        preprocessing: How an image becomes the network's input.
        architecture: What the network is built from.
        calibration: What the network's probabilities go through before they are compared with thresholds or shown.
        config: The settings of the training run, as resolved.
        counts: For each label its positives, negatives and unknown cells in the whole data set.
        scores: The metrics on the part named by `scored_on`; None where it is not scored yet.
        scored_on: ``"test"``, or ``"val"`` where there is no test part, or None.
        best_epoch: The epoch that the weights are of, from 1.
        complete: False while training goes on.
        created: When training ended, ISO 8601.
        versions: Of labelr and torch.
        weights: Name and SHA-256 of the weights file.
    """

    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    preprocessing: Preprocessing
    architecture: Architecture
    calibration: Calibration = UNCALIBRATED
    config: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    scores: dict[str, float | None] | None = None
    scored_on: str | None = None
    best_epoch: int = 0
    complete: bool = False
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)

    def prevalence(self, label: str) -> float:
        """The share of images with a label in the whole data set, of those where it is known; 0.5 if none says."""
        counts = self.counts.get(label, {})
        known = counts.get("positives", 0) + counts.get("negatives", 0)
        return counts["positives"] / known if known else 0.5

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all that probabilities depend on."""
        parts = [
            self.weights,
            self.labels,
            dataclasses.asdict(self.preprocessing),
            dataclasses.asdict(self.calibration),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def to_json(self) -> str:
        """The content of ``model.json``."""
        return files.json_text({"format": FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """What a ``model.json`` says, checked.

        Args:
            text: Its content.
            where: How messages name it.

        Raises:
            LabelrError: If it is damaged, or of a newer format.
        """
        try:
            said = json.loads(text)
            version = said.pop("format")
            if isinstance(version, int) and version > FORMAT:
                raise LabelrError(
                    f"{where} has model format {version}, and this labelr reads up to {FORMAT}",
                    "upgrade labelr: `pip install --upgrade labelr`",
                )
            preprocessing = said.pop("preprocessing")
            info = cls(
                **{
                    **said,
                    "labels": tuple(said["labels"]),
                    "thresholds": tuple(float(threshold) for threshold in said["thresholds"]),
                    "architecture": Architecture(**said["architecture"]),
                    "calibration": Calibration(**said.get("calibration", {})),
                    "preprocessing": Preprocessing(**{
                        **preprocessing, "mean": tuple(preprocessing["mean"]), "std": tuple(preprocessing["std"]),
                    }),
                }
            )  # fmt: skip
            _check(info)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LabelrError(f"{where} is damaged: {error}", "train the model again, or restore the file") from error
        return info


def _check(info: ModelInfo) -> None:
    """Raises ValueError where a value cannot be: the file may have been edited, or come from anywhere."""
    preprocessing, architecture = info.preprocessing, info.architecture
    facts = {
        "labels": bool(info.labels) and all(isinstance(label, str) for label in info.labels),
        "thresholds": len(info.thresholds) == len(info.labels) and all(0 <= one <= 1 for one in info.thresholds),
        "calibration": info.calibration.usable,
        "image_size": isinstance(preprocessing.image_size, int) and 1 <= preprocessing.image_size <= 8192,
        "resize": preprocessing.resize in RESIZE_RULES,
        "mean and std": len(preprocessing.mean) == len(preprocessing.std) == 3,
        "stem": architecture.stem in STEMS,
        "width": 0 < float(architecture.width) <= 16,
        "dropout": 0 <= float(architecture.dropout) < 1,
        "weights": set(info.weights) == {"file", "sha256"},
        "weights file": info.weights["file"] == f"weights-{info.weights['sha256'][:12]}.safetensors",
    }
    wrong = [name for name, holds in facts.items() if not holds]
    if wrong:
        raise ValueError(f"unusable {', '.join(wrong)}")
