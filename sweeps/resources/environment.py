"""Turn off telemetry and log noise, unless the user has set it otherwise. Runs before Ray and MLflow are imported."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from types import TracebackType

from sweeps.results.terminal import print

NO_DEVICE = "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"  # "1": a process that asked for no device sees none

DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    NO_DEVICE: "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # its tables ignore verbose=0
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",  # it logs retries; their result is reported in one line
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "TRANSFORMERS_VERBOSITY": "error",
    "BITSANDBYTES_NOWELCOME": "1",
    "TOKENIZERS_PARALLELISM": "false",  # worker processes fork
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # see `interrupt.py`
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the recorder and MLflow keep the results
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
}


def quieten() -> None:
    """Set environment variables and filter warnings. Ctrl-C during slow imports then prints one line."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # which PEFT 0.21 asks for
    warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`", UserWarning)  # `merge.untie` handles it
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # on some CPUs it misses a package without need
    sys.excepthook = _print_error


def keep_ray_on_loopback(address: str | None) -> None:
    """Let a Ray that this process starts listen on 127.0.0.1 alone. For a cluster's `address` this does nothing.

    Ray's default is all addresses of the machine. It reads this variable when it is imported.
    """
    if (address or os.environ.get("RAY_ADDRESS") or "local") == "local":
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        print("".join(traceback.format_exception(kind, error, trace)), end="", file=sys.stderr)


def silence_ray(verbose: bool) -> None:
    """Turn off the log lines of Ray and Tune, unless `verbose`: the progress display has the same in fewer words."""
    if not verbose:
        for name in ("ray", "ray.tune", "ray.train", "ray._private", "ray.data"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
