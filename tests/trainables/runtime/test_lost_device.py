"""Which of a GPU's errors no later work of its process survives."""

from __future__ import annotations

import torch

from trainables.training.oom import lost_device


def test_which_faults_a_process_does_not_survive():
    assert lost_device(torch.AcceleratorError("CUDA error: device-side assert triggered"))
    assert not lost_device(torch.AcceleratorError("CUDA error: out of memory")), "memory is given back"
    assert not lost_device(torch.OutOfMemoryError("CUDA out of memory"))
    assert not lost_device(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
