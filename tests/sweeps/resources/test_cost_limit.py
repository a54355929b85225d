"""The cost of a sweep; no trial starts that would exceed --max-cost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from ray.tune.search import Searcher

from sweeps.cli.main import main
from cluster.api import RunPodError
from cluster.prices import UnknownPrice, cost_notice, current_rate
from cluster.tags import CLUSTER
from sweeps.report.tables import cost
from sweeps.resources import ray_job
from sweeps.resources.cost_limit import CostLimit, cost_limit_of
from sweeps.resources.ray_job import hourly
from sweeps.results.run_folder import Run
from sweeps.tuning.estimate import Estimate
from tests.support.api_server import KEY, Account
from tests.support.report_kit import folder, several
from tests.support.toy_sweep import SWEEP
from trainables.bad_input import BadInput

HOUR = 3600.0
ROOT = Path(__file__).resolve().parents[3]


class Clock:
    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def rented(monkeypatch):
    """The configuration of a cluster of two pods for 0.60 dollars an hour each, and the account, which has another."""
    account = Account()
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    config = {
        "provider": {"module": "cluster.runpod.RunPodNodeProvider", "api_url": f"http://127.0.0.1:{account.port}"}
    }
    config["cluster_name"] = "c"
    for cluster in ("c", "c", "another"):
        env = {CLUSTER: cluster}
        account.rent(
            {"name": "n", "image": "i", "gpu": {"id": "NVIDIA RTX A5000", "count": 2}, "env": env, "ports": []}
        )
    yield config, account
    account.close()


class OneTrial:
    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def begin(costs: CostLimit, *names: str) -> None:
    for name in names:
        costs.on_trial_start(0, [], OneTrial(name))


def end(costs: CostLimit, *names: str) -> None:
    for name in names:
        costs.on_trial_complete(0, [], OneTrial(name))


def test_the_money_lasts_for_so_many_seconds(clock):
    """Two dollars an hour: after half an hour three of four dollars are left, for an hour and a half."""
    costs = CostLimit(lambda: 2.0, 4.0)
    clock.now = HOUR / 2
    assert costs.seconds_left() == pytest.approx(1.5 * HOUR)
    clock.now = 3 * HOUR
    assert costs.seconds_left() == 0
    assert CostLimit(lambda: 2.0, None).seconds_left() == float("inf")
    assert CostLimit(lambda: 0.0, 4.0).seconds_left() == float("inf"), "machines that cost nothing"


def test_trials_start_while_the_running_ones_and_one_more_stay_within_the_limit(clock):
    """Two dollars an hour. Four of six trials ended after half an hour: a dollar for three hours of trials."""
    costs = CostLimit(lambda: 2.0, limit=1.7, every_s=1e6)
    assert costs.may_start(), "nothing is known of a trial's length yet"
    begin(costs, *"abcdef")
    clock.now = 0.5 * HOUR
    end(costs, *"abcd")
    assert costs.may_start(), "1.00 spent, a new one takes half an hour, 0.17; two are past their time"
    begin(costs, *"ghijk")
    assert costs.may_start() is None, "1.00 spent, six half hours to come are another dollar: not while these run"
    clock.now = 0.75 * HOUR
    end(costs, *"efghijk")
    assert costs.may_start(), "one of these lengths costs 0.14"
    assert costs.dollars == pytest.approx(1.5)
    clock.now = HOUR
    assert costs.may_start() is False
    assert costs.stopped
    costs.close()


def test_finalists_start_if_all_of_them_fit(clock):
    """A dollar an hour; two trials of half an hour, one after the other: half a dollar each."""
    costs = CostLimit(lambda: 1.0, limit=2.5, every_s=1e6)
    for name in "ab":
        begin(costs, name)
        clock.now += 0.5 * HOUR
        end(costs, name)
    assert costs.may_start_finalists(3), "1.00 spent and 1.50 to come"
    assert not costs.may_start_finalists(4)
    clock.now += 2 * HOUR
    assert not costs.may_start_finalists(0), "everything is spent"
    costs.close()


def test_a_running_pod_without_a_price_counts_as_over_the_limit(rented):
    config, account = rented
    costs = cost_limit_of(config, 5.0)
    assert costs.hourly == pytest.approx(2 * 2 * 0.30)
    costs.close()
    account.pods["pod002"]["cost"] = None
    with pytest.raises(UnknownPrice, match="price of pod002 is not known"):
        current_rate(config)
    with pytest.raises(BadInput, match=r"--max-cost 5\.0: the price of pod002 is not known"):
        cost_limit_of(config, 5.0)
    assert cost_notice(config, Path("c.yaml")).startswith("c costs an unknown sum (the price of pod002 is not known")


def test_who_leaves_a_cluster_running_is_told_what_it_costs(rented, tmp_path, monkeypatch, capsys):
    config, _ = rented
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(config))

    def leave(cluster):
        raise KeyboardInterrupt

    monkeypatch.setattr(ray_job, "_connected", leave)
    assert ray_job.follow(file, ray_job.JobFolders("two.2", "/r/two", tmp_path / "two")) == "left"
    assert f"c costs 1.20 dollars an hour until: ray down {file}\n" in capsys.readouterr().out

    def lose(cluster):
        raise RunPodError("cluster 'c' has no head")

    monkeypatch.setattr(ray_job, "_connected", lose)
    with pytest.raises(BadInput, match="has no head"):
        ray_job.follow(file, ray_job.JobFolders("two.2", "/r/two", tmp_path / "two"))
    assert f"c costs 1.20 dollars an hour until: ray down {file}\n" in capsys.readouterr().out, "the workers do"


def test_many_at_once_do_not_end_a_sweep_early(clock):
    """A dollar an hour, twelve at once: the first to end has used a twelfth of what was spent."""
    costs = CostLimit(lambda: 1.0, limit=5.0, every_s=1e6)
    begin(costs, *"abcdefghijkl")
    clock.now = 0.5 * HOUR
    end(costs, "a")
    assert costs.may_start()
    costs.close()


def test_a_resumed_sweep_goes_on_counting(clock, tmp_path):
    file = tmp_path / "dollars.txt"
    for hours in (1, 2):
        costs = CostLimit(lambda: 3.0, limit=None, every_s=1e6)
        costs.keep_in(file)
        clock.now += HOUR
        costs.close()
        assert costs.dollars == pytest.approx(3.0 * hours)
    assert float(file.read_text()) == pytest.approx(6.0)


def test_what_was_spent_before_does_not_make_trials_dear(clock, tmp_path):
    """A dollar an hour, a trial takes a tenth: of ten dollars five are left, which is fifty trials."""
    file = tmp_path / "dollars.txt"
    file.write_text("5.0")
    costs, started = CostLimit(lambda: 1.0, limit=10.0, every_s=1e6), 0
    costs.keep_in(file)
    while costs.may_start():
        begin(costs, f"{started}")
        clock.now += 0.1 * HOUR
        end(costs, f"{started}")
        started += 1
    assert started == pytest.approx(50, abs=1)
    costs.close()


def test_what_is_spent_is_the_price_of_each_moment(clock):
    prices = [1.0]
    costs = CostLimit(lambda: prices[0], limit=None, every_s=1e6)
    clock.now = HOUR
    costs.add_elapsed()
    prices[0] = 4.0  # three workers came
    costs.hourly = prices[0]
    clock.now = 1.5 * HOUR
    costs.close()
    assert costs.dollars == pytest.approx(1.0 + 2.0)
    assert costs.may_start(), "without a limit, for ever"


def test_an_api_that_is_away_leaves_the_last_price_standing_until_it_is_back():
    answers = iter([3600.0, None, 7200.0])
    asked = []

    def rate() -> float:
        asked.append(next(answers, 7200.0))
        if asked[-1] is None:
            raise RunPodError("no answer")
        return asked[-1]

    costs = CostLimit(rate, limit=None, every_s=0.2)
    while len(asked) < 4:
        time.sleep(0.05)
    costs.close()
    assert costs.hourly == 7200.0, "it was asked again"
    assert costs.dollars >= 0.4 * 1, "two fifths of a second at a dollar a second, at least"


def test_a_limit_without_prices_is_refused():
    with pytest.raises(BadInput, match=r"--max-cost 3.0: prices are known on a RunPod cluster only"):
        cost_limit_of({"provider": {"type": "local"}}, 3.0)
    with pytest.raises(BadInput, match="prices are known on a RunPod cluster only"):
        cost_limit_of(None, 3.0)
    assert cost_limit_of(None, None) is None


def test_plan_says_what_a_cluster_costs_an_hour(tmp_path, monkeypatch, capsys):
    """The repository's file: of the server's GPUs an A4000 for the head, an A5000 for each worker."""

    def planned(file):
        def two_hours(sweep, argv, mirrored):
            print("probing")
            return Estimate(sweep.name, 2.0, 1, 1, None, None, {})

        monkeypatch.setattr("sweeps.tuning.estimate.plan", two_hours)
        main(SWEEP, ["--plan", "--cluster", str(file)])

    account = Account()
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    file = tmp_path / "cluster.yaml"
    text = (ROOT / "cluster.yaml").read_text()
    file.write_text(text.replace("provider:\n", f"provider:\n  api_url: http://127.0.0.1:{account.port}\n"))
    assert hourly(file) == pytest.approx((0.25, 1.45)), "the head alone, and with all workers"
    planned(file)
    said = capsys.readouterr().out
    assert "0.25 dollars an hour for the head alone, 1.45 with all workers\nprobing" in said, "before it takes time"
    assert said.endswith(f"expected: 0.50 dollars, if a pod of {file} does in an hour what this machine does\n")
    account.prices = {"NVIDIA A100 80GB PCIe": 1.64}
    with pytest.raises(SystemExit):
        planned(file)
    told = capsys.readouterr()
    assert "no GPU of head, worker is offered within max_price" in told.err
    assert "probing" not in told.out, "refused first"
    account.close()


def test_the_report_says_what_a_trial_cost(tmp_path):
    made = folder(tmp_path / "sweep", several(4))
    with (made / "end.yaml").open("a") as end_file:
        end_file.write("dollars: 3.0\n")
    run = Run.read(made)
    assert "3.00 dollars, 0.750 per trial" in cost(run)


def test_the_search_ends_when_no_further_trial_may_start(tmp_path):
    from optuna.distributions import FloatDistribution

    from search_spaces.space import Space
    from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings

    room = [True]
    settings = SearchSettings(Space({"x": FloatDistribution(0, 1)}), "s", seed=0, rounds=1)
    searcher = OptunaSearcher(settings, f"sqlite:///{tmp_path}/o.db", lambda: room[0])
    first = searcher.suggest("a")
    room[0] = False
    assert searcher.suggest("b") == Searcher.FINISHED
    assert searcher.suggest("a") == first, "a trial that runs, or is restored, goes on"
