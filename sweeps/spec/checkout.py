"""Where this checkout lies. Code that starts other processes, or imports classes by name, needs to know it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
