"""The RunPod provider against a server that answers as RunPod does, well and badly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ray.autoscaler._private import command_runner
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_STATUS,
)

from cluster.api import HEADS_KEY, NoCapacity, RunPod, RunPodError
from cluster.tags import Tags
from tests.support.api_server import KEY
from tests.support.runpod_kit import CONFIG, HEAD, WORKER, provider


def test_nodes_are_pods_of_this_cluster_with_their_tags(account):
    ours, others = provider(account), provider(account, "another")
    (head,) = ours.create_node(CONFIG, HEAD, 1)
    workers = list(ours.create_node_with_resources_and_labels(CONFIG, WORKER, 3, {}, {}))
    others.create_node(CONFIG, HEAD, 1)
    assert set(ours.non_terminated_nodes({})) == {head, *workers}, "more than one page of pods, and not the others'"
    assert ours.non_terminated_nodes({TAG_RAY_NODE_KIND: NODE_KIND_HEAD}) == [head]
    assert (ours.external_ip(head), ours.ssh_port(head, private=False)) == ("203.0.113.7", 40001)
    assert (ours.internal_ip(head), ours.ssh_port(head, private=True)) == ("10.88.0.1", 22)
    asked = account.pods[head]["env"]
    assert asked["PUBLIC_KEY"] == "ssh-ed25519 AAAA me"
    assert asked[HEADS_KEY] == KEY, "the head rents workers"
    assert KEY not in str(account.pods[workers[0]]), "no worker knows the key"
    assert "22/tcp" in account.pods[head]["ports"]
    ours.terminate_node(workers[0])
    ours.terminate_node(workers[0])
    assert set(ours.non_terminated_nodes({})) == {head, *workers[1:]}
    assert ours.is_terminated(workers[0])
    assert not ours.is_terminated(head)


def test_tags_outlive_the_process_and_a_lost_file(account, tmp_path):
    (head,) = provider(account).create_node(CONFIG, HEAD, 1)
    provider(account).set_node_tags(head, {TAG_RAY_NODE_STATUS: "up-to-date"})
    assert provider(account).node_tags(head) == HEAD | {TAG_RAY_NODE_STATUS: "up-to-date"}
    for file in (tmp_path / ".espalier").iterdir():
        file.unlink()
    assert provider(account).node_tags(head) == HEAD, "what it was made as is in the pod itself"


def test_a_pod_that_starts_is_listed_and_not_yet_running(account):
    account.on_start = lambda pod: None
    ours = provider(account)
    (head,) = ours.create_node(CONFIG, HEAD, 1)
    assert ours.non_terminated_nodes(HEAD) == [head]
    assert not ours.is_running(head)
    assert ours.external_ip(head) is None
    assert ours.internal_ip(head) is None


def test_busy_and_broken_answers_are_repeated(account):
    account.faults = [("POST", "/v2/pods", "429"), ("GET", "/v2/pods", "500"), ("GET", "/v2/pods", "429")]
    ours = provider(account)
    ours.create_node(CONFIG, WORKER, 1)
    assert len(ours.non_terminated_nodes({})) == len(account.alive()) == 1


@pytest.mark.parametrize("config", [CONFIG, CONFIG | {"bid": 0.1}])
def test_a_lost_answer_leaves_no_second_pod(account, config):
    account.faults = [("POST", "/v2/pods" if config is CONFIG else "/graphql", "lost")]
    ours = provider(account)
    (made,) = ours.create_node(config, WORKER, 1)
    assert [pod["id"] for pod in account.alive()] == [made]


def test_a_pod_that_turns_up_after_its_call_was_repeated_is_given_back(account):
    ours = provider(account)
    (made,) = ours.create_node(CONFIG, WORKER, 1)
    late = {name: account.pods[made][name] for name in ("name", "image", "gpu", "env", "ports")}
    account.rent(late)
    assert ours.non_terminated_nodes({}) == [made]
    assert [pod["id"] for pod in account.alive()] == [made]


def test_the_next_gpu_is_taken_where_the_first_has_no_stock(account):
    account.stock["NVIDIA RTX A4000"] = 0
    (made,) = provider(account).create_node(CONFIG, WORKER, 1).values()
    assert made["gpu"]["id"] == "NVIDIA RTX A5000"
    account.stock["NVIDIA RTX A5000"] = 0
    with pytest.raises(NodeLaunchException, match="no longer any instances") as refused:
        provider(account).create_node_with_resources_and_labels(CONFIG, WORKER, 1, {}, {})
    assert "add GPUs or data centers" in refused.value.description
    assert len(account.alive()) == 1


def test_nothing_dearer_than_the_ceiling_is_kept(account):
    config = CONFIG | {"gpu": {"id": ["NVIDIA A100 80GB PCIe", "NVIDIA RTX A4000"], "count": 2}, "max_price": 0.6}
    (made,) = provider(account).create_node(config, WORKER, 1).values()
    assert (made["gpu"]["id"], made["cost"]) == ("NVIDIA RTX A4000", 0.5)
    account.extra_cost = 0.2
    with pytest.raises(NoCapacity, match=r"(?s)3\.28 dollars per hour is more than max_price=0\.6.*costs 0\.70"):
        provider(account).create_node(config, WORKER, 1)
    assert len(account.alive()) == 1, "the pod that was billed higher than listed was given back"


def test_an_unknown_price_counts_as_over_the_ceiling(account):
    """A GPU that is not in the list, which may be in stock all the same; and a pod whose bill has no price."""
    account.stock["NVIDIA H200"] = 1
    config = CONFIG | {"gpu": {"id": ["NVIDIA H200"], "count": 1}, "max_price": 0.6}
    with pytest.raises(NoCapacity, match=r"NVIDIA H200: its price is not listed, and max_price=0\.6"):
        provider(account).create_node(config, WORKER, 1)
    assert account.alive() == []
    start = account.on_start
    account.on_start = lambda pod: (start(pod), pod.pop("cost"))
    with pytest.raises(NoCapacity, match=r"its pod has no price, max_price=0\.6"):
        provider(account).create_node(CONFIG | {"max_price": 0.6}, WORKER, 1)
    assert account.alive() == []


def test_a_spot_pod_is_rented_by_its_bid_and_cleared_away_when_it_is_taken_back(account):
    ours = provider(account)
    (spot,) = ours.create_node(CONFIG | {"bid": 0.11}, WORKER, 1)
    assert account.bids == [0.11]
    assert ours.non_terminated_nodes({}) == [spot]
    assert ours.internal_ip(spot)
    account.pods[spot]["status"] = "EXITED"
    assert ours.non_terminated_nodes({}) == []
    assert account.alive() == [], "its disk is paid for otherwise"


def test_a_stopped_head_is_neither_forgotten_nor_doubled(account):
    ours = provider(account)
    (head,) = ours.create_node(CONFIG, HEAD, 1)
    account.pods[head]["status"] = "EXITED"
    assert ours.non_terminated_nodes({}) == []
    with pytest.raises(RunPodError, match=r"pod001, was stopped: start it .* `ray down`"):
        ours.create_node(CONFIG, HEAD, 1)
    assert ours.nodes_for_teardown({TAG_RAY_NODE_KIND: NODE_KIND_HEAD}) == [head]


def test_the_autoscaler_does_not_give_back_the_head_it_runs_on(account, monkeypatch):
    """Ray's does when `ray up` stops and starts Ray there: it sees its own node die."""
    ours = provider(account)
    (head,), (worker,) = ours.create_node(CONFIG, HEAD, 1), ours.create_node(CONFIG, WORKER, 1)
    monkeypatch.setenv("RAY_CLOUD_INSTANCE_ID", head)
    ours.terminate_nodes([head, worker])
    assert [pod["id"] for pod in account.alive()] == [head]


def test_a_new_pod_that_gets_no_address_is_given_back_and_an_old_one_is_not(account, monkeypatch):
    monkeypatch.setattr(command_runner, "AUTOSCALER_NODE_START_WAIT_S", 0.5)
    monkeypatch.setattr(command_runner, "AUTOSCALER_NODE_SSH_INTERVAL_S", 0.1)
    account.on_start = lambda pod: None
    ours = provider(account)
    (new,), (old,) = ours.create_node(CONFIG, WORKER, 1), ours.create_node(CONFIG, HEAD, 1)
    ours.set_node_tags(new, {TAG_RAY_NODE_STATUS: "waiting-for-ssh"})
    ours.set_node_tags(old, {TAG_RAY_NODE_STATUS: "up-to-date"})
    for node, said in ((new, "terminated, so that it costs nothing"), (old, f"{old} got no address in time$")):
        with pytest.raises(RunPodError, match=said):
            ours.get_command_runner("", node, {"ssh_user": "root"}, "c", subprocess, False).run("true")
    assert [pod["id"] for pod in account.alive()] == [old], "its disk may hold a sweep"


def test_tags_that_several_processes_set_at_once_are_all_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    write = "import sys; from cluster.tags import Tags; tags = Tags('c'); print(flush=True); sys.stdin.readline()\n"
    write += "for number in range(40): tags.set('shared', {f'{sys.argv[1]}-{number}': 'up'})"
    calls = [[sys.executable, "-c", write, str(number)] for number in range(3)]
    root = Path(__file__).parents[2]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    writers = [subprocess.Popen(call, cwd=root, **pipes) for call in calls]
    for writer in writers:
        writer.stdout.readline()
    for writer in writers:
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    found = Tags("c").of({"id": "shared"})
    assert found.keys() == {f"{writer}-{number}" for writer in range(3) for number in range(40)}


def test_tags_of_a_pod_that_is_made_during_a_listing_are_kept(account, monkeypatch):
    """Another process sets tags after the pods were listed and before the tags of lost pods are dropped."""
    ours, others = provider(account), provider(account)
    listed = RunPod.pods

    def meanwhile(api):
        pods = listed(api)
        planted.undo()
        (made,) = others.create_node(CONFIG, WORKER, 1)
        others.set_node_tags(made, {TAG_RAY_NODE_STATUS: "up-to-date"})
        return pods

    with monkeypatch.context() as planted:
        planted.setattr(RunPod, "pods", meanwhile)
        ours.non_terminated_nodes({})
    assert len(ours.non_terminated_nodes({TAG_RAY_NODE_STATUS: "up-to-date"})) == 1
