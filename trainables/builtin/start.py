"""The untrained built-in base, started with two structures that attention otherwise finds late.

Half an hour on two cores is short for a model to discover how to look things up. In the spirit of mimetic
initialisation (Trockman and Kolter 2023), every head's value and output projections begin as a copy of what is
attended to, and three heads of the first layer look one, two and three tokens back (their biases, turned by the
rotary embedding, peak there). Measured on causal questions alone (batch 32): loss 1.17 after 100 steps, against 1.85
from the same random start without.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

HIDDEN, LAYERS, HEADS = 128, 4, 4
ROTARY_BASE = 100.0  # texts are short: all frequencies tell near positions apart
LOOKING_BACK = (1, 2, 3)  # tokens, a head each
SHARPNESS, FREQUENCIES = 3.5, 6  # size of the biases, and how many of the fastest frequencies carry them


def untrained(vocabulary: PreTrainedTokenizerBase, hidden: int = HIDDEN, layers: int = LAYERS) -> Any:
    """A Qwen2 model with tied embeddings, as in the small models of its family."""
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
    """Copying heads in all layers and heads that look back in the first, in place."""
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
        turned = frequencies * back  # the key is ahead of the query by as much as it lies behind it
        first.k_proj.bias[part] = torch.cat([strength * turned.cos(), strength * turned.sin()])
