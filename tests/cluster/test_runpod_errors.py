"""Errors of the RunPod provider, before and after it calls the API."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.util import hash_runtime_conf
from ray.autoscaler.tags import NODE_KIND_HEAD, TAG_RAY_NODE_KIND, TAG_RAY_NODE_STATUS

from cluster.api import HEADS_KEY, RunPod, RunPodError, api_key
from cluster.runpod import RunPodNodeProvider
from tests.support.api_server import KEY
from tests.support.runpod_kit import CONFIG, HEAD, WORKER, provider

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ({"balance": 0.0}, "402.*no credit: add some"),
        ({"config": CONFIG | {"gpus": 2}}, "422.*body.gpus.*correct node_config"),
        ({"key": "rpa_wrong"}, "401.*set RUNPOD_API_KEY"),
    ],
)
def test_what_cannot_work_is_said_once_with_its_remedy(account, monkeypatch, planted, said):
    account.balance = planted.get("balance", account.balance)
    monkeypatch.setenv("RUNPOD_API_KEY", planted.get("key", KEY))
    with pytest.raises(RunPodError, match=f"(?s){said}"):
        provider(account).create_node(planted.get("config", CONFIG), WORKER, 1)
    assert account.calls["POST /v2/pods"] == 1
    assert account.alive() == []


def test_an_api_that_stays_away_is_told_of_at_once_and_ends_in_one_line(account, capsys):
    gone = RunPod(KEY, "http://127.0.0.1:9", retry_s=3.0)
    with pytest.raises(RunPodError, match=r"no answer to GET /v2/pods .*127\.0\.0\.1:9 reachable"):
        gone.pods()
    said = capsys.readouterr().err
    assert said.count("reachable?; retrying for 3 s\n") == 1, "not once per attempt"
    account.faults = [("GET", "/v2/pods", "429")]
    provider(account).non_terminated_nodes({})
    assert capsys.readouterr().err == "", "who is only too fast need not know"


def test_what_can_never_be_asked_is_not_asked_again(account):
    for url, key in (("htp://127.0.0.1:9", KEY), (f"http://127.0.0.1:{account.port}", f"{KEY}\r")):
        with pytest.raises(RunPodError, match=r"cannot be called .*correct api_url"):
            RunPod(key, url, retry_s=5.0).pods()


def test_a_key_is_taken_as_it_was_meant_or_refused(monkeypatch):
    monkeypatch.setenv("RUNPOD_API_KEY", f" {KEY}\r\n")  # of a file from another system
    assert api_key() == KEY
    for wrong, odd in ((f"\u201c{KEY}\u201d", "\u201c"), (f"{KEY} {KEY}", " ")):
        monkeypatch.setenv("RUNPOD_API_KEY", wrong)
        with pytest.raises(RunPodError, match=f"RUNPOD_API_KEY holds '{odd}'.*copy the key alone") as refused:
            api_key()
        assert KEY not in refused.value.message


def test_the_key_is_never_shown(account, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(RunPodError) as refused:  # a server that repeats what it was given
        provider(account).create_node({"gpus": 2, **CONFIG}, HEAD, 1)
    assert HEADS_KEY in str(refused.value)
    assert KEY not in caplog.text + str(refused.value) + repr(refused.value)


def test_without_a_key_one_line_says_where_to_get_it(monkeypatch):
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    with pytest.raises(RunPodError, match="set RUNPOD_API_KEY to a key from"):
        api_key()


def test_the_cluster_gets_a_key_pair_and_configurations_are_checked(account, tmp_path):
    types = {"head": {"node_config": CONFIG}}
    done = RunPodNodeProvider.bootstrap_config({"available_node_types": types, "provider": {}})
    private = Path(done["auth"]["ssh_private_key"]).expanduser()
    assert private.stat().st_mode & 0o077 == 0
    assert done["provider"]["public_key"].startswith("ssh-ed25519 ")
    again = RunPodNodeProvider.bootstrap_config({"available_node_types": types, "provider": {}})
    assert again["provider"]["public_key"] == done["provider"]["public_key"]
    for wrong, said in (
        ({"image": "x"}, r"head.node_config.gpu=None"),
        ({"gpu": CONFIG["gpu"]}, "has no image"),
        (CONFIG | {"max_price": "cheap"}, "max_price='cheap': give dollars per hour"),
    ):
        with pytest.raises(RunPodError, match=said):
            RunPodNodeProvider.bootstrap_config(
                {"available_node_types": {"head": {"node_config": wrong}}, "provider": {}}
            )


def test_the_checkout_goes_to_the_nodes_wherever_the_command_is_given(account, tmp_path, monkeypatch):
    """Not the folder that one is in; and Ray's cache, which knows a file's words only, is not asked the next time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    config = _bootstrap_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))
    assert config["file_mounts"] == {"~/espalier": str(ROOT)}
    assert list(tmp_path.glob("ray-config-*"))
    RunPodNodeProvider(config["provider"], config["cluster_name"])
    assert not list(tmp_path.glob("ray-config-*"))


def test_machines_of_ones_own_get_nothing_but_the_checkout(tmp_path, monkeypatch):
    """In another folder Ray, which reads all mounts before it reaches anybody, finds none of them."""
    mounts = yaml.safe_load((ROOT / "cluster/local.yaml").read_text())["file_mounts"]
    assert all(there == f"~/espalier/{here}" for there, here in mounts.items())
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in setup["tool"]["setuptools"]["packages"]["find"]["include"]}
    needed = {setup["project"]["readme"], *setup["project"]["license-files"], "Makefile", "constraints.txt"}
    assert packages | needed | {"pyproject.toml"} <= {*mounts.values()}
    assert all((ROOT / here).exists() for here in mounts.values())
    monkeypatch.chdir(tmp_path)
    for here in mounts.values():
        with pytest.raises(FileNotFoundError):
            hash_runtime_conf({"~/espalier": here}, None, {})


def test_threads_share_a_provider(account):
    ours = provider(account)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: next(iter(ours.create_node(CONFIG, WORKER, 1))), range(8)))
        list(pool.map(lambda one: ours.set_node_tags(one, {TAG_RAY_NODE_STATUS: f"of {one}"}), made))
        listed = list(pool.map(lambda _: set(ours.non_terminated_nodes({})), range(8)))
    assert all(one == set(made) for one in listed)
    assert [ours.node_tags(one)[TAG_RAY_NODE_STATUS] for one in made] == [f"of {one}" for one in made]


def test_a_pod_that_cannot_be_given_back_keeps_no_other(account):
    ours = provider(account)
    made = [*ours.create_node(CONFIG, HEAD, 1), *ours.create_node(CONFIG, WORKER, 3)]
    account.faults = [("DELETE", f"/v2/pods/{made[1]}", "409")]
    with pytest.raises(RunPodError, match=rf"^still costing: {made[1]} \(.*409.*locked.*Run `ray down` again"):
        ours.terminate_nodes(made)  # the head first, as Ray gives them
    assert [pod["id"] for pod in account.alive()] == [made[1]]
    deleted = [call.rpartition("/")[2] for call in account.calls if call.startswith("DELETE")]
    assert deleted == [*made[1:], made[0]], "the head last"
    account.pods[made[1]]["status"] = "EXITED"
    account.faults = [("DELETE", f"/v2/pods/{made[1]}", "409")]
    assert ours.non_terminated_nodes({}) == [], "nor does it keep anybody from looking at the others"
    assert [pod["id"] for pod in account.alive()] == [made[1]]
    ours.terminate_nodes([made[1]])
    assert account.alive() == []


@pytest.mark.parametrize("damage", ["torn", "no disk"])
def test_pods_are_given_back_whatever_has_become_of_this_machines_disk(account, tmp_path, monkeypatch, damage):
    ours = provider(account)
    made = [*ours.create_node(CONFIG, HEAD, 1), *ours.create_node(CONFIG, WORKER, 1)]
    for node in made:
        ours.set_node_tags(node, {TAG_RAY_NODE_STATUS: "up-to-date"})
    if damage == "no disk":
        ours.terminate_node(made.pop())  # of which the file knows, and would be told
        monkeypatch.setattr(Path, "write_text", full)
    else:
        (tmp_path / ".espalier/c.tags.json").write_text('{"pod0')
    again = provider(account)
    assert again.nodes_for_teardown({TAG_RAY_NODE_KIND: NODE_KIND_HEAD}) == made[:1]
    again.terminate_nodes(again.nodes_for_teardown({}))
    assert account.alive() == []


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_ray_up_shows_a_wrong_key_in_one_line(account, tmp_path):
    """Ray's own command, from another folder, with the cluster's file of the repository."""
    text = (ROOT / "cluster.yaml").read_text()
    config = tmp_path / "cluster.yaml"
    config.write_text(text.replace("provider:\n", f"provider:\n  api_url: http://127.0.0.1:{account.port}\n"))
    env = os.environ | {"RUNPOD_API_KEY": "rpa_wrong", "HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}
    ray = Path(sys.executable).with_name("ray")
    done = subprocess.run(
        [ray, "up", "-y", "--no-config-cache", config], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Error: RunPod answered 401" in done.stderr
    assert "set RUNPOD_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr
    assert account.alive() == []
