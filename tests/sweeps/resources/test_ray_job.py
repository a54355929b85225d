"""The choice of the cluster's sweep that is joined, and the message about the others."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from ray.job_submission import JobDetails, JobStatus, JobType

from sweeps.commands.steering import status
from sweeps.resources import ray_job
from trainables.bad_input import BadInput

FILE = Path("cluster.yaml")


class Jobs:
    """A head's jobs: name of the sweep and when it was started."""

    def __init__(self, *started: tuple[str, int]) -> None:
        self.started = started

    def list_jobs(self) -> list[JobDetails]:
        ours = [self._job(f"{n}.{at}", at, {"there": f"/r/{n}", "name": n}) for n, at in self.started]
        return [*ours, self._job("somebody's", 99, {})]

    def _job(self, job: str, at: int, said: dict[str, str]) -> JobDetails:
        kind = {"type": JobType.SUBMISSION, "status": JobStatus.RUNNING, "entrypoint": "python"}
        return JobDetails(submission_id=job, start_time=at, metadata=said, **kind)


@pytest.fixture
def followed(tmp_path, monkeypatch):
    """Jobs `one`, `two` and `one` resumed; the places that are followed."""
    monkeypatch.chdir(tmp_path)
    jobs, seen = Jobs(("one", 1), ("two", 2), ("three", 3), ("one", 4)), []
    monkeypatch.setattr(ray_job, "reached", lambda cluster: contextlib.nullcontext((None, jobs)))
    monkeypatch.setattr(ray_job, "follow", lambda cluster, place: seen.append(place.job))
    return seen


def test_a_sweep_is_joined_by_its_name_or_folder(followed, capsys):
    status(Path("two"), cluster=FILE)
    status(Path("runs/one/"), cluster=FILE)
    assert followed == ["two.2", "one.4"], "of a sweep that was resumed its last job"
    assert capsys.readouterr().out == ""
    with pytest.raises(BadInput, match=r"four: no sweep of that name .*cluster.yaml; there are two, three, one$"):
        status(Path("four"), cluster=FILE)


def test_without_a_name_the_latest_is_joined_and_the_others_are_named(followed, capsys, tmp_path):
    (tmp_path / "runs/two").mkdir(parents=True)  # which has been brought home
    status(cluster=FILE)
    assert followed == ["one.4"]
    said = capsys.readouterr().out
    assert said == "not brought home yet: espalier status three --cluster cluster.yaml\n"


def test_who_leaves_is_told_how_to_join_this_sweep_again(monkeypatch, capsys, tmp_path):
    def interrupted(cluster):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_job, "_connected", interrupted)
    for home, run in ((tmp_path / "runs/two", "two"), (tmp_path / "two", str(tmp_path / "two"))):
        assert ray_job.follow(FILE, ray_job.JobFolders("two.2", "/r/two", home)) == "left"
        assert f"join again with: espalier status {run} --cluster cluster.yaml\n" in capsys.readouterr().out


class HostileJobs(Jobs):
    """A head on which a trial has written metadata that leads out of the folder of runs."""

    def list_jobs(self) -> list[JobDetails]:
        named = [{"there": "/tmp/x", "home": "/home/you", "name": name} for name in ("..", "../up", "/etc", ".ssh", "")]
        return [
            self._job(f"job.{at}", at, said) for at, said in enumerate([*named, {"there": "/tmp/x", "name": "fine"}])
        ]


def test_the_head_chooses_no_folder_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    places = []
    monkeypatch.setattr(ray_job, "reached", lambda cluster: contextlib.nullcontext((None, HostileJobs())))
    monkeypatch.setattr(ray_job, "follow", lambda cluster, place: places.append(place))
    status(cluster=FILE)
    status(Path("fine"), cluster=FILE)
    status(tmp_path / "elsewhere/fine", cluster=FILE)
    runs = tmp_path / "runs/fine"
    assert [place.home for place in places] == [runs, runs, tmp_path / "elsewhere/fine"]
    with pytest.raises(BadInput, match=r"there are fine$"):
        status(Path("/home/you"), cluster=FILE)


def test_nothing_is_copied_over_another_sweep(monkeypatch, tmp_path):
    """Two sweeps of one name: the one that is here is not the one that the head has."""
    head = NewHead("10.0.0.1")
    monkeypatch.setattr(ray_job, "_connected", lambda cluster: contextlib.nullcontext((head, head)))
    monkeypatch.setattr(ray_job, "_mlflow", lambda head: contextlib.nullcontext())
    (tmp_path / "one").mkdir()
    (tmp_path / "one/sweep.yaml").write_text("name: one\n")
    with pytest.raises(BadInput, match=r"one holds another sweep than one\.1; copy this one to another folder"):
        ray_job.follow(FILE, ray_job.JobFolders("one.1", "/r/one", tmp_path / "one"))
    assert head.fetched == []


def test_a_name_for_the_cluster_is_a_folder_name(tmp_path):
    with pytest.raises(BadInput, match=r"--name \.\./up: it names a folder"):
        ray_job.submit("../up", FILE, tmp_path, Path("sweeps/arena.py"), [])


class NewHead:
    """A head that has taken the place of another: it has the sweep's folder, and the old head's job as failed."""

    def __init__(self, ran_at: str) -> None:
        self.ran_at, self.fetched = ran_at, []

    def run(self, command: str) -> str:
        return "10.0.0.9 " if command == "hostname -I" else "there"

    def fetch(self, there: str, home: Path) -> None:
        self.fetched.append((there, home))

    def get_job_info(self, job: str) -> JobDetails:
        kind = {"type": JobType.SUBMISSION, "status": JobStatus.FAILED, "entrypoint": "python"}
        return JobDetails(submission_id=job, driver_agent_http_address=f"http://{self.ran_at}:52365", **kind)

    def get_job_logs(self, job: str) -> str:
        if self.ran_at != "10.0.0.9":
            raise RuntimeError("Request failed with status code 500: its agent is gone")
        return "the log\n"


@pytest.mark.parametrize(("ran_at", "log"), [("10.0.0.1", ""), ("10.0.0.9", "the log\n")])
def test_a_job_whose_head_is_gone_is_fetched_without_its_log(monkeypatch, capsys, tmp_path, ran_at, log):
    head = NewHead(ran_at)
    monkeypatch.setattr(ray_job, "_connected", lambda cluster: contextlib.nullcontext((head, head)))
    monkeypatch.setattr(ray_job, "_mlflow", lambda head: contextlib.nullcontext())
    monkeypatch.setattr(ray_job, "AGAIN_S", 0.01)
    place = ray_job.JobFolders("one.1", "/r/one", tmp_path / "one")
    assert ray_job.follow(FILE, place) == "interrupted"
    assert head.fetched == [("/r/one", tmp_path / "one")]
    said = capsys.readouterr().out
    assert said.startswith(f"{log}\nbrought home")
    assert "--name one --resume" in said
