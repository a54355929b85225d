"""`espalier doctor`: check what a sweep needs from this machine, and print a remedy for what is missing."""

from __future__ import annotations

import getpass
import multiprocessing.connection
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions, metadata, packages_distributions, requires
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cluster.user_config import user_folder
from sweeps.resources.environment import quieten
from sweeps.results.terminal import print, print_json
from sweeps.spec.checkout import ROOT  # which imports nothing that may be missing
from trainables.bad_input import BadInput

LIMIT_S = 60.0  # seconds for one check; Ray's start on a busy machine takes half of them
GB, MB = 1e9, 1e6  # bytes
PIP = f"run {sys.executable} -m pip install"


@dataclass(frozen=True)
class CheckResult:
    """The result of a check. `wrong` prevents sweeps, `warn` does not. Without a remedy it has the check's."""

    name: str
    state: str  # ok, warn or wrong
    what: str
    remedy: str = ""

    @property
    def what_to_do(self) -> str:
        """The remedy; empty where nothing is wrong."""
        return "" if self.state == "ok" else self.remedy or CHECKS[self.name][1]

    def __str__(self) -> str:
        remedy = f"; {self.what_to_do}" if self.what_to_do else ""
        return f"{self.state:<5}  {self.name:<13}  {self.what}{remedy}"


def doctor(json: bool = False) -> None:
    """Check the installation, GPU, Ray, MLflow and disk, and print what is wrong. Exit status 1 if anything is.

    Args:
        json: print one line of JSON, as docs/reference/json.md describes it
    """
    found = []
    for finding in examine(CHECKS):
        if not json:
            print(finding, flush=True)
        found.append(finding)
    wrong, warnings = (sum(one.state == state for one in found) for state in ("wrong", "warn"))
    if json:
        checks = [{"name": one.name, "state": one.state, "what": one.what, "remedy": one.what_to_do} for one in found]
        print_json("doctor", {"checks": checks, "wrong": wrong, "warnings": warnings})
    else:
        print(f"{len(found)} checks: {wrong} wrong, {warnings} warnings")
    if wrong:
        raise SystemExit(1)  # Status.NO; this file imports nothing that may be missing


def examine(names: Iterable[str], limit_s: float = LIMIT_S) -> Iterator[CheckResult]:
    """Yield the results of these checks. Another process makes the checks.

    It is replaced if a check crashes it or takes more than `limit_s` seconds, so a broken library costs one line only.
    """
    waiting = list(names)
    context = multiprocessing.get_context("spawn")
    while waiting:
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=(waiting, theirs), daemon=True)
        worker.start()
        theirs.close()
        fault = f"no answer within {limit_s:g} s"
        try:
            while waiting and ours.poll(limit_s):
                yield ours.recv()
                del waiting[0]
        except EOFError:
            fault = "Python itself crashed"
        worker.kill()
        if waiting:
            yield CheckResult(waiting.pop(0), "wrong", fault)


def _work(names: Sequence[str], answers: multiprocessing.connection.Connection) -> None:
    """Make checks one after the other, and hide what libraries print meanwhile."""
    for printed in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), printed)
    quieten()
    for name in names:
        answers.send(judge(name))


def judge(name: str) -> CheckResult:
    """Return the result of a check. An exception is `wrong`, too."""
    try:
        return CHECKS[name][0]()
    except BadInput as error:  # short, and with a remedy at its end
        return CheckResult(name, "wrong", str(error))
    except Exception as error:
        return CheckResult(name, "wrong", (str(error).strip() or type(error).__name__).splitlines()[0][:240])


def python(own: str = sys.version.split()[0]) -> CheckResult:
    asked = Requirement(f"python{metadata('espalier')['Requires-Python']}").specifier
    return CheckResult("python", "ok" if own in asked else "wrong", f"{own} in {sys.prefix}, of {asked}")


def _unmet(requirements: Iterable[str]) -> Iterator[tuple[Requirement, str]]:
    """Yield the requirements that are not met, with the installed version, or an empty string if there is none."""
    here = {canonicalize_name(one.name): one.version for one in distributions()}
    for one in map(Requirement, requirements):
        own = here.get(canonicalize_name(one.name), "")
        met = own and one.specifier.contains(own, prereleases=True)
        if not met and (one.marker is None or one.marker.evaluate({"extra": ""})):
            yield one, own


def packages(asked: Sequence[str] = ()) -> CheckResult:
    if not (unmet := list(_unmet(asked or requires("espalier") or ()))):
        return CheckResult("packages", "ok", "all required packages are installed")
    what = [f"{one.name} {own} is not {one.specifier}" if own else f"{one.name} is missing" for one, own in unmet]
    return CheckResult("packages", "wrong", ", ".join(what), f"{PIP} {' '.join(repr(str(one)) for one, _ in unmet)}")


def versions(constraints: Path = ROOT / "constraints.txt") -> CheckResult:
    """Check that installed packages have the versions that were tested together."""
    if not constraints.is_file():
        return CheckResult("versions", "ok", f"no {constraints.name} here to compare with")
    lines = [line.partition("#")[0].strip() for line in constraints.read_text().splitlines()]
    differ = [f"{one.name} {own} (tested with {one.specifier})" for one, own in _unmet(filter(None, lines)) if own]
    what = ", ".join(differ) or f"as in {constraints.name}, tested together"
    return CheckResult(
        "versions", "warn" if differ else "ok", what, f"if anything fails, {PIP} -e {ROOT} -c {constraints}"
    )


def multiplies() -> CheckResult:
    import torch

    matrix = torch.full((64, 64), 2.0, device="cuda" if torch.cuda.is_available() else "cpu")
    how = "multiplies" if bool((matrix @ matrix == 256).all()) else "multiplies wrongly"
    return CheckResult(
        "torch", "ok" if how == "multiplies" else "wrong", f"{torch.__version__} {how} on {matrix.device}"
    )


def gpu() -> CheckResult:
    """Check that torch sees the GPUs that the driver sees, and has free memory on them."""
    import torch

    if torch.cuda.is_available():
        cards = [(torch.cuda.get_device_name(i), *torch.cuda.mem_get_info(i)) for i in range(torch.cuda.device_count())]
        what = ", ".join(f"{name}: {free / GB:.1f} of {total / GB:.1f} GB free" for name, free, total in cards)
        full = min(free for _, free, _ in cards) < 2 * GB
        return CheckResult("gpu", "warn" if full else "ok", what, "nvidia-smi shows which process holds the memory")
    if shutil.which("nvidia-smi") is None:
        return CheckResult("gpu", "ok", "none of NVIDIA's; trials run on the CPU")
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    said = (listed.stdout + listed.stderr).strip().partition("\n")[0].partition(" (UUID")[0]
    if listed.returncode or not said.startswith("GPU "):
        return CheckResult("gpu", "warn", f"nvidia-smi finds none ({said}); trials run on the CPU", "see to the driver")
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return CheckResult(
            "gpu", "warn", f"{said} is hidden by CUDA_VISIBLE_DEVICES={visible}", "unset it to use the GPU"
        )
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs only"
    return CheckResult("gpu", "wrong", f"{said}, which torch {torch.__version__} cannot use: it was built for {built}")


def nf4() -> CheckResult:
    """Quantize to 4 bits and back. NF4's levels are at most 0.31 apart, so an error is below 0.16."""
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    values = torch.linspace(-1, 1, 256, device="cuda" if torch.cuda.is_available() else "cpu")
    error = float((dequantize_4bit(*quantize_4bit(values, quant_type="nf4")) - values).abs().max())
    return CheckResult(
        "nf4", "ok" if error < 0.16 else "wrong", f"4 bits and back on {values.device}: off by {error:.2f}"
    )


def cluster_runs() -> CheckResult:
    """Run a task on Ray, which is started or joined as by a sweep."""
    import ray

    from sweeps.resources.ray_cluster import cluster

    began = time.monotonic()
    with cluster(None, verbose=False):
        ray.get(ray.remote(lambda: None).remote())
        took, has = time.monotonic() - began, ray.cluster_resources()
    what = f"ran a task after {took:.1f} s, with {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs"
    return CheckResult("ray", "ok", f"{os.environ.get('RAY_ADDRESS') or 'this machine'} {what}")


def tracking() -> CheckResult:
    """Check that MLflow's store answers. A database that does not exist yet is not created."""
    from sweeps.spec.sqlite_address import sqlite_file
    from sweeps.tracking.mlflow_store import Store, public, store_uri

    uri = store_uri(Path.cwd())
    file = sqlite_file(uri)
    if file and not file.exists():
        _room(file.parent)
        return CheckResult("mlflow", "ok", f"the first sweep makes {file}")
    try:
        Store(uri, "Default", "", refused=print).send([])  # every store has this experiment
    except Exception as error:
        cause = str(error).rpartition('("')[2].partition('")')[0]  # the cause in an HTTP client's long message
        raise ConnectionError(f"{uri}: {cause}".replace(uri, public(uri))) from error
    return CheckResult("mlflow", "ok", f"{public(uri)} answers")


def _room(folder: Path) -> tuple[Path, float]:
    """Return the nearest folder that exists, and the GB free in it. Raises OSError if it cannot be written to."""
    folder = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=folder):
            return folder, shutil.disk_usage(folder).free / GB
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error.strerror})") from error


def disk(few: float = 5.0, least: float = 1.0) -> CheckResult:
    """Check the free disk for `runs`: a warning below `few` GB, and wrong below `least`."""
    folder, free = _room(Path("runs"))
    state = "wrong" if free < least else "warn" if free < few else "ok"
    return CheckResult("disk", state, f"{free:.1f} GB free in {folder}")


def machine(few: float = 4.0, shared: Path = Path("/dev/shm")) -> CheckResult:
    """Check cores and memory (`few` in GB). Ray is slow if its objects do not fit into shared memory."""
    from sweeps.resources.ray_cluster import OBJECT_STORE

    memory, common = psutil.virtual_memory(), shutil.disk_usage(shared).free
    state = "warn" if memory.available < few * GB or common < OBJECT_STORE else "ok"
    free = f"{memory.available / GB:.1f} of {memory.total / GB:.1f} GB memory free, {common / GB:.1f} GB in {shared}"
    return CheckResult("machine", state, f"{len(os.sched_getaffinity(0))} cores, {free}")


def hub() -> CheckResult:
    from huggingface_hub import constants

    _room(Path(constants.HF_HUB_CACHE))
    offline = ", and no others are downloaded (offline)" if constants.HF_HUB_OFFLINE else ""
    return CheckResult("hub", "ok", f"models are kept in {constants.HF_HUB_CACHE}{offline}")


def cache() -> CheckResult:
    """Show what Espalier keeps: the models of GGUF files, and features of ARC tasks."""
    from trainables.cache import cache_folder
    from trainables.models.gguf import entries

    folder = cache_folder()
    _room(folder)
    models = [f"{entry.file} {entry.size / MB:,.0f} MB" for entry in entries()]
    features = sum(path.stat().st_size for path in (folder / "features").glob("*.arrow"))
    kept = [*models, *([f"features of ARC tasks {features / MB:,.0f} MB"] if features else [])]
    what = f"{', '.join(kept)}; to clear it: rm -r {shlex.quote(str(folder))}" if kept else "nothing is kept yet"
    return CheckResult("cache", "ok", f"{folder}: {what}")


def configuration() -> CheckResult:
    """Show the folder of the key that signs snapshots, and of SSH host keys: other users must not read or change it."""
    folder = user_folder()
    kept = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    for path in (folder, *(folder / name for name in kept)):
        if path.exists() and (path.stat().st_uid != os.getuid() or path.stat().st_mode & 0o077):
            return CheckResult("configuration", "warn", f"other users can read or change {path}")
    return CheckResult("configuration", "ok", f"{folder}: {', '.join(kept) or 'nothing is kept yet'}")


def git() -> CheckResult:
    """Check that a sweep can record the commit of the code."""
    from sweeps.persistence.provenance import commit, why_no_commit

    unknown = why_no_commit()
    return CheckResult("git", "warn" if unknown else "ok", unknown or f"commit {commit()}")


def home() -> CheckResult:
    """Check that this user has a home; `settle_home` has replaced one that is missing or cannot be written to."""
    from sweeps.resources.home import private_folder

    folders = {name: os.environ.get(name, "") for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    replaced = [name for name, path in folders.items() if Path(path).parent == private_folder()]
    if replaced:
        what = f"{' and '.join(replaced)} cannot be written to; {private_folder()} is used, which may be cleared"
        return CheckResult("home", "warn", what, f"set {replaced[0]} to a folder of your own")
    _room(Path.home())
    return CheckResult("home", "ok", f"{Path.home()}, of {getpass.getuser()}")


def modules() -> CheckResult:
    """Look for files that Python would import in place of its own modules, or of those of an installed package."""
    ours = {"sweeps", "trainables", "search_spaces", "cluster"}
    theirs = {*sys.stdlib_module_names, *packages_distributions()} - ours
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = dict.fromkeys([ROOT, *(Path(one).absolute() for one in given if one)])
    found = [(file, file.stem) for folder in folders for file in sorted(folder.glob("*.py"))]
    found += [(file.parent, file.parent.name) for folder in folders for file in sorted(folder.glob("*/__init__.py"))]
    hiding = [str(path) for path, name in found if name in theirs]
    what = f"{', '.join(hiding[:3])}: imported in place of a module of that name"
    return CheckResult("modules", "warn" if hiding else "ok", what if hiding else "no file hides another's module")


def terminal() -> CheckResult:
    """Check that text can be printed as it is."""
    encoding = sys.stdout.encoding
    few = encoding.lower().replace("-", "") != "utf8"
    what = f"text is printed in {encoding}" + (", and other characters as \\u2026" if few else "")
    return CheckResult("terminal", "warn" if few else "ok", what)


def variables() -> CheckResult:
    """Show what others have set that decides how numbers are computed, or would."""
    from sweeps.persistence.number_variables import OF_THREADS, used

    ours = {"MKL_CBWR": "AUTO,STRICT"}
    bits = [f"{name}={value}" for name, value in used().items() if ours.get(name) != value]
    threads = [name for name in OF_THREADS if os.environ.get(name)]
    what = [f"{', '.join(bits)}: changes last bits, and is recorded in sweep.yaml"] if bits else []
    what += [f"{', '.join(threads)}: not used, but --resources.cpu"] if threads else []
    return CheckResult("variables", "ok", "; ".join(what) or "none changes how numbers are computed")


def statistics() -> CheckResult:
    off = {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true 1", "HF_HUB_DISABLE_TELEMETRY": "true 1"}
    on = [f"{name}={own}" for name in off if (own := os.environ.get(name, "").lower()) not in off[name].split()]
    return CheckResult(
        "statistics", "warn" if on else "ok", f"sent, as {', '.join(on)}" if on else "nothing phones home"
    )


CHECKS: dict[str, tuple[Callable[[], CheckResult], str]] = {  # name -> check, and its remedy
    "python": (python, "run `make clean`, then `make test PYTHON=/path/to/python`"),
    "packages": (packages, f"{PIP} -e {ROOT}"),
    "versions": (versions, "correct constraints.txt"),
    "torch": (multiplies, f"{PIP} --force-reinstall torch"),
    "gpu": (gpu, f"{PIP} --force-reinstall torch, of a build with CUDA, or update the driver of one that has it"),
    "nf4": (nf4, f"{PIP} --force-reinstall --no-deps bitsandbytes, or use no base with :nf4"),
    "ray": (cluster_runs, "unset RAY_ADDRESS to run on this machine alone, or add --verbose to a sweep to see why"),
    "mlflow": (tracking, "start that server, or unset MLFLOW_TRACKING_URI for a database in this folder"),
    "disk": (disk, "make room, or remove the file that is in the way, or give sweeps another --storage-path"),
    "machine": (machine, "end other programs, and give containers --shm-size=1g"),
    "hub": (hub, "set HF_HOME to a folder that can be written to"),
    "cache": (cache, "set XDG_CACHE_HOME to a folder that can be written to"),
    "configuration": (configuration, "take it back: chown and chmod 700 the folder, 600 its files; or delete it"),
    "home": (home, "set HOME to a folder of your own"),
    "git": (git, "install git, or set ESPALIER_COMMIT to a name of the code"),
    "modules": (modules, "rename it, or take its folder out of PYTHONPATH"),
    "terminal": (terminal, "set LC_ALL=C.UTF-8, and unset PYTHONIOENCODING"),
    "variables": (variables, "unset them"),
    "statistics": (statistics, "unset that to send nothing"),
}
