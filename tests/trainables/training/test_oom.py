"""Errors of a GPU after which its process cannot work any more."""

from __future__ import annotations

import torch

from trainables.training.oom import is_device_lost


def test_which_faults_a_process_does_not_survive():
    assert is_device_lost(torch.AcceleratorError("CUDA error: device-side assert triggered"))
    assert not is_device_lost(torch.AcceleratorError("CUDA error: out of memory")), "memory is given back"
    assert not is_device_lost(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_device_lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
