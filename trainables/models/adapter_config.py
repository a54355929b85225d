"""An adapter's `adapter_config.json`, in the one form that equal adapters have and that other tools read.

PEFT writes sets of module names in the order of their hashes, which differs between processes, and a whole number as
it was computed: `32.0`, which Ollama's and vLLM's readers refuse, as their field is a whole number.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
WHOLE = ("r", "lora_alpha")


def ordered(config: bytes | str) -> bytes:
    """Return a configuration with sorted keys, sorted lists of names, and whole numbers written whole."""
    return _written({name: _plain(name, value) for name, value in json.loads(config).items()})


def order_configs(folder: Path) -> None:
    """Write every adapter's configuration in a folder, and in folders below it, as `ordered`."""
    for path in folder.rglob(CONFIG_FILE):
        path.write_bytes(ordered(path.read_bytes()))


def make_portable(path: Path, base: str) -> None:
    """Name the base in an adapter's configuration, and make its alpha whole.

    LoRA scales its update by alpha / r. Where alpha is no whole number, matrices B take the difference.
    """
    config = json.loads(ordered(path.read_bytes()))
    alpha = config.get("lora_alpha")
    if isinstance(alpha, float):
        config["lora_alpha"] = max(1, round(alpha))
        _scale(path.with_name(WEIGHTS_FILE), alpha / config["lora_alpha"])
    path.write_bytes(_written(config | {"base_model_name_or_path": base}))


def _scale(weights: Path, factor: float) -> None:
    from safetensors.torch import load, save

    values = load(weights.read_bytes())
    scaled = {name: value * factor if ".lora_B." in name else value for name, value in values.items()}
    weights.write_bytes(save(scaled, metadata={"format": "pt"}))


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return sorted(value)
    return int(value) if name in WHOLE and isinstance(value, float) and value.is_integer() else value


def _written(config: dict[str, Any]) -> bytes:
    return json.dumps(config, indent=2, sort_keys=True).encode()
