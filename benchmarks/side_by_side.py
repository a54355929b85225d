"""Plain trials in processes side by side on one device, each with its own base; on a GPU through NVIDIA's MPS.

MPS (Multi-Process Service) lets kernels of several processes run at the same time. Without it, a GPU gives each process
a slice of time in turn. https://docs.nvidia.com/deploy/mps/
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.multiprocessing as multiprocessing

from benchmarks.packing_device import Timing, opened, sequential

CONTROL = "nvidia-cuda-mps-control"


def side_by_side(shape: str, count: int, trials: int, environment: Mapping[str, str]) -> Timing:
    """Return the seconds in which `count` processes finish `trials` trials each, and the GPU memory that they hold.

    Loading the base and a first trial are not counted. The memory includes CUDA contexts and what torch has cached.
    Raise RuntimeError with a process's error, or if a process dies.
    """
    context = multiprocessing.get_context("spawn")
    before, workers, pipes = _used_mib(), [], []
    try:
        for _ in range(count):
            mine, theirs = context.Pipe()
            worker = context.Process(target=_worker, args=(shape, trials, environment, theirs), daemon=True)
            worker.start()
            theirs.close()  # else the death of the process would not end `recv`
            workers.append(worker)
            pipes.append(mine)
        _wait_for(pipes)
        start = time.perf_counter()
        _continue(pipes)
        _wait_for(pipes)
        timing = Timing(time.perf_counter() - start, _used_mib() - before)
        _continue(pipes)
        for worker in workers:
            worker.join(30)
        return timing
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _wait_for(pipes: list[Any]) -> None:
    for index, pipe in enumerate(pipes):
        try:
            error = pipe.recv()
        except (EOFError, ConnectionResetError):
            error = "it died; was it killed as the machine's memory ran out?"
        if error:
            raise RuntimeError(f"process {index + 1} of {len(pipes)}: {error}")


def _continue(pipes: list[Any]) -> None:
    for pipe in pipes:
        pipe.send(None)


def _worker(shape: str, trials: int, environment: Mapping[str, str], parent: Connection) -> None:
    """Wait for the others before and after the trials; the parent reads the GPU's memory then."""
    try:
        os.environ.update(environment)  # CUDA reads it when it is first used
        torch.set_num_threads(1)
        base = opened(shape)
        for count in (1, trials):
            sequential(base, count)
            parent.send(None)
            parent.recv()
    except EOFError:
        pass  # the parent has given up
    except Exception as error:
        parent.send(f"{type(error).__name__}: {error}")


def _used_mib() -> float:
    """Return the memory of the GPU that all processes use, in MiB (0 without a GPU)."""
    if not torch.cuda.is_available():
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20


@contextmanager
def mps() -> Iterator[tuple[dict[str, str], str]]:
    """Start an MPS daemon of our own, and quit it afterwards. Give the variables that processes need to use it, and a
    line about it. There are no variables if MPS cannot be used."""
    if not shutil.which(CONTROL):
        yield {}, f"not used: {CONTROL} is not installed"
        return
    with tempfile.TemporaryDirectory(prefix="mps-") as folder:
        variables = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        try:
            _control(variables, "-d")
            problem = _problem(variables)
            yield ({}, f"not used: {problem}") if problem else (variables, "used by processes side by side")
        finally:
            _control(variables, command="quit")


def _control(variables: Mapping[str, str], *flags: str, command: str = "") -> str:
    done = subprocess.run(
        [CONTROL, *flags], input=command + "\n", text=True, timeout=60, env=os.environ | variables,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout


def _problem(variables: Mapping[str, str]) -> str:
    """Return why a process cannot use the GPU through MPS, or an empty string."""
    product = "import torch; a = torch.ones(8, 8, device='cuda'); (a @ a).sum().item()"
    done = subprocess.run(
        [sys.executable, "-c", product], capture_output=True, text=True, timeout=120, env=os.environ | variables
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["a process that multiplied matrices died"])[-1]
    return "" if _control(variables, command="get_server_list").strip() else "no MPS server was started"
