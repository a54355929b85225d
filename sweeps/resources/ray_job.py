"""`--cluster cluster.yaml`: run the sweep as a Ray job on the cluster's head, and watch it from here through SSH.

The job gets a copy of this checkout. Once it runs it does not depend on this machine, which may sleep or lose its
network: `espalier status NAME --cluster cluster.yaml` watches again. At the end `runs/<sweep>` is copied here.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from cluster import prices
from cluster.api import TransientError
from cluster.head import Head, answers, read
from sweeps.persistence.provenance import commit
from sweeps.report.page import PAGE
from sweeps.resources.environment import silence_ray
from sweeps.results.run_folder import SWEEP_FILE
from sweeps.results.terminal import print
from sweeps.spec.checkout import ROOT
from sweeps.spec.error_policy import Ended, Status
from sweeps.spec.run_options import RunOptions
from sweeps.spec.trust import FOLDER
from sweeps.spec.validation import NAME
from trainables.bad_input import BadInput, one_line

DASHBOARD, MLFLOW = 8265, 5000  # ports on the head's 127.0.0.1
PYTHON = "~/espalier/.venv/bin/python"  # as cluster.yaml makes it
NOT_SENT = [".venv", ".git", "/runs", "/mlruns", "mlflow.db", "*.egg-info", "**/__pycache__"]  # of the checkout
NOT_SENT += [".env*", "*.pem", "*.key", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*"]  # keys and passwords
RUNS = "if mountpoint -q /workspace; then echo /workspace/runs; else echo ~/espalier/runs; fi"
LOCAL_FLAGS = {"--cluster", "--name", "--storage-path"}  # for this machine, each with a value
EVERY_S, AGAIN_S = 2.0, 10.0  # seconds between queries of a job, and between attempts to reach its head
# Errors of a connection: those of `requests` are OSErrors, and the job client raises plain RuntimeErrors.
FAULTS = (OSError, RuntimeError, TransientError)


@dataclass(frozen=True)
class JobFolders:
    """A job, and its sweep's folder on the cluster and here."""

    job: str
    there: str
    home: Path


def submit(name: str, cluster: Path, storage: Path, script: Path, argv: Sequence[str]) -> Ended:
    """Start the script on the cluster with its flags, and watch it to its end. Raises BadInput."""
    if not NAME.fullmatch(name):
        raise BadInput(f"--name {name}:", "it names a folder, so use up to 100 letters, digits, '.', '_' and '-'")
    home = (storage / name).resolve()
    if home.exists() and "--resume" not in argv:
        raise BadInput(
            f"--name {name}:", f"{home} exists, and the sweep would be brought home over it", "choose another"
        )
    with reached(cluster) as (head, client):
        there = f"{head.run(RUNS).strip()}/{name}"
        job = f"{name}.{time.strftime('%H%M%S')}"
        flags = ["--address", "auto", "--name", name, "--storage-path", str(Path(there).parent)]
        client.submit_job(
            entrypoint=f"{PYTHON} {shlex.join([str(_in_checkout(script)), *_remote_flags(argv), *flags])}",
            submission_id=job,
            metadata={"there": there, "name": name},
            runtime_env={
                "working_dir": str(ROOT),
                "excludes": NOT_SENT,
                "env_vars": {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{MLFLOW}", "ESPALIER_COMMIT": commit()},
            },
        )
        print(f"job {job} on the head of {cluster}; Ctrl-C leaves it running", flush=True)
    return follow(cluster, JobFolders(job, there, home))


def rejoin(cluster: Path, run: Path | None = None) -> Ended:
    """Watch a sweep of the cluster to its end: the one with this name or folder, or the latest. Prints all its output.

    It is copied to `run` if that is a path, else to runs/NAME: the head does not choose where this machine writes.
    Raises BadInput if there is none.
    """
    with reached(cluster) as (_, client):
        known = _by_name(client.list_jobs())
    if not known:
        raise BadInput(f"no sweep was started on {cluster}:", f"python sweeps/arena.py --cluster {cluster}")
    name = run.resolve().name if run else [*known][-1]
    if name not in known:
        raise BadInput(f"{run}:", f"no sweep of that name was started on {cluster}", f"there are {', '.join(known)}")
    for other in (other for other, place in known.items() if not run and other != name and not place.home.exists()):
        print(f"not brought home yet: {_joining(cluster, known[other].home)}", flush=True)
    is_path = run is not None and len(run.parts) != 1
    return follow(cluster, replace(known[name], home=run.resolve()) if run and is_path else known[name])


def follow(cluster: Path, place: JobFolders) -> Ended:
    """Print the job's output until it ends, reconnecting as often as needed; then fetch its folder."""
    seen, lost = 0, False
    while True:
        try:
            if lost:
                time.sleep(AGAIN_S)
            with _connected(cluster) as (head, client), _mlflow(head):
                lost, addresses = False, head.run("hostname -I").split()
                while True:
                    details = client.get_job_info(place.job)
                    if _head_is_gone(details, addresses):
                        return _bring_home(head, cluster, place, details)
                    said = client.get_job_logs(place.job)
                    print(said[seen:], end="", flush=True)
                    seen = max(seen, len(said))
                    if details.status.is_terminal():
                        return _bring_home(head, cluster, place, details)
                    time.sleep(EVERY_S)
        except KeyboardInterrupt:
            print(f"\nleft: {place.job} goes on; join again with: {_joining(cluster, place.home)}", flush=True)
            _print_cost(cluster)
            return "left"
        except FAULTS as error:
            if "does not exist" in str(error):
                raise BadInput(
                    f"the head of {cluster}",
                    f"does not know job {place.job} any more: Ray was restarted. {_how_to_go_on(cluster, place)}",
                ) from error
            if not lost:
                print(f"\nlost the head ({error}); the sweep goes on, trying again every {AGAIN_S:.0f} s", flush=True)
            lost = True
        except click.ClickException as error:
            _print_cost(cluster)  # without a head, too, its workers may cost something
            raise BadInput(error.message) from error


def _bring_home(head: Head, cluster: Path, place: JobFolders, details: JobDetails) -> Ended:
    """Copy the folder of a job that has ended, and say what the cluster still costs."""
    try:
        return _fetch_folder(head, cluster, place, details)
    finally:
        _print_cost(cluster)


def _print_cost(cluster: Path) -> None:
    """Say what the cluster costs an hour, if its machines have prices."""
    with contextlib.suppress(click.ClickException):  # the file was there when this began
        if notice := prices.cost_notice(read(cluster), cluster):
            print(notice, flush=True)


def _fetch_folder(head: Head, cluster: Path, place: JobFolders, details: JobDetails) -> Ended:
    ended: Ended = "finished" if details.status == JobStatus.SUCCEEDED else "failed"
    if head.run(f"if [ -d {shlex.quote(place.there)} ]; then echo there; fi").strip() != "there":
        print(f"\njob {place.job} {details.status.lower()} and left no folder: {details.message or ''}", flush=True)
        return ended
    _check_same_sweep(head, place)
    head.fetch(place.there, place.home)
    print(f"\nbrought home: {place.home}; its report: {place.home / PAGE}", flush=True)
    if ended == "failed" and details.driver_exit_code not in (Status.NO, Status.BAD_INPUT):
        print(_how_to_go_on(cluster, place), flush=True)
        code = details.driver_exit_code
        return Status(code) if code is not None and code in [*Status] else "interrupted"
    return ended


def _check_same_sweep(head: Head, place: JobFolders) -> None:
    """Raise BadInput if another sweep lies where this one is to be copied: the head chooses only its name."""
    for file in (*place.home.glob(SWEEP_FILE), *place.home.glob(f"*/{SWEEP_FILE}")):  # a chain's phases lie deeper
        there = f"{place.there}/{file.relative_to(place.home)}"
        if head.run(f"cat {shlex.quote(there)} 2> /dev/null || true").strip() != file.read_text().strip():
            raise BadInput(
                place.home,
                f"holds another sweep than {place.job}",
                f"copy this one to another folder: espalier status FOLDER/{place.home.name} with --cluster",
            )


def _head_is_gone(details: JobDetails, addresses: Sequence[str]) -> bool:
    """Return whether the job ran on a head that is gone, with the job's log.

    A new head knows the job from Redis: at first as running, soon as failed.
    """
    ran_at = urlsplit(details.driver_agent_http_address or "").hostname
    return ran_at is not None and ran_at not in addresses


def _how_to_go_on(cluster: Path, place: JobFolders) -> str:
    command = f"--cluster {cluster} --name {place.home.name} --resume"
    return f"Go on with the same flags and: {command}; a new head also needs --trust {FOLDER}: another wrote the folder"


def _joining(cluster: Path, home: Path) -> str:
    run = home.name if home == _default_home(home.name) else str(home)
    return shlex.join(["espalier", "status", run, "--cluster", str(cluster)])


def _default_home(name: str) -> Path:
    return (RunOptions.storage_path / name).resolve()


@contextlib.contextmanager
def reached(cluster: Path) -> Iterator[tuple[Head, JobSubmissionClient]]:
    """Connect to the cluster's head and its jobs for the first time. Raises BadInput if that fails."""
    try:
        with _connected(cluster) as both:
            yield both
    except click.ClickException as error:
        raise BadInput(error.message) from error
    except FAULTS as error:
        raise BadInput(f"--cluster {cluster}:", str(error)) from error


@contextlib.contextmanager
def _connected(cluster: Path) -> Iterator[tuple[Head, JobSubmissionClient]]:
    silence_ray(verbose=False)
    head = Head(cluster)
    with head.tunnel(DASHBOARD) as port:
        yield head, JobSubmissionClient(f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {head.token()}"})


def hourly(cluster: Path) -> tuple[float, float] | None:
    """Return the cluster's dollars per hour at its smallest and at its largest; None if its machines have no price.

    Raises BadInput.
    """
    try:
        config = read(cluster)
        if not prices.has_prices(config):
            return None
        return _hourly(cluster, config)
    except click.ClickException as error:
        raise BadInput(error.message) from error
    except BadInput:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        why = f"lacks what prices need ({type(error).__name__}: {one_line(error)})"
        raise BadInput(f"--cluster {cluster}", why, "compare it with cluster.yaml") from error


def _hourly(cluster: Path, config: Mapping[str, Any]) -> tuple[float, float]:
    each, head = prices.price_per_node(config), config["head_node_type"]
    if missing := config["available_node_types"].keys() - each:
        raise BadInput(f"--cluster {cluster}:", f"no GPU of {', '.join(sorted(missing))} is offered within max_price")
    left, workers = config.get("max_workers", 0), 0.0
    for name in (name for name in each if name != head):
        count = min(left, config["available_node_types"][name].get("max_workers", left))
        left, workers = left - count, workers + count * each[name]
    return each[head], each[head] + workers


@contextlib.contextmanager
def _mlflow(head: Head) -> Iterator[None]:
    """Forward the head's MLflow page to the usual address here, unless the port is taken."""
    if answers(MLFLOW):
        yield
        return
    with head.tunnel(MLFLOW, MLFLOW):
        print(f"MLflow of the cluster, as long as this runs: http://127.0.0.1:{MLFLOW}", flush=True)
        yield


def _place(job: JobDetails) -> JobFolders | None:
    """Return the folders of a job that is a sweep. Of what the head says, only a valid name decides about this machine.

    Any code on the head can write this metadata.
    """
    said = job.metadata or {}
    name, there = said.get("name"), said.get("there")
    if job.submission_id is None or not isinstance(there, str) or not isinstance(name, str) or not NAME.fullmatch(name):
        return None
    return JobFolders(job.submission_id, there, _default_home(name))


def _by_name(jobs: Sequence[JobDetails]) -> dict[str, JobFolders]:
    """Return the sweeps among the jobs by name, the latest last. A resumed sweep has its last job."""
    found: dict[str, JobFolders] = {}
    for job in sorted(jobs, key=lambda job: job.start_time or 0):
        if place := _place(job):
            found.pop(place.home.name, None)
            found[place.home.name] = place
    return found


def _in_checkout(script: Path) -> Path:
    try:
        return script.resolve().relative_to(ROOT)
    except ValueError as error:
        raise BadInput("--cluster:", f"{script} is not in {ROOT}, and only the checkout goes to the cluster") from error


def _remote_flags(argv: Sequence[str]) -> list[str]:
    """Return the flags without those for this machine, which are `--flag value` or `--flag=value`."""
    kept, skip = [], 0
    for word in argv:
        name, equals, _ = word.partition("=")
        if skip:
            skip -= 1
        elif name in LOCAL_FLAGS:
            skip = 0 if equals else 1
        else:
            kept.append(word)
    return kept
