"""Keep a person's own modules from hiding Python's and those of the packages that are installed.

Python looks for a module in the script's folder first, and Ray lets its workers look in the folder one stands in, too.
A `statistics.py` or a `peft.py` there would be imported in place of the real one. This file imports only what is
loaded when Python starts.
"""

import os
import sys


def own_modules_last() -> None:
    """Move folders that precede Python's own on `sys.path` to its end, but not this checkout, nor PYTHONPATH's."""
    library = os.path.dirname(os.__file__)
    first = sys.path[: sys.path.index(library)] if library in sys.path else []
    kept = {os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}
    kept |= {os.path.abspath(one) for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one}
    own = [one for one in first if os.path.abspath(one) not in kept and not one.endswith(".zip")]
    sys.path[:] = [one for one in sys.path if one not in own] + own
