"""Trains the last layer of a network whose other layers are frozen: logistic regression on cached features."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from labelr import files, signals
from labelr.data import pixel_cache
from labelr.data.label_table import Targets
from labelr.data.pixels import PixelSet
from labelr.errors import LabelrError
from labelr.model.device import PRECISIONS, MicroBatcher, Runtime, ThreadPool, one_thread_per_operation
from labelr.model.info import ModelInfo, Preprocessing, Pretraining
from labelr.model.network import Head, Network
from labelr.model.predict import normalise, optimize_for_inference
from labelr.model.predictor import micro_batch_size
from labelr.progress import Track, untracked
from labelr.scoring.metrics import bce
from labelr.training.batches import TrainImages
from labelr.training.run import Run

REGULARISATIONS = tuple(10.0**exponent for exponent in np.arange(0.5, -4.1, -0.5))
"""The weights of the L2 penalty to choose from, strongest first."""
DEFAULT_REGULARISATION = 0.1
"""The weight without validation images."""
MAX_ITERATIONS = 200
ROWS_PER_PART = 1024
"""The views of images that a thread computes at a time."""
TOLERANCE = 1e-4
"""The relative decrease of the objective at which a solution counts as found."""
MIN_STD = 1e-3
"""A lower bound of the standard deviation of a feature: one that hardly varies says nothing."""

FEATURES_VERSION = 2
"""Increased whenever labelr computes other features than before."""
BATCH_SIZE = 128
MANY_IMAGES = 20_000
"""Of more images than this, cropped views say little and would take much time and memory."""
IMAGES_PER_SEGMENT = 256
"""The images whose features are written at a time, and so the most work that a killed run loses."""

Features = NDArray[np.float16]
"""Of N images in V views, shape ``(N, V, F)``: rounded, so that they are the same with and without the cache."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeadFit:
    """A fitted last layer.

    Attributes:
        mean: Of each feature, shape ``(F,)``.
        std: Of each feature, shape ``(F,)``.
        weight: Shape ``(L, F)``, for standardised features.
        bias: Shape ``(L,)``.
        regularisation: The weight of the L2 penalty.
        train_loss: The mean cross-entropy of the training images' views.
    """

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor
    regularisation: float
    train_loss: float

    @torch.no_grad()
    def copy_to(self, head: Head) -> None:
        """Sets the last layer and the standardisation of a head."""
        for target, source in (
            (head.mean, self.mean), (head.std, self.std), (head.linear.weight, self.weight),
            (head.linear.bias, self.bias),
        ):  # fmt: skip
            target.copy_(source)


def train_head(
    network: Network, images: TrainImages, val_pixels: PixelSet, val_targets: Targets, info: ModelInfo, run: Run
) -> float:
    """Trains the last layer of a pretrained network on the features that its other layers compute; see `fit_head`.

    The L2 penalty is chosen on the validation images, whose targets have shape ``(M, L)``.

    Returns:
        The mean training loss, over all views of the images.
    """
    preprocessing, pretraining = info.preprocessing, cast("Pretraining", info.pretraining)
    name = f"{pretraining.backbone or 'labelr'}-{pretraining.sha256[:12]}"
    train, val = (
        compute_features(
            network, pixels, preprocessing, run.runtime, name=name, cache_limit=run.config.cache_limit, track=run.track
        )
        for pixels in (images.pixels, val_pixels)
    )
    num_predicted = 2 if preprocessing.flip_averaging else 1  # views that prediction averages over
    with one_thread_per_operation():
        pool, val = ThreadPool(run.runtime.threads), val[:, :num_predicted]
        fit = fit_head(network.head, train, images.targets.numpy(), val, val_targets, pool, track=run.track)
    fit.copy_to(network.head)
    return fit.train_loss


def fit_head(
    head: Head,
    features: Features,
    targets: Targets,
    val_features: Features,
    val_targets: Targets,
    pool: ThreadPool | None = None,
    *,
    track: Track = untracked,
) -> HeadFit:
    """Logistic regression for each label, with the L2 penalty that has the lowest loss on validation images.

    The penalty is on the difference to the weights that the head has: those of another model for its labels, and zeros
    for new labels. All labels have the same penalty. Unknown cells are left out.

    Args:
        head: The head to start from; it is not changed. Features are standardised as in it, or, where all its weights
            are zero, to mean 0 and standard deviation 1.
        features: Of the training images, each view of which counts as an image, shape ``(N, V, F)``.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.
        val_features: Of the validation images, whose probabilities are averaged over the views, ``(M, W, F)``; M may
            be 0.
        val_targets: Shape ``(M, L)``.
        pool: Computes the parts of an objective side by side.
        track: Shows the progress.

    Raises:
        LabelrError: If the features are infinite or NaN.
    """
    is_new = not head.linear.weight.any()
    mean, std = _mean_and_std(features) if is_new else (head.mean.cpu(), head.std.cpu())
    problem = _Problem(features, targets, mean, std, head, pool or ThreadPool(1))
    known = ~np.isnan(val_targets)
    best, best_loss, params = None, np.inf, problem.start
    penalties = REGULARISATIONS if known.any() else (DEFAULT_REGULARISATION,)
    for penalty in track(penalties, "fitting the last layer", len(penalties)):
        signals.raise_if_stopped()
        params, train_loss = problem.solve(params, penalty)
        weight, bias = params[:, :-1], params[:, -1]
        loss = bce(_probs(val_features, mean, std, weight, bias), val_targets) if known.any() else 0.0
        log.debug("head with an L2 penalty of %.2g: train loss %.4f, validation loss %.4f", penalty, train_loss, loss)
        if not loss < best_loss:  # weaker penalties are worse still
            break
        best, best_loss = HeadFit(mean, std, weight, bias, penalty, train_loss), loss
    if best is None:
        raise LabelrError("the features of the images are not finite", "use `--no-amp`, or other `--weights`")
    return best


class _Problem:
    """The objective of the logistic regression: mean cross-entropy over known cells, plus the penalty.

    Attributes:
        start: The weights that the penalty draws to, and a bias for each label, from the frequency of new ones: shape
            ``(L, F + 1)``.
    """

    def __init__(
        self, features: Features, targets: Targets, mean: Tensor, std: Tensor, head: Head, pool: ThreadPool
    ) -> None:
        self.pool = pool
        rows = torch.from_numpy(features.reshape(-1, features.shape[2]))
        self.rows = (rows.float() - mean) / std  # (N * V, F)
        cells = torch.from_numpy(targets).repeat_interleave(features.shape[1], dim=0)  # (N * V, L)
        self.known = ~cells.isnan()
        self.targets = cells.where(self.known, 0.0)
        self.num_known = self.known.sum().clamp(min=1)
        frequency = (self.targets.sum(dim=0) / self.known.sum(dim=0).clamp(min=1)).clamp(1e-3, 1 - 1e-3)
        weight, bias = head.linear.weight.detach().cpu(), head.linear.bias.detach().cpu()
        bias = torch.where(weight.any(dim=1), bias, torch.logit(frequency))
        self.start = torch.cat([weight, bias[:, None]], dim=1)

    def solve(self, start: Tensor, penalty: float) -> tuple[Tensor, float]:
        """The best parameters ``(L, F + 1)`` for a weight of the penalty, and the mean cross-entropy."""
        from scipy.optimize import minimize

        scale = penalty / len(start)

        def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            params = torch.from_numpy(flat.astype(np.float32)).view(start.shape)
            loss, gradient = self._loss_and_gradient(params)
            difference = params[:, :-1] - self.start[:, :-1]
            gradient[:, :-1] += scale * difference
            total = loss + scale / 2 * float(difference.square().sum())
            return total, gradient.flatten().numpy().astype(np.float64)

        options = {"maxiter": MAX_ITERATIONS, "ftol": TOLERANCE, "gtol": 1e-6}
        flat = minimize(
            objective, start.flatten().numpy().astype(np.float64), jac=True, method="L-BFGS-B", options=options
        ).x
        params = torch.from_numpy(flat.astype(np.float32)).view(start.shape)
        return params, self._loss_and_gradient(params)[0]

    def _loss_and_gradient(self, params: Tensor) -> tuple[float, Tensor]:
        def compute(rows: Tensor, targets: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
            logits = torch.addmm(params[:, -1], rows, params[:, :-1].T)
            losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
            excess = (logits.sigmoid() - targets) * known / self.num_known
            return (losses * known).sum(), torch.cat([excess.T @ rows, excess.sum(dim=0)[:, None]], dim=1)

        parts = (torch.split(tensor, ROWS_PER_PART) for tensor in (self.rows, self.targets, self.known))
        losses, gradients = zip(*self.pool.map(compute, *parts), strict=True)
        return float(torch.stack(losses).sum() / self.num_known), torch.stack(gradients).sum(dim=0)


def _mean_and_std(features: Features) -> tuple[Tensor, Tensor]:
    flat = features.reshape(-1, features.shape[2])
    mean, std = flat.mean(axis=0, dtype=np.float64), flat.std(axis=0, dtype=np.float64)
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float().clamp(min=MIN_STD)


def _probs(features: Features, mean: Tensor, std: Tensor, weight: Tensor, bias: Tensor) -> NDArray[np.float32]:
    """The mean probability of the views, shape ``(M, L)``."""
    standard = (torch.from_numpy(features.astype(np.float32)) - mean) / std
    probs: NDArray[np.float32] = (standard @ weight.T + bias).sigmoid().mean(dim=1).numpy()
    return probs


# --- features --------------------------------------------------------------------------------------------------------


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
    """What the last layer of a network, which is not used, sees of each of N images, shape ``(N, V, F)``.

    `name` identifies the weights of the network in the cache, whose disk space is `cache_limit` GB; 0 disables it.
    """
    views = choose_views(preprocessing, len(pixels))
    shape = (len(views), network.head.linear.in_features)
    kind = f"{len(views)}-views{'' if preprocessing.flip_averaging else '-no-flip'}"
    parts = (f"{pixel_cache.FEATURES_PREFIX}{FEATURES_VERSION}", name, runtime.precision, kind, pixels.kind)
    store = pixel_cache.cache_folder() / "-".join(parts)
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
