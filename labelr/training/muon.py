"""Muon: steps of equal length in every direction of a weight matrix."""

import math
from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial that, applied again and again, takes singular values from (0, 1] to about 1."""
ROUNDS = (3, 2)
"""How often it is applied before, and after, the matrix itself is computed anew."""
ADAMW_RMS = 0.2
"""Steps are as long as those of AdamW usually are, so that one learning rate and weight decay suits both."""


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonalised by a Newton-Schulz iteration (Jordan et al. 2024).

    A convolution's weight is taken as a matrix, a row for each output channel. The iteration is the authors', five
    times the same polynomial, but of the small Gram matrix: the large one is multiplied 4 times instead of 10. In 16
    bits that is stable for three iterations in a row, so the Gram matrix is computed anew after these.
    `torch.optim.Muon` takes matrices only, and always computes in bf16.

    Args:
        weights: Of two dimensions or more.
        lr: Learning rate; it and the weight decay are AdamW's (Liu et al. 2025, "Muon is scalable").
        momentum: Decay of the running mean of gradients.
        weight_decay: Decoupled.
        dtype: What to compute in.
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        *,
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Makes one step with the gradients there are."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group["lr"], group["momentum"], group["weight_decay"])
        return loss

    def _update(self, weight: Tensor, grad: Tensor, lr: float, momentum: float, weight_decay: float) -> None:
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        mean = state["momentum_buffer"].lerp_(grad, 1 - momentum)
        ahead = grad.lerp(mean, momentum).movedim(1, -1)  # Nesterov's; a convolution's weight as it lies in memory
        step = orthogonalise(ahead.flatten(1).to(self.dtype))
        weight.mul_(1 - lr * weight_decay)
        length = lr * ADAMW_RMS * math.sqrt(max(step.shape))
        weight.add_(step.view(ahead.shape).movedim(-1, 1), alpha=-length)


def orthogonalise(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors, and singular values of about 1 where they were not close to 0.

    Args:
        matrix: Shape ``(R, C)``, in the type to compute in.

    Returns:
        Shape ``(R, C)``.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalise(matrix.T).T
    current: Tensor = matrix / (matrix.norm() + 1e-7)
    for iterations in ROUNDS:
        gram = current @ current.T
        factor = product = _factor(gram)
        for _ in range(iterations - 1):
            gram = factor @ gram @ factor
            factor = _factor(gram)
            product = factor @ product
        current = product @ current
    return current


def _factor(gram: Tensor) -> Tensor:
    """What one iteration multiplies the matrix by, a polynomial of its Gram matrix; both ``(R, R)``."""
    linear, cubic, quintic = COEFFICIENTS
    factor = torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic)
    factor.diagonal().add_(linear)
    return factor
