"""The `Model` that users work with, its network, and the one inference loop of torch."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelr import files
from labelr.errors import pluralize
from labelr.frames import as_html, text_index
from labelr.model.backbones import find_backbone
from labelr.model.calibration import UNCALIBRATED, Calibration, calibrate
from labelr.model.device import PRECISIONS, MicroBatcher, Runtime, ThreadPool, one_thread_per_operation
from labelr.model.info import DAMAGED_HINT, Channels, ModelInfo, Preprocessing
from labelr.model.network import BackboneNetwork, Network, RandomInitSkipped, ResidualNetwork, fold_batchnorm
from labelr.model.predictor import Predictor, Probs, micro_batch_size
from labelr.model.weight_files import check_like, parse_tensors, read_shapes

OTHER_WEIGHTS = "it does not hold this model's weights"


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
class Model(Predictor):
    """A trained model, ready to predict.

    Attributes:
        path: Its directory.
        info: The content of its ``model.json``.
        runtime: Its device, precision and threads.
        module: The network.
    """

    runtime: Runtime
    module: Network

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
    def _network(self) -> str:
        return self.info.architecture.backbone or "residual CNN"

    @cached_property
    def inference_network(self) -> Network:
        """The result of `optimize_for_inference`; later changes of `module` do not reach it."""
        return optimize_for_inference(self.module, self.runtime)

    @cached_property
    def _batcher(self) -> MicroBatcher:
        return make_batcher(self.runtime, self.info.preprocessing.image_size)

    @property
    def as_validated(self) -> Self:
        """The same model as it is validated in training: without calibration and mirror images."""
        preprocessing = replace(self.info.preprocessing, flip_averaging=False)
        return replace(self, info=replace(self.info, calibration=UNCALIBRATED, preprocessing=preprocessing))

    def one_thread_per_operation(self) -> AbstractContextManager[None]:
        """As `Predictor` says."""
        return one_thread_per_operation()

    def predict_pixels(self, batches: Iterable[NDArray[np.uint8]]) -> Probs:
        """The probabilities ``(N, L)`` of batches of pixels ``(B, S, S, 3)``, N images in all."""
        network, preprocessing = self.inference_network, self.info.preprocessing
        probs = predict_probs(network, batches, preprocessing, self.runtime, self.info.calibration, self._batcher)
        return np.concatenate([np.empty((0, len(self.labels)), np.float32), *probs])


# --- networks of models -----------------------------------------------------------------------------------------------


def build_network(info: ModelInfo) -> Network:
    """A network of a model's architecture, with newly initialised weights.

    Raises:
        SettingError: If it has a backbone of a package that is not installed.
    """
    architecture, num_labels = info.architecture, len(info.labels)
    if architecture.backbone is None:
        stem, width = architecture.stem or "", architecture.width or 0
        return ResidualNetwork(num_labels, stem=stem, width=width, dropout=architecture.dropout)
    backbone = find_backbone(architecture.backbone)
    body, in_features = backbone.build()
    return BackboneNetwork(
        body, in_features, num_labels, dropout=architecture.dropout, image_size=backbone.smallest_size
    )


def read_network(folder: Path, info: ModelInfo) -> Network:
    """The network of a model, on the CPU.

    Raises:
        LabelrError: If the digest of its weights, or their names, shapes, types or values are not those of the network.
    """
    weights = folder / info.weights["file"]
    with files.reading(weights, DAMAGED_HINT), files.open_regular(weights) as file:
        shapes = read_shapes(file)
        _check_shapes(shapes, info)
        with RandomInitSkipped():
            network = build_network(info)
        if shapes != {name: list(tensor.shape) for name, tensor in network.state_dict().items()}:
            raise ValueError(OTHER_WEIGHTS)
        content = file.read()
        info.check_weights(hashlib.sha256(content).hexdigest())
        tensors = parse_tensors(content)
        check_like(tensors, network.state_dict(), "weights")
        network.load_state_dict(tensors)
    return network


def _check_shapes(found: Mapping[str, Sequence[int]], info: ModelInfo) -> None:
    """Raises ValueError if a network, which takes the memory that its width and labels say, is not the one in a file.

    Of a backbone only the head, since the memory of the backbone is limited by its name.
    """
    if found.get("head.linear.bias") != [len(info.labels)]:
        raise ValueError(OTHER_WEIGHTS)
    if info.architecture.backbone is None:
        with RandomInitSkipped(), torch.device("meta"):  # which takes no memory
            wanted = {name: list(tensor.shape) for name, tensor in build_network(info).state_dict().items()}
        if found != wanted:
            raise ValueError(OTHER_WEIGHTS)
