"""Private names, file formats and environment variables on which Espalier relies and which no library promises.

Here they are listed, all of them, and looked for in what is installed, so that an upgrade fails here and not in
somebody's sweep. pyproject.toml caps the versions of these libraries. What private code does is seen where it runs:
tests of interrupted sweeps and of clusters.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest
from packaging.requirements import Requirement
from ray import cloudpickle, tune
from ray.tune.search import ConcurrencyLimiter, SearchGenerator

from sweeps.persistence.snapshot import STATE, Snapshot
from tests.support.same_searcher import Same

ROOT = Path(__file__).resolve().parents[2]
OURS = ("cluster", "search_spaces", "sweeps", "trainables")
CAPPED = {"ray": "2.61", "mlflow": "3.18", "optuna": "6", "torch": "3", "transformers": "6"}

# Where a private name is, by the word that the source has of it.
NAMES = {
    "_bootstrap_config": "ray.autoscaler._private.commands:_bootstrap_config",
    "_get_node_provider": "ray.autoscaler._private.providers:_get_node_provider",
    "SSHCommandRunner": "ray.autoscaler._private.command_runner:SSHCommandRunner",
    "_get_ssh_target": "ray.autoscaler._private.command_runner:SSHCommandRunner._get_ssh_target",
    "_run_helper": "ray.autoscaler._private.command_runner:SSHCommandRunner._run_helper",
    "_ensure_ssh_control_path": "ray.autoscaler._private.command_runner:SSHCommandRunner._ensure_ssh_control_path",
    "_wait_for_ip": "ray.autoscaler._private.command_runner:SSHCommandRunner._wait_for_ip",
    "utils": "ray._private:utils",
    "set_sigterm_handler": "ray._private.utils:set_sigterm_handler",
    "set_kill_on_parent_death_linux": "ray._private.utils:set_kill_on_parent_death_linux",
    "worker": "ray._private:worker",
    "_global_node": "ray._private.worker:_global_node",
    "get_default_host_creds": "mlflow.tracking._tracking_service.utils:get_default_host_creds",
    "tree_map": "torch.utils._pytree:tree_map",
    "_no_split_modules": "transformers:PreTrainedModel._no_split_modules",
    "_attn_implementation": "transformers:PretrainedConfig._attn_implementation",
}
# Attributes that are set when there is an object: where, and which. The second list is of Ray's names without `_`.
SET = {
    "_storage": "ray.tune:Trainable.__init__",
    "_iteration": "ray.tune:Trainable.__init__",
    "_trial_id": "optuna.trial:FrozenTrial.__init__",
    "_tracking_client": "mlflow:MlflowClient.__init__",
    "_stopper": "ray.tune.execution.tune_controller:TuneController.__init__",
} | {
    "health_check_failure": "ray.train.v2._internal.exceptions:WorkerHealthCheckFailedError.__init__",
    "worker_failures": "ray.train.v2.api.exceptions:WorkerGroupError.__init__",
    "ssh_options": "ray.autoscaler._private.command_runner:SSHCommandRunner.__init__",
    "ssh_control_path": "ray.autoscaler._private.command_runner:SSHCommandRunner.__init__",
    "ssh_user": "ray.autoscaler._private.command_runner:SSHCommandRunner.__init__",
    "arg_dict": "ray.autoscaler._private.command_runner:SSHOptions.__init__",
}
# Words that are read out of others' files and environments: in which module's source they stand.
WORDS = {
    "_config_cache_path": "ray.autoscaler._private.commands",
    "_temp_dir": "ray._private.worker",
    "ray_bootstrap_config.yaml": "ray.autoscaler._private.commands",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "ray.train.v2._internal.constants",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "ray.train.v2._internal.constants",
    "TUNE_GLOBAL_CHECKPOINT_S": "ray.tune.execution.tune_controller",
    "TUNE_ONLY_STORE_CHECKPOINT_SCORE_ATTRIBUTE": "ray.train.constants",
    "TUNE_DISABLE_SIGINT_HANDLER": "ray.tune.tune",
    "SIGUSR1": "ray.tune.tune",
    "utils.set_sigterm_handler(": "ray._private.node",
    "utils.set_kill_on_parent_death_linux()": "ray._private.services",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "ray._private.accelerators.accelerator",
}
PUBLIC = {"_exit", "_asdict", "_replace"} | {"_multiplier", "_size"}  # documented all the same; endings of our names


@pytest.mark.parametrize("where", NAMES.values())
def test_private_names_are_there(where):
    resolve_name(where)


@pytest.mark.parametrize(("name", "where"), SET.items())
def test_private_attributes_are_set(name, where):
    assert name in resolve_name(where).__code__.co_names


@pytest.mark.parametrize(("word", "where"), WORDS.items())
def test_words_of_private_formats_are_known(word, where):
    assert word in inspect.getsource(resolve_name(where))


def test_the_launcher_takes_what_it_is_given():
    assert "no_config_cache" in inspect.signature(resolve_name(NAMES["_bootstrap_config"])).parameters
    options = resolve_name("ray.autoscaler._private.command_runner:SSHOptions.to_ssh_options_list")
    assert "timeout" in inspect.signature(options).parameters


@pytest.mark.parametrize(("name", "below"), CAPPED.items())
def test_libraries_of_private_names_are_capped(name, below):
    text = (ROOT / "pyproject.toml").read_text()
    (asked,) = re.findall(rf'^    "({name}[\[>].*)",$', text, re.MULTILINE)
    assert not Requirement(asked).specifier.contains(below)
    libraries = {
        where.partition(".")[0].partition(":")[0] for where in [*NAMES.values(), *SET.values(), *WORDS.values()]
    }
    assert libraries == CAPPED.keys()


class Counts(tune.Trainable):
    def step(self):
        return {"score": 0.5, "storage": self._storage.storage_fs_path, "iteration": self._iteration}

    def save_checkpoint(self, checkpoint_dir):
        Path(checkpoint_dir, "state").touch()


def test_a_sweep_of_tune_leaves_what_a_snapshot_is_made_of(ray_session, tmp_path):
    """Its trials hold the checkpoints that the recorder removes, with their paths."""
    snapshot = Snapshot(tmp_path / "snapshot.zip")
    search = ConcurrencyLimiter(Same(metric="score", mode="max"), 1)
    (trial,) = tune.run(
        Counts, name="tune", storage_path=str(tmp_path), metric="score", mode="max", num_samples=1,
        stop={"training_iteration": 2}, search_alg=SearchGenerator(search),
        callbacks=[snapshot], checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1), verbose=0,
    ).trials  # fmt: skip
    assert (trial.last_result["storage"], trial.last_result["iteration"]) == (str(tmp_path), 1)
    assert trial.run_metadata.checkpoint_manager.best_checkpoint_result.checkpoint.path
    assert len([*Path(trial.storage.trial_fs_path).glob("checkpoint_*")]) == 2
    folder = tmp_path / "again"
    folder.mkdir()
    staging = Path(trial.storage.experiment_driver_staging_path)
    left = {file.name for file in staging.iterdir() if file.name.endswith(STATE)}
    (experiment,) = staging.glob("experiment_state-*.json")
    assert "_stopper" in json.loads(experiment.read_text())["runner_data"]
    (searched,) = staging.glob("search_gen_state-*.json")
    state = cloudpickle.loads(searched.read_bytes())
    assert "finished" in state
    assert state["name:ConcurrencyLimiter"]["max_concurrent"] == 1
    assert state["experiment"].spec["storage"].storage_fs_path == str(tmp_path)
    assert snapshot.restore(folder)
    assert {file.name for file in folder.iterdir()} == left


def private_uses() -> Iterator[tuple[str, str]]:
    """(file, name) of every name with an underscore that none of our files defines."""
    trees = {f: ast.parse(f.read_text()) for folder in OURS for f in (ROOT / folder).rglob("*.py")}
    nodes = [(file, node) for file, tree in trees.items() for node in ast.walk(tree)]
    own = {node.name for _, node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {node.id for _, node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {node.attr for _, node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    for file, node in nodes:
        if isinstance(node, ast.Attribute) and node.attr not in own:
            yield str(file), node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in own:
            yield str(file), node.value
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] not in OURS:
            hidden = any(re.match("_[a-z]", part) for part in node.module.split("."))
            yield from ((str(file), alias.name if not hidden else f"_{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((str(file), part) for alias in node.names for part in alias.name.split("."))


def test_no_private_name_is_used_that_is_not_listed():
    known = {*NAMES, *SET, *WORDS, *PUBLIC} | {f"_{name}" for name in NAMES}
    used = {(file, name) for file, name in private_uses() if re.fullmatch(r"_[A-Za-z]\w*", name)}
    assert len(used) >= 8, "it reads the source"
    assert {(file, name) for file, name in used if name not in known} == set()
