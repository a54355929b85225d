"""Small faults against the laws of the house: where, what, and what must be said of it."""

from __future__ import annotations

SCRIPT = "SWEEP = 1\nif __name__ == '__main__':\n    main(SWEEP)\n"
PLANTED = {
    "trainables import sweeps": (
        "trainables/x.py",
        "from sweeps.engine import cli",
        "x.py:1: trainables imports sweeps",
    ),
    "trainables import spaces": (
        "trainables/x.py",
        "import search_spaces.lora",
        "x.py:1: trainables imports search_sp",
    ),
    "spaces import trainables": (
        "search_spaces/x.py",
        "from trainables import core",
        "search_spaces imports trainables",
    ),
    "anybody imports tests": ("sweeps/engine/x.py", "from tests.toys import Letters", "sweeps imports tests"),
    "spaces import numpy": ("search_spaces/x.py", "import numpy as np", "imports numpy; search_spaces/ may import"),
    "tasks import torch": ("trainables/tasks/x.py", "def f():\n    import torch", "x.py:2: imports torch"),
    "tasks import ray": ("trainables/tasks/x.py", "import ray", "imports ray"),
    "learners import ray": (
        "trainables/learners/x.py",
        "import math\nfrom ray import tune",
        "x.py:2: imports ray; only",
    ),
    "learners import optuna": ("trainables/learners/x.py", "import optuna", "imports optuna; only"),
    "the host imports ray": (
        "trainables/host.py",
        "class A:\n    def f(self):\n        import ray",
        "host.py:3: imports ray",
    ),
    "mlflow twice": (
        "sweeps/engine/runner.py",
        "from mlflow import MlflowClient",
        "only sweeps/engine/store.py, sweeps/verbs/registry.py may",
    ),
    "results import ray": ("sweeps/results/x.py", "import ray", "results/x.py:1: imports ray"),
    "core imports numpy": ("trainables/core.py", "import numpy", "core.py:1: imports numpy"),
    "trial imports torch": ("trainables/trial.py", "import torch", "trial.py:1: imports torch as soon as"),
    "trial imports it at second hand": (
        "trainables/trial.py",
        "from trainables import heavy",
        "heavy.py:1: imports torch",
    ),
    "trial imports it relatively": ("trainables/trial.py", "from .heavy import f", "heavy.py:1: imports torch"),
    "a long file": ("trainables/x.py", "x = 1\n" * 401, "x.py:400: has 401 lines"),
    "a helper beside the scripts": ("sweeps/helper.py", "x = 1", "sweeps/helper.py:1: is no sweep script"),
    "a script named after a package": ("sweeps/optuna.py", SCRIPT, "sweeps/optuna.py:1: hides the package optuna"),
    "a script named after a module": ("sweeps/json.py", SCRIPT, "sweeps/json.py:1: hides the package json"),
}
