"""One epoch of training: the optimisation step, the loss, gradient accumulation, and the average of the weights."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from labelr.config import TrainConfig
from labelr.data.augment import STRENGTHS, TRAINING_SHARE, Augmentation, mixup
from labelr.errors import LabelrError, first_line, pluralize
from labelr.model.device import MicroBatcher, Runtime, is_out_of_memory
from labelr.model.info import ModelInfo
from labelr.model.network import Network, count_parameters
from labelr.model.predict import normalise
from labelr.model.pretrained import smallest_size
from labelr.model.store import build_network
from labelr.progress import Description, Track, untracked
from labelr.training.batches import Batch, TrainImages
from labelr.training.optim import MIN_SIZE, Budget, layer_depths, make_optimizers, one_cycle, progressive_size

LAST_LAYERS = 0.75
"""How deep in a network the layers start that the setting ``train="last"`` trains."""
LOSS_CHECK_STEPS = 16
"""The number of steps between checks of the losses: a check waits for the accelerator."""

log = logging.getLogger(__name__)


class Trainer:
    """A newly initialised network in training, with its optimizers, schedule and moving average of weights.

    Attributes:
        epoch: The current epoch, from 1.
        steps: The number of steps made.
        losses: Of the steps of the current epoch, each a scalar on the device.
        waited_seconds: The time in the current epoch that was spent waiting for batches.
        batcher: How many images of a batch go through the network at a time.
    """

    def __init__(
        self, images: TrainImages, info: ModelInfo, config: TrainConfig, runtime: Runtime, budget: Budget
    ) -> None:
        self.config = config
        self.runtime = runtime
        self.preprocessing = info.preprocessing
        self.smallest_size = smallest_size(info.architecture)
        self.images = images
        self.budget = budget
        self.epoch = 1
        self.steps = 0
        self.losses: list[Tensor] = []
        self.waited_seconds = 0.0
        batch_size = images.batch_size
        consequence = f", with accumulated gradients, so that a step still uses {pluralize(batch_size, 'image')}"
        self.batcher = MicroBatcher(
            min(config.micro_batch or batch_size, batch_size), "training", consequence, minimum=2
        )
        torch.manual_seed(config.seed)
        self.network = runtime.place(build_network(info))
        self.network.keeps_statistics = config.is_pretrained
        if config.train == "last":
            for parameter, depth in layer_depths(self.network).items():
                parameter.requires_grad = depth >= LAST_LAYERS
        log.debug(
            "%s, %s of %s per epoch", pluralize(count_parameters(self.network), "parameter"),
            pluralize(images.steps, "step"), pluralize(batch_size, "image"),
        )  # fmt: skip
        self.forward = cast("nn.Module", torch.compile(self.network)) if config.compile else self.network
        strength = STRENGTHS[cast("str", config.augment)]
        self.augment = Augmentation(strength, flip=config.flip, vertical_flip=config.vertical_flip)
        # The head is trained without one; to make one imports torch.compile, which takes two seconds.
        self.optimizers = [] if config.train == "head" else make_optimizers(self.network, config, runtime)
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
        self.average = AveragedModel(self.network, multi_avg_fn=self._average, use_buffers=True)

    @property
    def averaged(self) -> Network:
        """The network with averaged weights, which is evaluated and saved."""
        return cast("Network", self.average.module)

    @property
    def progress(self) -> float:
        """The share of the run that is done, in [0, 1]."""
        return self.budget.progress(self.steps)

    @property
    def epoch_start(self) -> float:
        """The share of the run that was done when the current epoch started."""
        return self.budget.progress(self.steps - len(self.losses))

    def lr_at(self, progress: float) -> float:
        """The learning rate at one point of the run."""
        return cast("float", self.config.lr) * one_cycle(progress).lr

    def size_at(self, progress: float) -> int:
        """The image size at one point of the run."""
        full = max(self.smallest_size, round(self.preprocessing.image_size * TRAINING_SHARE))
        smallest = max(self.smallest_size, MIN_SIZE)
        return progressive_size(full, progress, smallest) if self.config.progressive else full

    @property
    def micro_batch(self) -> int | None:
        """The setting of that name as reached in training; None if whole batches go through the network."""
        return self.batcher.size if self.batcher.size < self.images.batch_size else None

    def run_epoch(
        self,
        track: Track = untracked,
        description: Description = "training",
        after_step: Callable[[], None] = lambda: None,
    ) -> float:
        """Trains on each image once, or on the rest of a resumed epoch, or until the budget is used up.

        Returns:
            The mean training loss.

        Raises:
            LabelrError: If a loss is infinite or NaN, or memory does not suffice.
        """
        self.network.train()
        done = len(self.losses)
        batches = self._timed(self.images.epoch(self.epoch, start=done))
        for batch in track(batches, description, self.images.steps - done):
            self.losses.append(self._step(batch))
            if len(self.losses) % LOSS_CHECK_STEPS == 0:
                self._check_losses()
            after_step()
            if self.progress >= 1:
                break
        self._check_losses()
        return float(torch.stack(self.losses).mean())

    def reset_average(self) -> None:
        """Makes the averaged network a copy of the network, whose weights were set from outside."""
        self.averaged.load_state_dict(self.network.state_dict())

    def end_epoch(self) -> None:
        """Moves on to the next epoch."""
        self.epoch += 1
        self.losses = []
        self.waited_seconds = 0.0

    def state(self) -> dict[str, Any]:
        """Everything that resuming needs, in types that `torch.load` reads without executing code.

        Raises:
            LabelrError: If a loss is infinite or NaN: such a state is useless.
        """
        self._check_losses()
        return {
            "epoch": self.epoch,
            "steps": self.steps,
            "losses": torch.stack(self.losses).cpu() if self.losses else torch.empty(0),
            "waited_seconds": self.waited_seconds,
            "micro_batch": (self.config.micro_batch, self.batcher.size),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Returns to the point where `state` was taken."""
        self.epoch, self.steps, self.waited_seconds = state["epoch"], state["steps"], state["waited_seconds"]
        self.budget.resumed_at = self.steps
        self.losses = list(state["losses"].to(self.runtime.device))
        setting, reached = state["micro_batch"]
        if setting == self.config.micro_batch:
            self.batcher.size = reached
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimizer, optimizer_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        if state["scaler"]:  # empty if it was taken with a precision that needs no scaling
            self.scaler.load_state_dict(state["scaler"])

    def _check_losses(self) -> None:
        """Raises LabelrError if one of the latest losses is infinite or NaN."""
        first = max(0, len(self.losses) - LOSS_CHECK_STEPS)
        for step, loss in enumerate(torch.stack(self.losses[first:]).tolist() if self.losses else (), start=first + 1):
            if not math.isfinite(loss):
                raise LabelrError(
                    f"the loss became {loss:g} in epoch {self.epoch}, step {step}",
                    f"use a smaller learning rate than `--lr {self.config.lr:g}`, or `--no-amp`",
                )

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; the time spent waiting for them is added to `waited_seconds`."""
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.waited_seconds += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def _step(self, batch: Batch) -> Tensor:
        generator = torch.Generator().manual_seed(batch.seed)
        images, targets = self.runtime.to_device(batch.images), self.runtime.to_device(batch.targets)
        augmented = normalise(
            self.augment(images, batch.aspects, self.size_at(self.progress), generator), self.preprocessing
        )
        mixed, mixed_targets = mixup(augmented, targets, self.config.mixup, generator)
        self._update_schedule()
        loss = self.batcher.run(partial(self._accumulate_gradients, mixed, mixed_targets, batch.seed))
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self.average.update_parameters(self.network)
        self.steps += 1
        return loss

    def _accumulate_gradients(self, images: Tensor, targets: Tensor, seed: int, max_images: int) -> Tensor:
        """The loss of a batch, with gradients accumulated over micro-batches of at most `max_images` images."""
        torch.manual_seed(seed ^ 1)  # for dropout
        self.network.zero_grad(set_to_none=True)
        num_known = (~targets.isnan()).sum()
        parts = max(1, min(-(-len(images) // max_images), len(images) // 2))  # BatchNorm needs at least two images
        losses = []
        for micro_images, micro_targets in zip(images.tensor_split(parts), targets.tensor_split(parts), strict=True):
            loss = masked_bce(self._forward(micro_images).float(), micro_targets, num_known)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _forward(self, images: Tensor) -> Tensor:
        try:
            with self.runtime.autocast():
                logits: Tensor = self.forward(images)
        except RuntimeError as error:
            if not self.config.compile or is_out_of_memory(error):
                raise
            raise LabelrError(
                f"the network cannot be compiled here: {first_line(error)}", "leave `--compile` out"
            ) from error
        return logits

    def _update_schedule(self) -> None:
        cycle = one_cycle(self.progress)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = cast("float", self.config.lr) * cycle.lr * group["lr_scale"]
            if "betas" in group:
                group["betas"] = (cycle.momentum, group["betas"][1])

    def _average(self, averaged: Sequence[Tensor], current: Sequence[Tensor], _: Tensor | int) -> None:
        """An exponential moving average with less decay at first, so that short runs forget the initial weights."""
        decay = min(self.config.ema, (1 + self.steps) / (10 + self.steps))
        get_ema_multi_avg_fn(decay)(averaged, current, self.steps)  # type: ignore[no-untyped-call]


def masked_bce(logits: Tensor, targets: Tensor, num_known: Tensor | None = None) -> Tensor:
    """Binary cross-entropy over the known cells.

    Args:
        logits: Shape ``(N, L)``.
        targets: 1 where the label applies, 0 where not, NaN where unknown, shape ``(N, L)``.
        num_known: The number of known cells of the whole batch, a scalar, if this is a micro-batch; None counts them.

    Returns:
        The mean over the known cells, in nats, a scalar; 0 if none is known.
    """
    known = ~torch.isnan(targets)
    losses = F.binary_cross_entropy_with_logits(logits, targets.where(known, 0.0), reduction="none")
    return (losses * known).sum() / (known.sum() if num_known is None else num_known).clamp(min=1)
