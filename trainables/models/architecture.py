"""Find out from a model on the meta device what its architecture can do: no weights are read, and nothing is computed.

A forward pass without numbers still checks every shape. Its attention mask has four dimensions, because transformers
looks at the numbers of others.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch

from trainables.models.base_fault import BaseFault, first_line

UNMASKED = ("rwkv", "xlstm", "xlnet", "reformer", "minimax")  # padded prompts get other answers from them
SHAPE_ERRORS = ("size of tensor", "broadcast", "shapes cannot be multiplied", "is invalid for input of size")


def check_architecture(model: Any) -> None:
    """Raise BaseFault for an encoder, an architecture that reads padding, or sizes that contradict each other."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as encoders

    kind = model.config.model_type
    if kind in encoders and not getattr(model.config, "is_decoder", True):
        raise BaseFault(f"{kind!r} is an encoder, which sees the words to come; causal language models only")
    if kind in UNMASKED:
        raise BaseFault(f"{kind!r} cannot leave out padding, so no batch of texts could be trained; give another model")
    fault = _forward(model)[1]
    if fault and any(words in fault for words in SHAPE_ERRORS):
        raise BaseFault(
            f"sizes in its config.json contradict each other ({fault}); use the config.json that came with the weights"
        )


def keeps_keys_and_values(model: Any) -> bool:
    """Return whether a forward pass takes and gives keys and values, which a shared host decodes with."""
    output, _ = _forward(model)
    taken = "past_key_values" in inspect.signature(model.forward).parameters
    return taken and (output is None or getattr(output, "past_key_values", None) is not None)


@functools.lru_cache(maxsize=4)
@torch.no_grad()
def _forward(model: Any) -> tuple[Any, str]:
    """Run a forward pass without numbers; return the output, or None and the error."""
    takes = inspect.signature(model.forward).parameters
    if not {"position_ids", "past_key_values"} <= set(takes):
        return None, ""  # older architectures make masks of two dimensions themselves
    rows, tokens = 2, 6
    with torch.device("meta"):
        ids = torch.zeros(rows, tokens, dtype=torch.long)
        mask = torch.zeros(rows, 1, tokens, tokens, dtype=model.dtype)
    try:
        return model(input_ids=ids, attention_mask=mask, position_ids=ids, use_cache=True), ""
    except Exception as error:  # NotImplementedError where an architecture looks at numbers
        return None, first_line(error)
