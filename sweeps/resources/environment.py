"""Turn off telemetry and log noise, unless the user has set it otherwise, and what others set that breaks libraries.

Runs before Ray and MLflow are imported.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from types import TracebackType

from sweeps.results.terminal import print
from trainables.bad_input import BadInput, read_number, read_whole

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
    "PYTHONSAFEPATH": "1",  # other processes import nothing from the folder that they are started in
}
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
THIS_MACHINE = "localhost,127.0.0.1,::1"


# Variables that libraries read as numbers: their names, how they are read, the smallest, and what they are.
NUMBERS: tuple[tuple[re.Pattern[str], Callable[[str], float], float, str], ...] = (
    (re.compile("(OMP|MKL|OPENBLAS|NUMEXPR|RAYON)_NUM_THREADS"), read_whole, 1, "number of threads"),
    (re.compile("HF_HUB_(ETAG|DOWNLOAD)_TIMEOUT"), read_whole, 0, "whole number of at least 0"),
    (re.compile("MLFLOW_HTTP_REQUEST_(TIMEOUT|MAX_RETRIES)"), read_whole, 0, "whole number of at least 0"),
    (re.compile("TQDM_(MININTERVAL|MAXINTERVAL|MINITERS|SMOOTHING|DELAY)"), read_number, 0, "number of at least 0"),
)


def quieten() -> None:
    """Set environment variables and filter warnings. Ctrl-C during slow imports then prints one line."""
    _keep_docstrings()
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    _reach_this_machine_directly()
    _let_libraries_warn()
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # which PEFT 0.21 asks for
    warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`", UserWarning)  # `merge.untie` handles it
    warnings.filterwarnings("ignore", "IProgress not found")  # in notebooks, of progress bars that nobody sees
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # on some CPUs it misses a package without need
    os.environ["MPLBACKEND"] = "agg"  # figures are only written to files, and matplotlib fails for unknown names
    sys.excepthook = _print_error


def _keep_docstrings() -> None:
    """Start this program again if PYTHONOPTIMIZE=2 has removed docstrings, without which Ray cannot be imported."""
    if sys.flags.optimize < 2:
        return
    if os.environ.pop("PYTHONOPTIMIZE", "0") in ("0", "1"):
        raise SystemExit("Ray cannot be imported without docstrings: start Python without -OO")
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ)


def _reach_this_machine_directly() -> None:
    """Keep a proxy out of connections to this machine, such as MLflow's, which it cannot serve."""
    if any(os.environ.get(name) or os.environ.get(name.upper()) for name in PROXIES):
        already = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        if already != "*" and THIS_MACHINE not in already:
            os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, [already, THIS_MACHINE]))


def _let_libraries_warn() -> None:
    """Undo PYTHONWARNINGS=error and `python -W error`, with which hardly a library can be imported."""
    warnings.filters[:] = [one for one in warnings.filters if one[0] != "error"]  # type: ignore[index]
    sys.warnoptions[:] = [one for one in sys.warnoptions if not one.startswith("error")]
    if given := os.environ.get("PYTHONWARNINGS"):  # for other processes
        os.environ["PYTHONWARNINGS"] = ",".join(one for one in given.split(",") if not one.startswith("error"))


def check_environment() -> None:
    """Raise BadInput for a variable that holds no number, though torch, tqdm and others read it as one: some fail as
    soon as they are imported, with a traceback."""
    for name, value in os.environ.items():
        for names, read, least, what in NUMBERS:
            if not value or not names.fullmatch(name):
                continue
            try:
                is_good = all(read(part) >= least for part in value.split(","))
            except ValueError:
                is_good = False
            if not is_good:
                raise BadInput(f"{name}={value}", f"is no {what}", "unset it, or give one")


def keep_ray_on_loopback(address: str | None) -> None:
    """Let a Ray that this process starts listen on 127.0.0.1 alone. For a cluster's `address` this does nothing.

    Ray's default is all addresses of the machine. It reads this variable when it is imported.
    """
    if (address or os.environ.get("RAY_ADDRESS") or "local") == "local":
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    elif isinstance(error, BadInput):
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        raise SystemExit(2)  # Status.BAD_INPUT
    else:
        print("".join(traceback.format_exception(kind, error, trace)), end="", file=sys.stderr)


def silence_ray(verbose: bool) -> None:
    """Turn off the log lines of Ray and Tune, unless `verbose`: the progress display has the same in fewer words."""
    if not verbose:
        for name in ("ray", "ray.tune", "ray.train", "ray._private", "ray.data"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
