"""Randomly initialised miniatures of the seed systems' model families, and a word-level tokenizer, made on the spot."""

from __future__ import annotations

import tempfile

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)
from transformers.pytorch_utils import Conv1D

from trainables.models.loading import Base, load

COMMON = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
DECODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
CONFIGS = {
    "qwen2": Qwen2Config(**COMMON, **DECODER, num_key_value_heads=2),
    "llama": LlamaConfig(**COMMON, **DECODER, num_key_value_heads=2),
    "lfm2": Lfm2Config(
        **COMMON,
        **DECODER,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention"],
        block_auto_adjust_ff_dim=False,
        block_ff_dim=48,
    ),
    "gpt2": GPT2Config(**COMMON, n_embd=32, n_layer=2, n_head=4, n_positions=128),
    "phi3": Phi3Config(**COMMON, **DECODER, num_key_value_heads=2),
    "phi": PhiConfig(**COMMON, **DECODER),
}
# By itself, too, it says NaN behind padding in float64, so that it cannot be among those that are compared in that.
BLOOM = {"bloom": BloomConfig(**COMMON, hidden_size=32, n_layer=2, n_head=4)}
WORDS = ["<pad>", "<end>", "Question", ":", "Answer", *"abcdefghijklmnopqrstuvwxyz", *map(str, range(10)), "?", "<unk>"]


def tokenizer() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(True)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<pad>", unk_token="<unk>")


def model(family: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.nn.Module:
    """Larger than default initialisation, so that greedy tokens differ between prompts."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = AutoModelForCausalLM.from_config((CONFIGS | BLOOM)[family], dtype=dtype)
        for parameter in made.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.15)
    return made.requires_grad_(False).eval()


def base(family: str = "qwen2", dtype: torch.dtype = torch.float32, seed: int = 0) -> Base:
    return Base(f"mini-{family}", model(family, dtype, seed), tokenizer())


def linear_modules(ours: Base) -> tuple[str, ...]:
    """The last names of all matrix products but the head: of attention, convolution and MLP."""
    products = {name for name, module in ours.model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)}
    return tuple(sorted({name.split(".")[-1] for name in products} - {"lm_head"}))


def four_bit_base(family: str = "qwen2") -> Base:
    """Return the base in 4 bits, quantized from a saved one; `load` does not cache it."""
    with tempfile.TemporaryDirectory() as folder:
        model(family).save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        return load.__wrapped__(f"{folder}:nf4", torch.device("cpu"))
