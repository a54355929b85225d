"""The untrained built-in base, initialised with two structures that attention otherwise learns late.

In half an hour on two cores a model hardly learns to look up earlier tokens. Similar to mimetic initialisation
(Trockman and Kolter 2023), every head's value and output projections begin as a copy of the attended token, and three
heads of the first layer attend one, two and three tokens back (their biases, rotated by the rotary embedding, peak
there). Measured on causal questions alone (batch 32): loss 1.17 after 100 steps, against 1.85
from the same random start without.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

HIDDEN, LAYERS, HEADS = 128, 4, 4
ROTARY_BASE = 100.0  # texts are short: all frequencies distinguish near positions
LOOKING_BACK = (1, 2, 3)  # tokens, one head for each
SHARPNESS, FREQUENCIES = 3.5, 6  # size of the biases, and how many of the fastest frequencies carry them


def untrained(vocabulary: PreTrainedTokenizerBase, hidden: int = HIDDEN, layers: int = LAYERS) -> Any:
    """Return a Qwen2 model with tied embeddings, as in the small models of its family."""
    config = Qwen2Config(
        vocab_size=len(vocabulary), hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, intermediate_size=4 * hidden, max_position_embeddings=512,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=vocabulary.eos_token_id,
        pad_token_id=vocabulary.pad_token_id, initializer_range=0.08,
        rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE},
    )  # fmt: skip
    base = Qwen2ForCausalLM(config)
    structure(base)
    return base


@torch.no_grad()
def structure(base: Any) -> None:
    """Initialise copying heads in all layers, and heads that look back in the first, in place."""
    for layer in base.model.layers:
        torch.nn.init.orthogonal_(layer.self_attn.v_proj.weight)
        layer.self_attn.o_proj.weight.copy_(0.5 * layer.self_attn.v_proj.weight.T)
    width = base.config.hidden_size // HEADS
    frequencies = ROTARY_BASE ** (-torch.arange(0, width, 2) / width)
    strength = torch.where(torch.arange(width // 2) < FREQUENCIES, SHARPNESS, 0.0)
    first = base.model.layers[0].self_attn
    for head, back in enumerate(LOOKING_BACK):
        part = slice(head * width, (head + 1) * width)
        first.q_proj.bias[part] = torch.cat([strength, torch.zeros_like(strength)])
        turned = frequencies * back  # rotates the key forward by its distance behind the query
        first.k_proj.bias[part] = torch.cat([strength * turned.cos(), strength * turned.sin()])
