"""One epoch of training: steps, their schedule, and the average of the weights."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from labelr.config import TrainConfig
from labelr.data.augment import TRAINING_SHARE
from labelr.errors import LabelrError
from labelr.model.device import Runtime, one_thread_per_operation
from labelr.model.info import ModelInfo
from labelr.model.network import Network
from labelr.model.pretrained import smallest_size
from labelr.model.weight_files import check_like
from labelr.progress import Description, Track, untracked
from labelr.training.batches import Batch, TrainImages
from labelr.training.distributed import ALONE, Group
from labelr.training.gradients import BatchGradients
from labelr.training.optim import MIN_SIZE, Budget, make_optimizers, one_cycle, progressive_size, restore_optimizer

LOSS_CHECK_STEPS = 16
"""The number of steps between checks of the losses: a check waits for the accelerator."""


class Trainer:
    """A newly initialised network in training, with its optimizers, schedule and moving average of weights.

    Attributes:
        gradients: The network, and what computes the gradients of a batch.
        epoch: The current epoch, from 1.
        steps: The number of steps made.
        losses: Of the steps of the current epoch, each a scalar on the device.
        waited_seconds: The time in the current epoch that was spent waiting for batches.

    Args:
        group: The processes that compute the gradients; this one does all else if it is process 0.
    """

    def __init__(
        self, images: TrainImages, info: ModelInfo, config: TrainConfig, runtime: Runtime, budget: Budget,
        group: Group = ALONE,
    ) -> None:  # fmt: skip
        self.gradients = BatchGradients(images, info, config, runtime, group)
        self.network = self.gradients.network
        self.config = config
        self.runtime = runtime
        self.preprocessing = info.preprocessing
        self.smallest_size = smallest_size(info.architecture)
        self.images = images
        self.budget = budget
        self.group = group
        self.epoch = 1
        self.steps = 0
        self.losses: list[Tensor] = []
        self._checked_loss: float | None = None
        self.waited_seconds = 0.0
        self.optimizers: list[torch.optim.Optimizer] = []
        if config.train != "head":  # to make one imports torch.compile, which takes two seconds
            self.optimizers = make_optimizers(self.network, config, runtime, self.gradients.pool)
        self.average = AveragedNetwork(self.network, self._average)

    @property
    def averaged(self) -> Network:
        """The network with averaged weights, which is evaluated and saved."""
        return cast("Network", self.average.module)

    @property
    def progress(self) -> float:
        """The share of the run that is done, in [0, 1]."""
        return self.budget.progress(self.steps)

    @property
    def latest_loss(self) -> float | None:
        """The latest loss of the current epoch that is known without waiting for an accelerator, if any."""
        return float(self.losses[-1]) if self.losses and self.runtime.is_cpu else self._checked_loss

    @property
    def epoch_start(self) -> float:
        """The share of the run that was done when the current epoch started."""
        return self.budget.progress(self.steps - len(self.losses))

    def lr_at(self, progress: float) -> float:
        """The learning rate at one point of the run."""
        return cast("float", self.config.lr) * one_cycle(progress)[0]

    def size_at(self, progress: float) -> int:
        """The image size at one point of the run."""
        full = max(self.smallest_size, round(self.preprocessing.image_size * TRAINING_SHARE))
        smallest = max(self.smallest_size, MIN_SIZE)
        return progressive_size(full, progress, smallest) if self.config.progressive else full

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
        done = len(self.losses)
        self.group.send("epoch", epoch=self.epoch, start=done, micro_batch=self.gradients.batcher.size)
        batches = self._timed(self.gradients.start_epoch(self.epoch, done))
        for batch in track(batches, description, self.images.steps - done):
            with one_thread_per_operation(), self.runtime.exclusive():
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
        self.losses, self._checked_loss = [], None
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
            "micro_batch": (self.config.micro_batch, self.gradients.batcher.size),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.gradients.scaler.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Returns to the point where `state` was taken.

        Raises:
            ValueError: If it is of another network or run; other errors if a part is missing or of another type.
        """
        losses, steps = state["losses"], state["steps"]
        if not len(losses) <= min(self.images.steps, steps) or steps > (self.budget.steps or 0):
            raise ValueError(f"steps: the run has less than {steps:,}")
        check_like({"losses": losses}, {"losses": torch.empty(len(losses))}, "losses")
        check_like(state["network"], self.network.state_dict(), "network")
        check_like(state["average"], self.average.state_dict(), "average")
        self.epoch, self.steps, self.waited_seconds = state["epoch"], state["steps"], state["waited_seconds"]
        self.budget.resumed_at = self.steps
        self.losses = list(losses.to(self.runtime.device))
        setting, reached = state["micro_batch"]
        if setting == self.config.micro_batch:
            self.gradients.batcher.size = min(reached, self.images.batch_size)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimizer, optimizer_state in zip(self.optimizers, state["optimizers"], strict=True):
            restore_optimizer(optimizer, optimizer_state["state"])
        if state["scaler"]:  # empty if it was taken with a precision that needs no scaling
            self.gradients.scaler.load_state_dict(state["scaler"])

    def _check_losses(self) -> None:
        """Raises LabelrError if one of the latest losses is infinite or NaN."""
        first = max(0, len(self.losses) - LOSS_CHECK_STEPS)
        for step, loss in enumerate(torch.stack(self.losses[first:]).tolist() if self.losses else (), start=first + 1):
            self._checked_loss = loss
            if not math.isfinite(loss):
                raise LabelrError(
                    f"the loss became {loss:g} in epoch {self.epoch}, step {step}",
                    f"use a smaller learning rate than `--lr {self.config.lr:g}`, or `--no-amp`",
                )

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; the time spent waiting for them is added to `waited_seconds`."""
        while True:
            start = time.perf_counter()
            batch = self._next(batches)
            self.waited_seconds += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        with self.runtime.exclusive():
            return next(batches, None)

    def _step(self, batch: Batch) -> Tensor:
        self._update_schedule()
        size = self.size_at(self.progress)  # with a time limit, it depends on the clock
        if self.group.size > 1:
            self.group.send("step", size=size, scale=self.gradients.scaler.get_scale())
        with self.group.watched():
            loss = self.gradients.batcher.run(partial(self.gradients.compute, batch, size))
        for optimizer in self.optimizers:
            self.gradients.scaler.step(optimizer)
        self.gradients.scaler.update()
        self.average.update_parameters(self.network)
        self.steps += 1
        return loss

    def _update_schedule(self) -> None:
        lr, momentum = one_cycle(self.progress)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = cast("float", self.config.lr) * lr * group["lr_scale"]
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])

    def _average(self, averaged: list[Tensor], current: list[Tensor]) -> None:
        """An exponential moving average with less decay at first, so that short runs forget the initial weights."""
        is_count = not averaged[0].is_floating_point()  # of BatchNorm: four operations for each
        if is_count and not self.runtime.is_cpu:
            torch._foreach_copy_(averaged, current)
            return
        decay = min(self.config.ema, (1 + self.steps) / (10 + self.steps))
        get_ema_multi_avg_fn(decay)(averaged, current, self.steps)  # type: ignore[no-untyped-call]


class AveragedNetwork(AveragedModel):
    """A network with averaged weights and buffers, beside the one that is trained.

    `average` updates averaged tensors, which are its first argument, by those of the network; all of one type.
    """

    def __init__(self, network: nn.Module, average: Callable[[list[Tensor], list[Tensor]], None]) -> None:
        super().__init__(network, use_buffers=True)
        self.average = average

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """As torch's, which in each step copies `n_averaged` to an accelerator and waits until it is there."""
        own, current = ([*network.parameters(), *network.buffers()] for network in (self.module, model))
        if self.n_averaged == 0:
            torch._foreach_copy_(own, current)
        else:
            for dtype in dict.fromkeys(tensor.dtype for tensor in own):
                rows = [row for row, tensor in enumerate(own) if tensor.dtype == dtype]
                self.average([own[row] for row in rows], [current[row] for row in rows])
        self.n_averaged += 1
