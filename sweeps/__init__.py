"""The program that a person runs: a script per sweep, the engine behind them, and the analysis of results."""

from importlib.util import find_spec
from sys import executable

_needed = ("ray", "optuna", "mlflow", "torch", "transformers", "peft", "tyro")
_missing = [name for name in _needed if not find_spec(name)]
if _missing:
    raise SystemExit(
        f"espalier needs {', '.join(_missing)}, which {executable} lacks: run `make .venv/.ready` once, then"
        " `source .venv/bin/activate`; or `pip install -e . -c constraints.txt`"
    )
