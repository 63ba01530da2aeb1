"""Muon: steps of equal length in every direction of a weight matrix."""

import math
from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor, nn

POLYNOMIALS = ((7.711, -22.1138, 16.2488), (3.2153, -2.4112, 0.5013), (2.2183, -1.5940, 0.4108))
"""Odd polynomials of degree 5, by their coefficients, that one after the other take singular values from [0.02, 1] to
[0.907, 1.093]: each is the one that comes closest to 1 on all that the one before it can give (Amsel et al. 2025)."""
ADAMW_RMS = 0.2
"""Steps are as long as those of AdamW usually are, so that one learning rate and weight decay suits both."""


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonalised by a Newton-Schulz iteration (Jordan et al. 2024).

    A convolution's weight is taken as a matrix, a row for each output channel. Three iterations, each with the
    polynomial that is best after the one before, come closer to 1 than five with the authors' single one, and all of
    them are computed on the small Gram matrix, so that the large one is multiplied 2 times instead of 10. That is
    stable in 16 bits. `torch.optim.Muon` takes matrices only, and always computes in bf16.

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
    matrix = matrix / (matrix.norm() + 1e-7)
    gram = matrix @ matrix.T
    largest = gram.norm().sqrt() + 1e-7  # no singular value is larger, and the norm of the matrix is a looser bound
    gram = gram / largest.square()
    product = factor = _factor(gram, POLYNOMIALS[0])
    for polynomial in POLYNOMIALS[1:]:
        gram = factor @ gram @ factor
        factor = _factor(gram, polynomial)
        product = factor @ product
    result: Tensor = product @ (matrix / largest)
    return result


def _factor(gram: Tensor, polynomial: tuple[float, float, float]) -> Tensor:
    """What one iteration multiplies the matrix by, a polynomial of its Gram matrix; both ``(R, R)``."""
    linear, cubic, quintic = polynomial
    factor = torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic)
    factor.diagonal().add_(linear)
    return factor
