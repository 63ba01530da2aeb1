"""One epoch of training: the step, the optimizers, the averaging of weights."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from labelr.config import TrainConfig
from labelr.data.augment import STRENGTHS, TRAINING_SHARE, Augmentation, mixup
from labelr.errors import LabelrError, first_line
from labelr.model.device import MicroBatcher, Runtime, is_out_of_memory
from labelr.model.info import Preprocessing
from labelr.model.network import ResidualNetwork
from labelr.model.predict import normalise
from labelr.progress import Description, Track, untracked
from labelr.training.batches import Batch, TrainImages
from labelr.training.losses import masked_bce
from labelr.training.muon import Muon
from labelr.training.schedule import Budget, grown_size, one_cycle

CHECKED_EVERY = 16
"""Steps after which the losses are looked at: an accelerator would have to be waited for at every one."""


class Trainer:
    """A network in training, with its optimizers, its schedule and the running average of its weights.

    Args:
        network: Put on the machine's device.
        images: The training images.
        config: The settings, as resolved.
        preprocessing: How images become the network's input.
        machine: What to run on.
        budget: How long to train.

    Attributes:
        epoch: The present one, from 1.
        steps: How many were made.
        losses: Of the steps of the present epoch, each a scalar on the device.
        waited_seconds: How much time of the present epoch was spent in waiting for batches.
        portions: How many images of a batch go through the network at a time.
    """

    def __init__(
        self,
        network: ResidualNetwork,
        images: TrainImages,
        config: TrainConfig,
        preprocessing: Preprocessing,
        machine: Runtime,
        budget: Budget,
    ) -> None:
        self.config = config
        self.machine = machine
        self.preprocessing = preprocessing
        self.images = images
        self.budget = budget
        self.epoch = 1
        self.steps = 0
        self.losses: list[Tensor] = []
        self.waited_seconds = 0.0
        batch_size = images.batch_size
        added_up = f", their gradients added up, so that a step is still of {batch_size}"
        self.portions = MicroBatcher(min(config.micro_batch or batch_size, batch_size), "training", added_up, minimum=2)
        self.network = machine.place(network)
        self.forward = cast("nn.Module", torch.compile(self.network)) if config.compile else self.network
        self.augment = Augmentation(STRENGTHS[config.augment], flip=config.flip, vertical_flip=config.vertical_flip)
        self.optimizers = make_optimizers(self.network, config, machine)
        self.scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.precision == "fp16")
        self.average = AveragedModel(self.network, multi_avg_fn=self._average, use_buffers=True)

    @property
    def averaged(self) -> ResidualNetwork:
        """The network with averaged weights: the one that is scored and saved."""
        return cast("ResidualNetwork", self.average.module)

    @property
    def progress(self) -> float:
        """The share of the run that is done, in [0, 1]."""
        return self.budget.progress(self.steps)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self._lr_at(self.progress)

    @property
    def first_lr(self) -> float:
        """The learning rate of the present epoch's first step."""
        return self._lr_at(self._begun_at)

    @property
    def size(self) -> int:
        """The edge of the next step's images."""
        return self._size_at(self.progress)

    @property
    def first_size(self) -> int:
        """The edge of the images in the present epoch's first step."""
        return self._size_at(self._begun_at)

    @property
    def _begun_at(self) -> float:
        """The share of the run that was done when the present epoch began."""
        return self.budget.progress(self.steps - len(self.losses))

    def _lr_at(self, progress: float) -> float:
        return cast("float", self.config.lr) * one_cycle(progress).lr  # `resolve` has replaced "auto"

    def _size_at(self, progress: float) -> int:
        full = round(self.preprocessing.image_size * TRAINING_SHARE)
        return grown_size(full, progress) if self.config.progressive else full

    @property
    def micro_batch(self) -> int | None:
        """The setting of that name as it was reached: None where whole batches go through the network."""
        return self.portions.size if self.portions.size < self.images.batch_size else None

    def run_epoch(
        self,
        track: Track = untracked,
        description: Description = "training",
        after_step: Callable[[], None] = lambda: None,
    ) -> float:
        """Trains on each image once, or on what is left of an epoch that was begun, or until the budget is used up.

        Args:
            track: Watches the steps go by.
            description: What the watcher is told.
            after_step: Called after each step.

        Returns:
            The mean training loss.

        Raises:
            LabelrError: If the loss of a step was infinite or no number, or memory does not suffice.
        """
        self.network.train()
        begun = len(self.losses)
        batches = self._waited(self.images.epoch(self.epoch, begun))
        for batch in track(batches, description, self.images.steps - begun):
            self.losses.append(self._step(batch))
            if len(self.losses) % CHECKED_EVERY == 0:
                self._check_losses()
            after_step()
            if self.progress >= 1:
                break
        self._check_losses()
        return float(torch.stack(self.losses).mean())

    def end_epoch(self) -> None:
        """Makes the next epoch the present one."""
        self.epoch += 1
        self.losses = []
        self.waited_seconds = 0.0

    def state(self) -> dict[str, Any]:
        """All that decides how training goes on, in what `torch.load` takes without executing code.

        Raises:
            LabelrError: If the loss was infinite or no number: nobody can go on from there.
        """
        self._check_losses()
        return {
            "epoch": self.epoch,
            "steps": self.steps,
            "losses": torch.stack(self.losses).cpu() if self.losses else torch.empty(0),
            "waited_seconds": self.waited_seconds,
            "micro_batch": (self.config.micro_batch, self.portions.size),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to where `state` was taken."""
        self.epoch, self.steps, self.waited_seconds = state["epoch"], state["steps"], state["waited_seconds"]
        self.losses = list(state["losses"].to(self.machine.device))
        wanted, reached = state["micro_batch"]
        if wanted == self.config.micro_batch:
            self.portions.size = reached
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimizer, one in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(one)
        if state["scaler"]:  # empty where it was taken on a machine that needs none
            self.scaler.load_state_dict(state["scaler"])

    def _check_losses(self) -> None:
        """Raises LabelrError where the last losses say that training is lost."""
        first = max(0, len(self.losses) - CHECKED_EVERY)
        for step, loss in enumerate(torch.stack(self.losses[first:]).tolist() if self.losses else (), start=first + 1):
            if not math.isfinite(loss):
                raise LabelrError(
                    f"the loss became {loss:g} in epoch {self.epoch}, step {step}",
                    f"use a smaller learning rate than `--lr {self.config.lr:g}`, or `--no-amp`",
                )

    def _waited(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches, the time until each is there added up."""
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.waited_seconds += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def _step(self, batch: Batch) -> Tensor:
        generator = torch.Generator().manual_seed(batch.seed)
        images, targets = self.machine.to_device(batch.images), self.machine.to_device(batch.targets)
        changed = normalise(self.augment(images, batch.aspects, self.size, generator), self.preprocessing)
        mixed, mixed_targets = mixup(changed, targets, self.config.mixup, generator)
        self._set_pace()
        loss = self.portions.run(partial(self._add_gradients, mixed, mixed_targets, batch.seed))
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self.average.update_parameters(self.network)
        self.steps += 1
        return loss

    def _add_gradients(self, images: Tensor, targets: Tensor, seed: int, most: int) -> Tensor:
        """The loss of a batch, its gradients those of the whole, though at most `most` images are in use at a time."""
        torch.manual_seed(seed ^ 1)  # for dropout
        self.network.zero_grad(set_to_none=True)
        num_known = (~targets.isnan()).sum()
        portions = max(1, min(-(-len(images) // most), len(images) // 2))  # BatchNorm needs more than one image
        losses = []
        for some, their in zip(images.tensor_split(portions), targets.tensor_split(portions), strict=True):
            loss = masked_bce(self._forward(some).float(), their, num_known)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _forward(self, images: Tensor) -> Tensor:
        try:
            with self.machine.autocast():
                logits: Tensor = self.forward(images)
        except RuntimeError as error:
            if not self.config.compile or is_out_of_memory(error):
                raise
            raise LabelrError(
                f"the network cannot be compiled here: {first_line(error)}", "leave `--compile` out"
            ) from error
        return logits

    def _set_pace(self) -> None:
        pace = one_cycle(self.progress)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = cast("float", self.config.lr) * pace.lr
            if "betas" in group:
                group["betas"] = (pace.momentum, group["betas"][1])

    def _average(self, averaged: Sequence[Tensor], current: Sequence[Tensor], _: Tensor | int) -> None:
        """An exponential moving average that forgets faster at first, so that a short run forgets its random start."""
        decay = min(self.config.ema, (1 + self.steps) / (10 + self.steps))
        averaging: Averager = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        averaging(averaged, current, self.steps)


Averager = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]


def make_optimizers(network: nn.Module, config: TrainConfig, machine: Runtime) -> list[torch.optim.Optimizer]:
    """AdamW for all parameters, or Muon for the convolutions but the first and AdamW for the rest.

    Norms and biases are not decayed.
    """
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    inner = [weight for weight in weights if weight.ndim == 4][1:] if config.optimizer == "muon" else []
    outer = [weight for weight in weights if not any(weight is one for one in inner)]
    groups: list[dict[str, object]] = [
        {"params": outer, "weight_decay": config.weight_decay},
        {"params": [vector for vector in network.parameters() if vector.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, betas=(0.95, 0.99), fused=True)]
    if inner:
        dtype = torch.float32 if machine.precision == "fp32" else torch.bfloat16
        optimizers.append(Muon(inner, weight_decay=config.weight_decay, dtype=dtype))
    return optimizers
