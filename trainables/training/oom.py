"""Handle running out of memory: compute equal gradients from fewer rows at a time. And recognise a lost device.

A loss may mix the rows of a micro-batch in any way, so halving the batch and doubling accumulation would change it.
Instead, log-probabilities are computed first, without a graph; the loss gives the gradient for each of them; and
then part after part is run again with a graph (gradient caching: Gao et al. 2021, arXiv 2101.06983).

The callers retry with fewer rows: `packed/host.py` and `packed/executor.py` for hosts, `standalone_answers.py` and
`standalone.py` for a trial with a model of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

MAX_HALVINGS = 3  # of the rows at a time; a device without memory for an eighth of them cannot run the trial


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out. Torch has a class for GPUs; the CPU's allocator and cuBLAS only a message."""
    words = ("out of memory", "allocate memory", "not enough memory", "ALLOC_FAILED")
    said = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    return isinstance(error, torch.OutOfMemoryError) or said


def is_device_lost(error: BaseException) -> bool:
    """Return whether the GPU is lost to this process, for example after a read outside its memory.

    Every later CUDA call of the process fails, too (CUDA's sticky errors).
    """
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


def gradients(
    forward: Callable[[int, int], list[Tensor]],
    loss: Callable[[list[Tensor]], Tensor | None],
    leaves: Sequence[Tensor],
    rows: int,
    at_once: int,
) -> list[Tensor | None]:
    """Return d loss / d leaf; None for a leaf that does not take part, and for all leaves if there is no loss.

    `forward(first, last)` returns a tensor per row, and must return equal tensors when called again. `loss` takes the
    tensors of all rows.
    """
    spans = [(first, min(first + at_once, rows)) for first in range(0, rows, at_once)]
    if len(spans) == 1:
        total = loss(forward(0, rows))
        return [None] * len(leaves) if total is None else [*torch.autograd.grad(total, leaves, allow_unused=True)]
    with torch.no_grad():
        outputs = [output for span in spans for output in forward(*span)]
    for output in outputs:
        output.requires_grad_()
    total = loss(outputs)
    whole: list[Tensor | None] = [None] * len(leaves)
    if total is None:
        return whole
    shares = torch.autograd.grad(total, outputs, allow_unused=True, materialize_grads=True)
    for first, last in spans:
        part = torch.autograd.grad(forward(first, last), leaves, shares[first:last], allow_unused=True)
        whole = [
            new if old is None else old if new is None else old + new for old, new in zip(whole, part, strict=True)
        ]
    return whole
