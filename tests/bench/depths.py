"""What features of several depths of EfficientNet-Lite0 gain over those of its last layer, for a head on them.

    python tests/bench/depths.py TRAIN [--images 100 300 900] [--seeds 5] [--size 160]

Heads are fitted to N images of TRAIN, stratified by label, of which a tenth chooses the L2 penalty, and scored on all
others: mAP, cross-entropy and exact match at 0.5, means over the seeds and the standard error of the mAP.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

from labelr.config import ReadOptions
from labelr.data.images import read_pixels
from labelr.data.load import load_dataset
from labelr.data.splits import stratified_split
from labelr.model.backbones import LiteBackbone
from labelr.model.network import LITE_FEATURES, Head
from labelr.scoring import metrics
from labelr.training.head import Features, HeadFit, fit_head

BATCH_SIZE = 32


@torch.inference_mode()
def features_of(images: list[Path], size: int) -> Features:
    """The features of N images and their mirror images, shape ``(N, 2, F)``."""
    backbone = LiteBackbone.of(0)
    network, _ = backbone.build()
    path = backbone.local_weights()
    assert path is not None, "needs the extra `backbone`"
    backbone.load_file(network, path)
    network.eval()
    parts = []
    for start in range(0, len(images), BATCH_SIZE):
        pixels = np.stack([read_pixels(path, size) for path in images[start : start + BATCH_SIZE]])
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        batch = (batch / 255 - backbone.mean[0]) / backbone.std[0]
        parts.append(torch.stack([network(batch), network(batch.flip(3))], dim=1).half().numpy())
    return np.concatenate(parts)


def probs_of(fit: HeadFit, features: Features) -> np.ndarray:
    """The mean probability of both views, shape ``(N, L)``."""
    standard = (torch.from_numpy(features.astype(np.float32)) - fit.mean) / fit.std
    return (standard @ fit.weight.T + fit.bias).sigmoid().mean(dim=1).numpy()


def scores(features: Features, targets: np.ndarray, num_images: int, seed: int) -> tuple[float, float, float]:
    """The mAP, cross-entropy and exact match of a head that is fitted to some of the images, on all others."""
    share = num_images / len(targets)
    names = [str(row) for row in range(len(targets))]
    split = np.array(
        stratified_split(
            targets, names, [0.9 * share, 0.1 * share, 1 - share], groups=np.arange(len(targets)), seed=seed
        )
    )
    train, val, test = (np.flatnonzero(split == part) for part in range(3))
    targets = targets[:, targets[train].sum(axis=0) > 0]
    head = Head(features.shape[2], targets.shape[1], 0.0)
    nn.init.zeros_(head.linear.weight)
    probs = probs_of(fit_head(head, features[train], targets[train], features[val], targets[val]), features[test])
    return (
        float(metrics.mean_or_nan(metrics.average_precision(probs, targets[test]))),
        metrics.bce(probs, targets[test]),
        metrics.exact_match(probs >= 0.5, targets[test]),
    )


def main() -> None:
    """Prints a line for each number of images, and for the last layer and all depths."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("train", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 300, 900])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--size", type=int, default=160)
    arguments = parser.parse_args()
    dataset = load_dataset([arguments.train], ReadOptions())
    features = features_of([Path(dataset.root, file) for file in dataset.files], arguments.size)
    for num_images in arguments.images:
        for name, part in (("last layer", features[..., -LITE_FEATURES:]), ("all depths", features)):
            runs = np.array([scores(part, dataset.targets, num_images, seed) for seed in range(arguments.seeds)])
            error = runs[:, 0].std(ddof=1) / len(runs) ** 0.5
            means = "mAP {:.4f}, cross-entropy {:.4f}, exact match {:.4f}".format(*runs.mean(axis=0))
            print(f"{num_images} images, {name}: {means}; standard error of the mAP {error:.4f}", flush=True)


if __name__ == "__main__":
    main()
