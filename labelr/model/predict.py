"""The one inference loop, shared by training, scoring and tagging, and the `Model` that users work with."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from labelr.data.images import Pixels, UnreadableError, array_to_pixels, read_pixels, to_pixels
from labelr.data.prefetch import in_batches
from labelr.errors import LabelrError, pluralize, preview
from labelr.fields import SettingError
from labelr.files import local_path
from labelr.frames import as_html, format_number, text_index
from labelr.model.calibration import UNCALIBRATED, Calibration, calibrate, decide
from labelr.model.device import PRECISIONS, MicroBatcher, Runtime, ThreadPool
from labelr.model.info import Channels, ModelInfo, Preprocessing
from labelr.model.network import Network, fold_batchnorm

BATCH_SIZE = 256
"""Images that are handed over at a time."""
MICRO_BATCH_SIZES = {"cpu": 8}
"""Images that go through the network together, by type of device; else `Runtime.batch_size`. On a CPU, each thread
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


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The network's input, float32, channels last, from values in [0, 255]; both ``(N, 3, S, S)``, on one device."""
    shift, scale = _shift_and_scale(preprocessing.mean, preprocessing.std, images.device)
    return (images.to(torch.float32, memory_format=torch.channels_last) - shift) / scale


@cache
def _shift_and_scale(mean: Channels, std: Channels, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel for values in [0, 255], cached on the device."""
    shift, scale = (255 * torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (mean, std))
    return shift, scale


def optimize_for_inference(network: Network, runtime: Runtime) -> Network:
    """A copy of a network for inference only, in the runtime's precision except for its head.

    The head computes in float64 where the device has it, so that the digits that are shown do not depend on an
    image's position in its batch.
    """
    copy = fold_batchnorm(network).to(PRECISIONS[runtime.precision])
    copy.head.to(torch.float64 if runtime.has_float64 else torch.float32)
    return runtime.place(copy).eval()


def predict_probs(
    network: nn.Module,
    batches: Iterable[NDArray[np.uint8]],
    preprocessing: Preprocessing,
    runtime: Runtime,
    calibration: Calibration = UNCALIBRATED,
    batcher: MicroBatcher | None = None,
) -> Iterator[Probs]:
    """The probabilities of each batch of images, one array ``(N, L)`` per batch.

    Args:
        network: The result of `optimize_for_inference`.
        batches: Of pixels, shape ``(N, S, S, 3)``, at the image size of `preprocessing`.
        preprocessing: The model's.
        runtime: Where to compute, and in which precision.
        calibration: Applied to the network's probabilities after flip averaging.
        batcher: Knows how many images the memory suffices for; give the same one again, so that it is found out once.

    Raises:
        LabelrError: If memory does not suffice for a single image.
    """
    pool, alone = ThreadPool(runtime.compute_threads), ThreadPool(1)
    whole = micro_batch_size(runtime, preprocessing.image_size)
    batcher = batcher or make_batcher(runtime, preprocessing.image_size)

    def predict(batch: NDArray[np.uint8], max_images: int) -> NDArray[np.floating]:
        # the parts of what is usually one micro-batch are not computed side by side: that would save no memory
        threads = pool if len(batch) > whole else alone
        micro_batches = [batch[start : start + max_images] for start in range(0, len(batch), max_images)]
        return np.concatenate(
            threads.map(lambda pixels: _predict_micro_batch(network, pixels, preprocessing, runtime), micro_batches)
        )

    for batch in batches:
        yield calibrate(batcher.run(partial(predict, batch)), calibration)


def micro_batch_size(runtime: Runtime, image_size: int) -> int:
    """The number of images of an edge, in pixels, that go through the network together."""
    size = MICRO_BATCH_SIZES.get(runtime.device.type) or runtime.batch_size
    return max(1, size * FULL_SIZE**2 // max(image_size, FULL_SIZE) ** 2)


def make_batcher(runtime: Runtime, image_size: int) -> MicroBatcher:
    """What limits the images that go through a network together to what the memory suffices for."""
    return MicroBatcher(micro_batch_size(runtime, image_size), "prediction")


def _predict_micro_batch(
    network: nn.Module, batch: NDArray[np.uint8], preprocessing: Preprocessing, runtime: Runtime
) -> NDArray[np.floating]:
    with torch.inference_mode(), runtime.exclusive():
        pixels = runtime.to_device(torch.from_numpy(batch).permute(0, 3, 1, 2))
        images = normalise(pixels, preprocessing).to(PRECISIONS[runtime.precision])
        probs = network(images).sigmoid()
        if preprocessing.flip_averaging:
            probs = (probs + network(images.flip(3)).sigmoid()) / 2
        result: NDArray[np.floating] = probs.cpu().numpy()
    return result


@dataclass(frozen=True)
class Model:
    """A trained model, ready to predict.

    Attributes:
        path: Its directory.
        info: The content of its ``model.json``.
        module: The network.
        runtime: Its device, precision and threads.
    """

    path: Path
    info: ModelInfo
    module: Network
    runtime: Runtime

    def __repr__(self) -> str:
        return f"<Model {self.name}: {self._network}, {pluralize(len(self.labels), 'label')}{self._score}; {self.path}>"

    def _repr_html_(self) -> str:
        import pandas as pd

        info = self.info
        facts = {
            "Name": self.name,
            "Directory": self.path,
            "Network": self._network + self._score,
            "Image size": f"{info.preprocessing.image_size} px",
            "Complete": None if info.complete else "no: its training was stopped",
        }
        table = pd.DataFrame({"threshold": info.thresholds}, index=text_index(info.labels, "label"))
        return as_html("Model", facts, table.join(pd.DataFrame.from_dict(info.counts, orient="index")))

    @property
    def summary(self) -> str:
        """Its name, the name of its data, and its mAP, in a line."""
        data = preview([Path(folder).name for folder in self.info.data])
        return f"{self.name}{f', trained on {data}' if data else ''}{self._score}"

    @property
    def _network(self) -> str:
        return self.info.architecture.backbone or "residual CNN"

    @property
    def _score(self) -> str:
        score = (self.info.scores or {}).get("map_macro")
        return "" if score is None else f", mAP {format_number(score)} ({self.info.scored_on})"

    @cached_property
    def inference_network(self) -> Network:
        """The result of `optimize_for_inference`; later changes of `module` do not reach it."""
        return optimize_for_inference(self.module, self.runtime)

    @cached_property
    def _batcher(self) -> MicroBatcher:
        return make_batcher(self.runtime, self.info.preprocessing.image_size)

    @property
    def uncalibrated(self) -> Self:
        """The same model with uncalibrated probabilities."""
        return replace(self, info=replace(self.info, calibration=UNCALIBRATED))

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
            raise LabelrError(f"{NOT_FINITE} for image {int(is_finite(probs).argmin()) + 1}", NOT_FINITE_HINT)
        preds = decide(probs, self.thresholds(threshold))
        labels = [[label for label, applies in zip(self.labels, row, strict=True) if applies] for row in preds]
        return Predictions(labels, probs)

    def predict_pixels(self, batches: Iterable[NDArray[np.uint8]]) -> Probs:
        """The probabilities ``(N, L)`` of batches of pixels ``(B, S, S, 3)``, N images in all."""
        network, preprocessing = self.inference_network, self.info.preprocessing
        probs = predict_probs(network, batches, preprocessing, self.runtime, self.info.calibration, self._batcher)
        return np.concatenate([np.empty((0, len(self.labels)), np.float32), *probs])

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
