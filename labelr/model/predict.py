"""The one inference loop, shared by training, scoring and tagging, and the model that people hold in their hands."""

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

from labelr.data.images import Pixels, Unreadable, read_pixels, to_pixels
from labelr.data.prefetch import in_batches
from labelr.errors import LabelrError
from labelr.fields import SettingError
from labelr.model.calibration import UNCALIBRATED, Calibration, calibrate
from labelr.model.decide import decide
from labelr.model.device import PRECISIONS, Machine
from labelr.model.info import ModelInfo, Preprocessing
from labelr.model.memory import Portions
from labelr.model.network import ResidualNetwork, folded

BATCH_SIZE = 64

Probs = NDArray[np.float32]
"""Probabilities in [0, 1], ``(N, L)``."""
Channels = tuple[float, float, float]
ImageLike = str | Path | Image.Image | NDArray[np.generic]


class Predictions(NamedTuple):
    """What a model says of N images.

    Attributes:
        labels: For each image the labels that apply, in the model's order.
        probs: The probability of every label, shape ``(N, L)``.
    """

    labels: list[list[str]]
    probs: Probs


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The network's input, float32, channels last, from values in [0, 255]; both ``(N, 3, S, S)``, on one device."""
    shift, scale = _shift_and_scale(preprocessing.mean, preprocessing.std, images.device)
    return (images.to(torch.float32, memory_format=torch.channels_last) - shift) / scale


@cache
def _shift_and_scale(mean: Channels, std: Channels, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, of values in [0, 255], on the device once and for all."""
    shift, scale = (255 * torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (mean, std))
    return shift, scale


def for_prediction(network: ResidualNetwork, machine: Machine) -> ResidualNetwork:
    """A copy of a network for prediction alone, in the machine's precision but for its head.

    The head is computed in 64 bits, where the device has them: so finely that the last digits of what is shown do not
    depend on an image's place in its batch.
    """
    copy = folded(network).to(PRECISIONS[machine.precision])
    copy.head.to(torch.float32 if machine.device.type == "mps" else torch.float64)
    return machine.place(copy).eval()


def predict_probs(
    network: nn.Module,
    batches: Iterable[NDArray[np.uint8]],
    preprocessing: Preprocessing,
    machine: Machine,
    calibration: Calibration = UNCALIBRATED,
) -> Iterator[Probs]:
    """The probabilities of each batch of images, one array ``(N, L)`` a batch.

    Args:
        network: As `for_prediction` gives it.
        batches: Of pixels, shape ``(N, S, S, 3)``, at the size that `preprocessing` names.
        preprocessing: The model's.
        machine: Where to compute, and in which precision.
        calibration: What the network's probabilities, averaged where the model does so, are put through.

    Raises:
        LabelrError: If memory does not suffice for a single image.
    """

    def predict(batch: NDArray[np.uint8], most: int) -> NDArray[np.floating]:
        parts = [batch[start : start + most] for start in range(0, len(batch), most)]
        return np.concatenate([_predict_batch(network, part, preprocessing, machine) for part in parts])

    portions = Portions(BATCH_SIZE, "prediction")
    for batch in batches:
        yield calibrate(portions.run(partial(predict, batch)), calibration)


def _predict_batch(
    network: nn.Module, batch: NDArray[np.uint8], preprocessing: Preprocessing, machine: Machine
) -> NDArray[np.floating]:
    pixels = machine.take(torch.from_numpy(batch).permute(0, 3, 1, 2))
    with torch.inference_mode():
        images = normalise(pixels, preprocessing).to(PRECISIONS[machine.precision])
        probs = network(images).sigmoid()
        if preprocessing.flip_averaging:
            probs = (probs + network(images.flip(3)).sigmoid()) / 2
    result: NDArray[np.floating] = probs.cpu().numpy()
    return result


@dataclass(frozen=True)
class Model:
    """A trained model, ready to be applied.

    Attributes:
        path: Its directory.
        info: What ``model.json`` says of it.
        module: The network.
        machine: What it runs on.
    """

    path: Path
    info: ModelInfo
    module: ResidualNetwork
    machine: Machine

    @cached_property
    def ready(self) -> ResidualNetwork:
        """The network as it predicts; see `for_prediction`. Changes of `module` do not reach it."""
        return for_prediction(self.module, self.machine)

    @property
    def uncalibrated(self) -> Self:
        """The model with the network's own probabilities."""
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
            images: Paths, PIL images or arrays ``(H, W)`` or ``(H, W, 3)``: uint8, uint16, or floats in [0, 1]; one
                alone, or a sequence of them.
            threshold: A label applies where its probability is at least this; None takes the model's own thresholds.

        Raises:
            LabelrError: If an image cannot be opened.
        """
        alone = isinstance(images, (str, Path, Image.Image)) or (isinstance(images, np.ndarray) and images.ndim < 4)
        several: Iterable[ImageLike] = [images] if alone else images  # type: ignore[list-item, assignment]
        probs = self.predict_pixels(map(np.stack, in_batches(map(self._pixels, several), BATCH_SIZE)))
        return Predictions([self.choose(row, threshold) for row in probs], probs)

    def predict_pixels(self, batches: Iterable[NDArray[np.uint8]]) -> Probs:
        """The probabilities ``(N, L)`` of batches of pixels ``(B, S, S, 3)``, N images in all."""
        return np.concatenate([np.empty((0, len(self.labels)), np.float32), *self._predict(batches)])

    def _predict(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Probs]:
        info = self.info
        return predict_probs(self.ready, batches, info.preprocessing, self.machine, info.calibration)

    def choose(self, probs: NDArray[np.float32], threshold: float | None = None) -> list[str]:
        """The labels of one image that apply, from its probabilities ``(L,)``."""
        applies = decide(probs, self.thresholds(threshold))
        return [label for label, one in zip(self.labels, applies, strict=True) if one]

    def thresholds(self, threshold: float | None = None) -> NDArray[np.float64]:
        """The threshold of each label, ``(L,)``: the model's own, or one number for all.

        Raises:
            SettingError: If the number is not from 0 to 1.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise SettingError(f"threshold: expected a number from 0 to 1, got {threshold}")
        own = np.array(self.info.thresholds, dtype=np.float64)
        return own if threshold is None else np.full_like(own, threshold)

    def _pixels(self, image: ImageLike) -> Pixels:
        wanted = self.info.preprocessing
        if isinstance(image, (str, Path)):
            pixels = read_pixels(Path(image), wanted.image_size, rule=wanted.resize)
            if isinstance(pixels, Unreadable):
                raise LabelrError(f"cannot open the image {image}: {pixels.reason}")
            return pixels
        opened = image if isinstance(image, Image.Image) else Image.fromarray(_as_uint8(image))
        return to_pixels(opened, wanted.image_size, wanted.resize)


def _as_uint8(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """An image array as uint8: floats are taken to lie in [0, 1], 16 bits are divided by 257."""
    if array.dtype == np.uint8:
        return array  # type: ignore[return-value]
    white = 1.0 if array.dtype.kind in "fb" else 65535.0 if array.dtype == np.uint16 else 0.0
    if not white:
        raise LabelrError(
            f"cannot take an array of {array.dtype} as an image", "give uint8, uint16 or floats in [0, 1]"
        )
    scaled: NDArray[np.uint8] = np.rint(array.astype(np.float64).clip(0, white) * (255 / white)).astype(np.uint8)
    return scaled
