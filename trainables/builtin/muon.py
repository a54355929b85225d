"""Muon (Jordan et al. 2024): momentum that is orthogonalised before it is applied.

On models this small it needs about half as many steps as AdamW. Torch's own version computes in bfloat16, which is slow
on CPUs without instructions for it, and one matrix at a time. This one uses the weights' dtype and stacks matrices of
equal shape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch


def orthogonal(matrices: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """Push all singular values of each matrix (..., rows, columns) towards 1, by a quintic Newton-Schulz iteration."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Optimizer for the matrices inside a transformer; embeddings and vectors need AdamW."""

    def __init__(self, matrices: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            same = defaultdict(list)
            for matrix in group["params"]:
                same[matrix.shape].append(matrix)
            for (rows, columns), matrices in same.items():
                wanted = torch.stack([self._momentum(matrix, group["momentum"]) for matrix in matrices])
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for matrix, change in zip(matrices, orthogonal(wanted), strict=True):
                    matrix.sub_(change, alpha=scale)

    def _momentum(self, matrix: torch.nn.Parameter, decay: float) -> torch.Tensor:
        """Return Nesterov's momentum of one matrix's gradient."""
        assert matrix.grad is not None
        average = self.state[matrix].setdefault("average", torch.zeros_like(matrix))
        average.lerp_(matrix.grad, 1 - decay)
        return matrix.grad.lerp(average, decay)
