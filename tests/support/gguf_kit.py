"""GGUF files of tiny models, written as llama.cpp's converter writes them, with the models that they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config
from transformers.convert_slow_tokenizer import bytes_to_unicode

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ALPHABET = sorted(bytes_to_unicode().values())
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("Ġ", "a"), ("e", "r")]
TOKENS = [*SPECIAL, *ALPHABET, *("".join(pair) for pair in MERGES)]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHAPE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 96, "vocab_size": len(TOKENS), "bos_token_id": 1, "eos_token_id": 2,
         "max_position_embeddings": 512, "rms_norm_eps": 1e-5}  # fmt: skip
KINDS = {"llama": (LlamaConfig, "smollm"), "qwen2": (Qwen2Config, "qwen2")}  # architecture -> config, pre-tokenizer


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with six merges and a chat template."""
    inner = Tokenizer(models.BPE({token: i for i, token in enumerate(TOKENS)}, MERGES))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=SPECIAL[1], eos_token=SPECIAL[2],
                                   unk_token=SPECIAL[0], pad_token=SPECIAL[2])  # fmt: skip
    made.chat_template = TEMPLATE
    return made


def model(family: str, tied: bool = True, theta: float = 10_000.0, **rope: Any) -> Any:
    """A model with weights large enough that its greedy tokens differ between prompts, and biases that are not 0."""
    config = KINDS[family][0](
        **SHAPE, tie_word_embeddings=tied, rope_parameters={"rope_type": "default", "rope_theta": theta} | rope
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for name, parameter in made.named_parameters():
            torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.15)
    return made.requires_grad_(False).eval()


def llama3(factor: float = 8.0) -> tuple[Any, np.ndarray]:
    """A Llama model whose positions are scaled as those of Llama 3.1, and the factors that its file has for that."""
    made = model("llama", theta=500_000.0, rope_type="llama3", factor=factor, low_freq_factor=1.0,
                 high_freq_factor=4.0, original_max_position_embeddings=8192)  # fmt: skip
    plain = 1 / 500_000.0 ** (torch.arange(8) / 8)
    return made, (plain / made.model.rotary_emb.inv_freq).numpy().astype(np.float32)


def write(path: Path, of: Any, quantization: str = "F32", architecture: str = "", **extra: np.ndarray) -> Path:
    """Write a model with the tokenizer of this file. Matrices have the quantization, vectors are F32.

    `architecture`: what the header claims, by default the model's. `extra`: further tensors.
    """
    config = of.config
    family = config.model_type
    writer = gguf.GGUFWriter(path, architecture or family)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if family == "llama":
        writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    _write_tokenizer(writer, KINDS[family][1])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[family.upper()], config.num_hidden_layers)
    for name, weight in of.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = weight.numpy()
        if family == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            values = permuted(values, heads)
        kind = gguf.GGMLQuantizationType[quantization if values.ndim > 1 else "F32"]
        called = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(called, gguf.quantize(values, kind), raw_dtype=kind)
    for name, values in extra.items():
        writer.add_tensor(name.replace("__", "."), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder the rows of queries and keys as llama.cpp's converter does for Llama: rotated pairs are adjacent."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def _write_tokenizer(writer: gguf.GGUFWriter, pre: str) -> None:
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([control if token in SPECIAL else normal for token in TOKENS])
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
