"""MLflow's model registry: an exported folder as a new version of a registered model."""

from __future__ import annotations

from pathlib import Path

from sweeps.tracking.event_queue import read_events
from sweeps.tracking.mlflow_store import PARENT_TAG, SWEEP_TAG, TRIAL_TAG, public, set_environment, store_uri
from trainables.bad_input import BadInput


def register(run: Path, trial_id: str, name: str, folder: Path) -> str:
    """Upload `folder` to the trial's MLflow run, register it as the next version of `name`, and return a line about it.

    Raises BadInput if the store is unreachable or does not have the trial.
    """
    uri = store_uri(Path.cwd())
    set_environment()
    import mlflow

    events = read_events(run / "mlflow" / "events.jsonl")
    sweep_id = events[0]["tags"][SWEEP_TAG] if events else ""
    client = mlflow.MlflowClient(uri)
    try:
        known = [experiment.experiment_id for experiment in client.search_experiments()]
        parents = client.search_runs(known, f"tags.`{SWEEP_TAG}` = '{sweep_id}'", max_results=1)
        of_sweep = " and ".join(f"tags.`{PARENT_TAG}` = '{parent.info.run_id}'" for parent in parents)
        where = f"{of_sweep} and tags.`{TRIAL_TAG}` = '{trial_id}'"
        found = client.search_runs(known, where, max_results=1) if parents else []
        if not found:
            raise BadInput(
                f"--register: MLflow at {public(uri)} has no run of trial {trial_id}; start where the sweep was"
                " started, or set MLFLOW_TRACKING_URI"
            )
        own = found[0].info
        client.log_artifacts(own.run_id, str(folder), "model")
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        made = client.create_model_version(name, f"{own.artifact_uri}/model", own.run_id)
    except mlflow.MlflowException as error:
        raise BadInput(f"--register {name}: MLflow at {public(uri)} says {error.message.splitlines()[0]}") from error
    return f"registered as {name}, version {made.version}, in MLflow at {public(uri)}"
