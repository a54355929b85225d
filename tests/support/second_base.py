"""A second tiny base: the built-in one without its upper layers."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from trainables.models.loading import BUILTIN


def save_shallow_base(folder: Path, layers: int = 2) -> Path:
    """Write the first layers of `builtin:tiny`, with its tokenizer, into a folder, and return that."""
    model = AutoModelForCausalLM.from_pretrained(BUILTIN["tiny"])
    model.model.layers = model.model.layers[:layers]
    model.config.num_hidden_layers = layers
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:layers]
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(BUILTIN["tiny"]).save_pretrained(folder)
    return folder
