"""One epoch of training: the step, the optimizers, the averaging of weights."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from labelr.config import TrainConfig
from labelr.data.augment import STRENGTHS, TRAINING_SHARE, Augmentation, mix
from labelr.errors import LabelrError
from labelr.model.device import Machine
from labelr.model.info import Preprocessing
from labelr.model.predict import normalise
from labelr.progress import Description, Track, untracked
from labelr.training.batches import Batch, TrainImages
from labelr.training.losses import masked_bce
from labelr.training.muon import Muon
from labelr.training.schedule import Budget, grown_size, one_cycle


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
        steps: How many were made.
        waited_seconds: How much time was spent in waiting for batches.
        losses: Of the steps of the present epoch, each a scalar on the device.
    """

    def __init__(
        self,
        network: nn.Module,
        images: TrainImages,
        config: TrainConfig,
        preprocessing: Preprocessing,
        machine: Machine,
        budget: Budget,
    ) -> None:
        self.config = config
        self.machine = machine
        self.preprocessing = preprocessing
        self.images = images
        self.budget = budget
        self.steps = 0
        self.waited_seconds = 0.0
        self.losses: list[Tensor] = []
        self.network = machine.place(network)
        self.forward = cast("nn.Module", torch.compile(self.network)) if config.compile else self.network
        self.augment = Augmentation(STRENGTHS[config.augment], flip=config.flip, vertical_flip=config.vertical_flip)
        self.optimizers = make_optimizers(self.network, config, machine)
        self.scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.precision == "fp16")
        self.average = AveragedModel(self.network, multi_avg_fn=self._average, use_buffers=True)

    @property
    def averaged(self) -> nn.Module:
        """The network with averaged weights: the one that is scored and saved."""
        return self.average.module

    @property
    def progress(self) -> float:
        """The share of the run that is done, in [0, 1]."""
        return self.budget.progress(self.steps)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return cast("float", self.config.lr) * one_cycle(self.progress).lr  # `resolve` has replaced "auto"

    @property
    def size(self) -> int:
        """The edge of the images in the next epoch."""
        full = round(self.preprocessing.image_size * TRAINING_SHARE)
        return grown_size(full, self.progress) if self.config.progressive else full

    def run_epoch(self, epoch: int, track: Track = untracked, description: Description = "training") -> float:
        """Trains on each image once, or until the budget is used up.

        Args:
            epoch: From 1.
            track: Watches the steps go by.
            description: What the watcher is told.

        Returns:
            The mean training loss.

        Raises:
            LabelrError: If the loss of a step was infinite or no number.
        """
        self.network.train()
        self.losses = []
        size = self.size
        for batch in track(self._waited(self.images.epoch(epoch)), description, self.images.steps):
            self.losses.append(self._step(batch, size))
            if self.progress >= 1:
                break
        values = torch.stack(self.losses).cpu()  # only here, so that an accelerator is not waited for at every step
        if not values.isfinite().all():
            step = int((~values.isfinite()).nonzero()[0]) + 1
            raise LabelrError(
                f"the loss became {values[step - 1]:g} in epoch {epoch}, step {step}",
                f"use a smaller learning rate than `--lr {self.config.lr:g}`, or `--no-amp`",
            )
        return float(values.mean())

    def _waited(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches, the time until each is there added up."""
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.waited_seconds += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def _step(self, batch: Batch, size: int) -> Tensor:
        torch.manual_seed(batch.seed ^ 1)  # for dropout
        generator = torch.Generator().manual_seed(batch.seed)
        images = batch.images.to(self.machine.device, non_blocking=True)
        targets = batch.targets.to(self.machine.device, non_blocking=True)
        changed = normalise(self.augment(images, batch.aspects, size, generator), self.preprocessing)
        mixed, mixed_targets = mix(changed, targets, self.config.mixup, generator)
        self._set_pace()
        loss = masked_bce(self._forward(mixed).float(), mixed_targets)
        self.network.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self.average.update_parameters(self.network)
        self.steps += 1
        return loss.detach()

    def _forward(self, images: Tensor) -> Tensor:
        try:
            with self.machine.autocast():
                logits: Tensor = self.forward(images)
        except RuntimeError as error:
            if not self.config.compile:
                raise
            reason = str(error).strip().split("\n")[0]
            raise LabelrError(f"the network cannot be compiled here: {reason}", "leave `--compile` out") from error
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


def make_optimizers(network: nn.Module, config: TrainConfig, machine: Machine) -> list[torch.optim.Optimizer]:
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
