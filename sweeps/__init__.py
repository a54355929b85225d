"""The program that a person runs: a script per sweep, the engine behind them, and the analysis of results."""

import trainables  # noqa: F401  # first of all: it puts a person's own modules last

# isort: split
from importlib.util import find_spec
from sys import executable, stderr

_needed = ("ray", "optuna", "mlflow", "torch", "transformers", "peft", "tyro")
_missing = [name for name in _needed if not find_spec(name)]
if _missing:
    stderr.write(
        f"espalier needs {', '.join(_missing)}, which {executable} lacks: run `make setup` once, then"
        " `source .venv/bin/activate`; or `pip install -e . -c constraints.txt`\n"
    )
    raise SystemExit(2)  # bad input, as in sweeps/spec/error_policy.py, whose imports may be missing
