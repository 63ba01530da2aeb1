"""Features of images and of a few views of each, computed once and kept beside the decoded images by content."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from labelr import files, signals
from labelr.data import pixel_cache
from labelr.data.pixels import PixelSet
from labelr.model.device import PRECISIONS, MicroBatcher, Runtime, ThreadPool
from labelr.model.info import Preprocessing
from labelr.model.network import Network
from labelr.model.predict import normalise, optimize_for_inference
from labelr.model.predictor import micro_batch_size
from labelr.progress import Track, untracked

VERSION = 1
"""Increased whenever labelr computes other features than before."""
BATCH_SIZE = 128
MANY_IMAGES = 20_000
"""Of more images than this, cropped views say little and would take much time and memory."""
IMAGES_PER_SEGMENT = 256
"""The images whose features are written at a time, and so the most work that a killed run loses."""

Features = NDArray[np.float16]
"""Of N images in V views, shape ``(N, V, F)``: rounded, so that they are the same with and without the cache."""

log = logging.getLogger(__name__)


class View(NamedTuple):
    """A square part of an image, resized to the whole: position and edge as shares of the edge of the image."""

    left: float
    top: float
    edge: float
    mirrored: bool


VIEWS = (View(0, 0, 1, False), View(0, 0, 1, True), View(0, 0, 0.8, False), View(0.2, 0.2, 0.8, True))
"""The whole image and its mirror image come first: prediction averages over these two."""


def choose_views(preprocessing: Preprocessing, num_images: int) -> tuple[View, ...]:
    """The views of each image: whole ones only of many images, and none mirrored where its labels may differ."""
    chosen = VIEWS if num_images <= MANY_IMAGES else VIEWS[:2]
    return tuple(view for view in chosen if preprocessing.flip_averaging or not view.mirrored)


def compute_features(
    network: Network,
    pixels: PixelSet,
    preprocessing: Preprocessing,
    runtime: Runtime,
    *,
    name: str,
    cache_limit: float,
    track: Track = untracked,
) -> Features:
    """What the last layer of a network sees of each image, shape ``(N, V, F)``.

    Args:
        network: The network; its last layer is not used.
        pixels: N images.
        preprocessing: How an image becomes the network's input.
        runtime: Where to compute.
        name: Identifies the weights of the network in the cache.
        cache_limit: Disk space of the cache, in GB; 0 disables it.
        track: Shows the progress.
    """
    views = choose_views(preprocessing, len(pixels))
    shape = (len(views), network.head.linear.in_features)
    kind = f"{len(views)}-views{'' if preprocessing.flip_averaging else '-no-flip'}"
    store = (
        pixel_cache.cache_folder()
        / f"{pixel_cache.FEATURES_PREFIX}{VERSION}-{name}-{runtime.precision}-{kind}-{pixels.kind}"
    )
    features, digests = np.empty((len(pixels), *shape), np.float16), pixels.digests
    rows = features.view(np.uint8).reshape(len(pixels), 2 * shape[0] * shape[1])
    missing = np.flatnonzero(~pixel_cache.read(*pixel_cache.find(store, digests, rows.shape[1]), rows))
    if not len(missing):
        return features
    optimized = optimize_for_inference(network, runtime)
    batches = _compute(optimized, pixels.subset(missing), views, preprocessing, runtime)
    done, written = 0, 0
    for batch in track(batches, "computing features", -(-len(missing) // BATCH_SIZE)):
        signals.raise_if_stopped()
        features[missing[done : done + len(batch)]] = batch
        done += len(batch)
        if cache_limit and (done - written >= IMAGES_PER_SEGMENT or done == len(missing)):
            new = missing[written:done]
            _write(store, [digests[row] for row in new], features[new], cache_limit)
            written = done
    return features


def _compute(
    network: Network, pixels: PixelSet, views: Sequence[View], preprocessing: Preprocessing, runtime: Runtime
) -> Iterator[Features]:
    batcher = MicroBatcher(micro_batch_size(runtime, preprocessing.image_size), "computing features")
    pool = ThreadPool(runtime.compute_threads)

    @torch.inference_mode()
    def compute_views(pixels: Tensor) -> Tensor:
        with runtime.exclusive():
            images = normalise(runtime.to_device(pixels), preprocessing)
            seen = [network.features(_view(images, view).to(PRECISIONS[runtime.precision])) for view in views]
            return torch.stack(seen, dim=1).to(torch.float16).cpu()

    def compute(batch: NDArray[np.uint8], max_images: int) -> Features:
        micro_batches = torch.split(torch.from_numpy(batch).permute(0, 3, 1, 2), max_images)
        result: Features = torch.cat(pool.map(compute_views, micro_batches)).numpy()
        return result

    for batch in pixels.batches(BATCH_SIZE):
        yield batcher.run(partial(compute, batch))


def _view(images: Tensor, view: View) -> Tensor:
    """A view of each image, both ``(N, 3, S, S)``."""
    size = images.shape[-1]
    if view.edge < 1:
        left, top, edge = (round(share * size) for share in view[:3])
        part = images[:, :, top : top + edge, left : left + edge]
        images = F.interpolate(part, size=(size, size), mode="bilinear", align_corners=False)
    return images.flip(3) if view.mirrored else images


def _write(store: Path, digests: list[str], features: Features, cache_limit: float) -> None:
    """Adds features to the cache if there is room."""
    unique = {digest: row for row, digest in enumerate(digests)}
    size = features[0].nbytes
    try:
        with pixel_cache.writing(store):
            if pixel_cache.make_room(len(unique) * size, round(cache_limit * 1e9)) >= len(unique) * size:
                rows = (features[row].view(np.uint8) for row in unique.values())
                pixel_cache.write(store, list(unique), rows, size)
    except OSError as error:
        files.raise_if_exhausted(error)
        log.warning("the cache cannot be written: %s", error.strerror or error)
