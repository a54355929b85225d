"""A person's own modules come last, but this checkout and what PYTHONPATH names stay where they are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from trainables.import_path import own_modules_last

ROOT = str(Path(__file__).parents[2])
LIBRARY = os.path.dirname(os.__file__)


def test_the_script_s_folder_comes_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "/asked/for")
    monkeypatch.setattr(sys, "path", ["/script", ROOT, "", "/asked/for", "/x/python311.zip", LIBRARY, "/site-packages"])
    own_modules_last()
    assert sys.path == [ROOT, "/asked/for", "/x/python311.zip", LIBRARY, "/site-packages", "/script", ""]
    own_modules_last()
    assert sys.path[-2:] == ["/script", ""], "they are moved once"
