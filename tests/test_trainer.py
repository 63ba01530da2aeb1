"""One epoch of training, and its loss."""

import math
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from labelr.config import ReadOptions, TrainConfig
from labelr.data.load import load_dataset
from labelr.errors import LabelrError
from labelr.model.device import Runtime, ThreadPool
from labelr.scoring.metrics import bce
from labelr.training.batches import TrainImages
from labelr.training.epochs import describe_model
from labelr.training.gradients import SeededDropout, masked_bce
from labelr.training.optim import Budget
from labelr.training.trainer import Trainer


def make_trainer(shapes: Path, image_size: int, precision: str = "fp32", threads: int = 1, **settings: Any) -> Trainer:
    """A trainer of a small network for ten steps of 8 images."""
    dataset = load_dataset([shapes], ReadOptions())
    pixels = dataset.pixels(image_size, rule="squish", options=ReadOptions(), threads=1)
    resolved = {"optimizer": "muon", "augment": "light", "mixup": 0.0, "progressive": True, **settings}
    config = TrainConfig(width=0.125, lr=1e-3, batch_size=8, image_size=image_size, **resolved)
    images = TrainImages.of(dataset, pixels, config)
    runtime = Runtime(torch.device("cpu"), precision, threads, 1)
    return Trainer(images, describe_model(dataset, config), config, runtime, Budget(steps=10))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(("row", "step"), [([1.0, np.inf], 2), ([np.nan, 1.0], 1), ([1.0] * 20 + [np.inf], 21)])
def test_checkpoint_with_nan_loss_is_refused(shapes: Path, precision: str, row: list[float], step: int) -> None:
    trainer = make_trainer(shapes, 32, precision)
    trainer.losses = list(torch.tensor(row))
    with pytest.raises(LabelrError, match=rf"the loss became (inf|nan) in epoch 1, step {step}") as caught:
        trainer.state()
    assert "--lr 0.001" in caught.value.hint


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_do_not_depend_on_the_number_of_threads(shapes: Path, precision: str) -> None:
    states = []
    for threads in (1, 2, 16):
        trainer = make_trainer(shapes, 32, precision, threads, micro_batch=2, mixup=0.4, augment="strong")
        trainer.run_epoch()
        states.append(trainer.state())
    for state in states[1:]:
        assert torch.equal(state["losses"], states[0]["losses"])
        for name, tensor in states[0]["network"].items():
            assert torch.equal(state["network"][name], tensor), name


def test_weights_converted_once_a_step_train_as_those_that_autocast_converts(shapes: Path) -> None:
    converted, automatic = (make_trainer(shapes, 32, "bf16", micro_batch=3) for _ in range(2))
    dtypes = {copy.dtype for copy in converted.gradients.low_precision_weights.values()}
    assert dtypes == {torch.bfloat16}
    automatic.gradients.low_precision_weights = {}
    for trainer in (converted, automatic):
        trainer.run_epoch()
    assert torch.equal(torch.stack(converted.losses), torch.stack(automatic.losses))
    for name, tensor in automatic.network.state_dict().items():
        assert torch.equal(converted.network.state_dict()[name], tensor), name


def test_parts_of_a_batch_train_as_the_batch_does_where_batchnorm_keeps_its_statistics(shapes: Path) -> None:
    gradients = []
    for micro_batch in (8, 3):
        trainer = make_trainer(shapes, 32, micro_batch=micro_batch, augment="none", flip=False, dropout=0.0)
        trainer.network.keeps_statistics = True
        trainer.network.train()
        batch = next(trainer.images.epoch(1))
        batch.targets[0, 0] = np.nan  # parts have different numbers of known cells
        trainer.gradients.batcher.run(partial(trainer.gradients.compute, batch, trainer.size_at(0)))
        gradients.append([cast("torch.Tensor", parameter.grad) for parameter in trainer.gradients.parameters])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-5)


def test_batchnorm_statistics_are_the_mean_of_those_of_the_parts(shapes: Path) -> None:
    trainer = make_trainer(shapes, 32, micro_batch=4)
    trainer.run_epoch()
    batches, replicas = len(trainer.losses), trainer.gradients.replicas
    norms = [module for module in trainer.network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for own, *parts in zip(
        norms,
        *([m for m in replica.modules() if isinstance(m, torch.nn.BatchNorm2d)] for replica in replicas),
        strict=True,
    ):
        assert len(parts) == 2
        assert int(own.num_batches_tracked) == batches
        assert not torch.equal(parts[0].running_mean, parts[1].running_mean)
        torch.testing.assert_close(own.running_mean, (parts[0].running_mean + parts[1].running_mean) / 2)
        assert own.weight is parts[0].weight is parts[1].weight


def test_dropout_of_a_thread_does_not_depend_on_the_others() -> None:
    def draw(seed: int) -> torch.Tensor:
        with SeededDropout(torch.Generator().manual_seed(seed)):
            features: torch.Tensor = torch.nn.Dropout(0.5)(torch.ones(50))
            return features * torch.nn.functional.dropout2d(torch.ones(1, 50, 1, 1), 0.3).flatten()

    alone = [draw(seed) for seed in range(40)]
    together = ThreadPool(4).map(draw, range(40))
    assert all(map(torch.equal, alone, together))
    assert not torch.equal(alone[0], alone[1])


@pytest.mark.slow
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
