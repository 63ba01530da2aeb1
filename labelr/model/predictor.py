"""What every engine of inference has in common: a model with labels and thresholds that predicts from pixels.

torch is not imported, so that an engine without it tags in a process that never loads it.
"""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelr.data.images import Pixels, UnreadableError, array_to_pixels, read_pixels, to_pixels
from labelr.errors import LabelrError, preview
from labelr.fields import SettingError
from labelr.files import local_path
from labelr.frames import format_number
from labelr.model.calibration import decide
from labelr.model.info import ModelInfo
from labelr.processors import count_processors, in_batches
from labelr.ranks import Place, is_started_by_torchrun

BATCH_SIZE = 256
"""Images that are handed over at a time."""
MICRO_BATCH_SIZES = {"cpu": 8}
"""Images that go through the network together, by type of device; else `Machine.batch_size`. On a CPU, each thread
computes a micro-batch at a time. The size is constant, so that an image's probabilities do not depend on the others."""
FULL_SIZE = 512
"""Of larger images, in pixels, fewer go through the network together, in the same memory."""
NOT_FINITE = "the model's output is NaN"
"""Why an image fails: probabilities are NaN if numbers in the network become too large."""
NOT_FINITE_HINT = "compute with `--no-amp`, or train the model again with a smaller `--lr`"

Probs = NDArray[np.float32]
"""Probabilities in [0, 1], ``(N, L)``."""
ImageLike = str | Path | Image.Image | NDArray[np.generic]


class Predictions(NamedTuple):
    """The labels and probabilities of N images.

    Attributes:
        labels: The labels that apply to each image, in the model's order.
        probs: The probability of every label, shape ``(N, L)``.
    """

    labels: list[list[str]]
    probs: Probs


def is_finite(probs: Probs) -> NDArray[np.bool_]:
    """Whether all probabilities of each image are numbers: of shape ``(N,)`` for probabilities ``(N, L)``."""
    return np.asarray(np.isfinite(probs).all(axis=-1))


def available_cpus() -> int:
    """How many processors this process may use, by its affinity, the limits of its container and OMP_NUM_THREADS.

    Of several processes that torchrun has started here: how many all of them may use. It sets OMP_NUM_THREADS to 1
    where it is not set.
    """
    limit = (
        os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    )  # a list has a number for each nesting level
    if is_started_by_torchrun() and (local_size := Place.of_environment().local_size) > 1 and limit.isdecimal():
        limit = "" if limit == "1" else str(local_size * int(limit))
    return min(count_processors(), int(limit) if limit.isdecimal() and int(limit) else sys.maxsize)


class Machine(Protocol):
    """Where and how an engine computes."""

    @property
    def kind(self) -> str:
        """The type of device, such as ``cpu``."""

    @property
    def precision(self) -> str:
        """The type of number that is computed in, such as ``fp32``."""

    @property
    def threads(self) -> int:
        """CPU threads, each of which computes a micro-batch."""

    @property
    def workers(self) -> int:
        """Threads that decode images."""

    @property
    def batch_size(self) -> int:
        """The images that an accelerator predicts together."""


def micro_batch_size(machine: Machine, image_size: int) -> int:
    """The number of images of an edge, in pixels, that go through the network together."""
    size = MICRO_BATCH_SIZES.get(machine.kind) or machine.batch_size
    return max(1, size * FULL_SIZE**2 // max(image_size, FULL_SIZE) ** 2)


@dataclass(frozen=True)
class Predictor(ABC):
    """A trained model, ready to predict.

    Attributes:
        path: Its directory, or its file.
        info: What is known of it.
        runtime: Where it computes.
    """

    path: Path
    info: ModelInfo
    runtime: Machine

    @abstractmethod
    def predict_pixels(self, batches: Iterable[NDArray[np.uint8]]) -> Probs:
        """The probabilities ``(N, L)`` of batches of pixels ``(B, S, S, 3)``, N images in all."""

    def one_thread_per_operation(self) -> AbstractContextManager[None]:
        """Has each operation use one thread, for threads that predict side by side."""
        return nullcontext()

    @property
    def summary(self) -> str:
        """Its name, the name of its data, and its mAP, in a line."""
        data = preview([Path(folder).name for folder in self.info.data])
        return f"{self.name}{f', trained on {data}' if data else ''}{self._score}"

    @property
    def _score(self) -> str:
        score = (self.info.scores or {}).get("map_macro")
        return "" if score is None else f", mAP {format_number(score)} ({self.info.scored_on})"

    @property
    def name(self) -> str:
        """The name of its directory."""
        return self.path.name

    @property
    def labels(self) -> tuple[str, ...]:
        """L label names, in the order of the probabilities' columns."""
        return self.info.labels

    def predict(self, images: ImageLike | Sequence[ImageLike], *, threshold: float | None = None) -> Predictions:
        """The labels and probabilities of images.

        Args:
            images: One image or a sequence of them: a path, a PIL image, or an array ``(H, W)``, ``(H, W, 3)``, or
                ``(H, W, 4)`` with transparency, of integers, or of floats in [0, 1] or in the range of the deep
                images that the model was trained on. Pillow drops the low byte of 16-bit colours when it loads an
                image: pass their path, their array, or the image before it is loaded.
            threshold: One threshold for all labels; None uses the model's own.

        Raises:
            LabelrError: If an image cannot be opened, or an array has no shape of an image.
        """
        is_single = isinstance(images, (str, Path, Image.Image)) or (isinstance(images, np.ndarray) and images.ndim < 4)
        sequence: Iterable[ImageLike] = [images] if is_single else images  # type: ignore[list-item, assignment]
        probs = self.predict_pixels(map(np.stack, in_batches(map(self._pixels, sequence), BATCH_SIZE)))
        if not is_finite(probs).all():
            raise LabelrError(f"{NOT_FINITE} for images[{is_finite(probs).argmin()}]", NOT_FINITE_HINT)
        preds = decide(probs, self.thresholds(threshold))
        labels = [[label for label, applies in zip(self.labels, row, strict=True) if applies] for row in preds]
        return Predictions(labels, probs)

    def thresholds(self, threshold: float | None = None) -> NDArray[np.float64]:
        """The threshold of each label, ``(L,)``: the model's own, or `threshold` for all.

        Raises:
            SettingError: If `threshold` is not from 0 to 1.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise SettingError(f"threshold: expected a number from 0 to 1, got {threshold}")
        own = np.array(self.info.thresholds, dtype=np.float64)
        return own if threshold is None else np.full_like(own, threshold)

    def _pixels(self, image: ImageLike) -> Pixels:
        wanted = self.info.preprocessing
        size, rule, value_range = wanted.image_size, wanted.resize, wanted.value_range
        try:
            if isinstance(image, (str, Path)):
                return read_pixels(local_path(image), size, rule=rule, value_range=value_range)
            if isinstance(image, Image.Image):
                return to_pixels(image, size, rule, value_range)
        except UnreadableError as error:
            name = image if isinstance(image, (str, Path)) else getattr(image, "filename", "")
            raise LabelrError(f"cannot open the image{f' {name}' if name else ''}: {error}") from error
        if not isinstance(image, np.ndarray):
            raise LabelrError(
                f"cannot use a {type(image).__name__} as an image", "pass a path, a PIL image or an array"
            )
        # without a value range, floats are in [0, 1]
        return array_to_pixels(image, size, rule, replace(value_range, floats=value_range.floats or (0.0, 1.0)))
