"""`espalier ui`: start the server of the pages, and MLflow beside it."""

from __future__ import annotations

import os
import secrets
import threading
from contextlib import nullcontext
from pathlib import Path

from sweeps.commands.ui.ports import free_port
from sweeps.commands.ui.server import serving_pages
from sweeps.commands.ui.site import Site
from sweeps.commands.which_sweep import ROOT, sweeps_in
from sweeps.results.terminal import print
from sweeps.spec.error_policy import Ended
from sweeps.spec.trust import apply_trust
from sweeps.tracking.mlflow_store import DATABASE, public, serving, store_uri
from trainables.bad_input import BadInput


def ui(port: int = 8765, mlflow_port: int = 5000, trust: tuple[str, ...] = ()) -> Ended:
    """Serve a page for each sweep in runs/, which is refreshed while the sweep runs, and start MLflow.

    Args:
        port: of the pages, on this machine; the next free one if it is taken
        mlflow_port: of MLflow, likewise
        trust: files or modules with the learners and tasks that are not Espalier's, for clones
    """
    apply_trust(trust)
    logged = bool(os.environ.get("MLFLOW_TRACKING_URI")) or (Path.cwd() / DATABASE).is_file()  # MLflow would make one
    if not logged and not sweeps_in(ROOT):
        raise BadInput(f"no sweep has written to {Path.cwd()}; go to the folder that one was started in")
    uri = store_uri(Path.cwd()) if logged else ""
    is_server = uri.startswith(("http", "databricks"))
    at, own = free_port(port, "--port"), None
    shown = public(uri) if uri.startswith("http") else ""
    if uri and not is_server:
        own = free_port(mlflow_port, "--mlflow-port", but=at)
        shown = f"http://127.0.0.1:{own}"
    site = Site(ROOT, secrets.token_urlsafe(24), shown)
    with serving_pages(site, at), serving(uri, own) if own else nullcontext() as mlflow:
        print(f"sweeps: http://127.0.0.1:{at}{site.home} (for you alone: the address has a key)")
        if shown:
            print(f"MLflow: {shown}")
        print("Ctrl-C ends it", flush=True)
        try:
            if mlflow is None:
                threading.Event().wait()
            else:
                return "failed" if mlflow.wait() else "finished"
        except KeyboardInterrupt:
            pass
        return "left"
