"""One epoch of training, and its loss."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labelr.config import ReadOptions, TrainConfig
from labelr.data.load import load_dataset
from labelr.errors import LabelrError
from labelr.model.device import Runtime
from labelr.scoring.metrics import bce
from labelr.training.batches import TrainImages
from labelr.training.epochs import describe_model
from labelr.training.optim import Budget
from labelr.training.trainer import Trainer, masked_bce


def make_trainer(shapes: Path, image_size: int, precision: str = "fp32", **settings: Any) -> Trainer:
    """A trainer of a small network for ten steps of 8 images."""
    dataset = load_dataset([shapes], ReadOptions())
    pixels = dataset.pixels(image_size, rule="squish", options=ReadOptions(), threads=1)
    resolved = {"optimizer": "muon", "augment": "light", "progressive": True, **settings}
    config = TrainConfig(width=0.125, lr=1e-3, batch_size=8, image_size=image_size, **resolved)
    images = TrainImages.of(dataset, pixels, config)
    runtime = Runtime(torch.device("cpu"), precision, 1, 1)
    return Trainer(images, describe_model(dataset, config), config, runtime, Budget(steps=10))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(("row", "step"), [([1.0, np.inf], 2), ([np.nan, 1.0], 1), ([1.0] * 20 + [np.inf], 21)])
def test_checkpoint_with_nan_loss_is_refused(shapes: Path, precision: str, row: list[float], step: int) -> None:
    trainer = make_trainer(shapes, 32, precision)
    trainer.losses = list(torch.tensor(row))
    with pytest.raises(LabelrError, match=rf"the loss became (inf|nan) in epoch 1, step {step}") as caught:
        trainer.state()
    assert "--lr 0.001" in caught.value.hint


@pytest.mark.parametrize(("before", "after"), [("bf16", "fp16"), ("fp16", "bf16")])
def test_run_resumes_with_another_precision(shapes: Path, before: str, after: str) -> None:
    stopped, resumed = make_trainer(shapes, 32, before), make_trainer(shapes, 32, after)
    stopped.run_epoch()
    resumed.restore(stopped.state())
    assert resumed.steps == stopped.steps
    assert math.isfinite(resumed.run_epoch())


def test_images_grow_within_an_epoch(shapes: Path) -> None:
    trainer = make_trainer(shapes, 128)
    sizes = [trainer.size_at(trainer.progress)]
    while trainer.progress < 1:
        trainer.run_epoch(after_step=lambda: sizes.append(trainer.size_at(trainer.progress)))
        trainer.end_epoch()
    assert sizes == [64, 64, 80, 80, 80, 96, 96, 112, 112, 112, 112]  # the last would be of an eleventh step


def test_augmentation_flips_and_optimizer_change_the_weights(shapes: Path) -> None:
    changes: list[dict[str, Any]] = [
        {}, {"augment": "none"}, {"augment": "strong"}, {"vertical_flip": True}, {"flip": False},
        {"optimizer": "adamw"},
    ]  # fmt: skip
    weights = set()
    for change in changes:
        trainer = make_trainer(shapes, 32, **change)
        trainer.run_epoch()
        weights.add(trainer.network.state_dict()["head.hidden.1.weight"].numpy().tobytes())
    assert len(weights) == len(changes)


def test_loss_is_the_metric_of_the_same_name() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 4), (torch.rand(6, 4) < 0.5).float()
    assert float(masked_bce(logits, targets)) == pytest.approx(bce(logits.sigmoid().numpy(), targets.numpy()), abs=1e-6)


def test_unknown_cells_have_no_loss_and_no_gradient() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]], requires_grad=True)
    targets = torch.tensor([[1.0, np.nan], [np.nan, 0.0]])
    loss = masked_bce(logits, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    expected = (np.log1p(np.exp(-2)) + np.log1p(np.exp(3))) / 2
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-6)
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == [[True, False], [False, True]]


def test_loss_of_nothing_known_is_zero() -> None:
    assert float(masked_bce(torch.ones(2, 2), torch.full((2, 2), np.nan))) == 0
