"""Initialise adapters with PEFT, and save them in PEFT's format."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from trainables.core import Adapter
from trainables.models.adapter_config import CONFIG_FILE, ordered
from trainables.models.base_fault import first_line
from trainables.models.loading import EVERY_LINEAR, Base

LORA_FOLDER, PROMPT_FOLDER = "lora", "soft_prompt"
KINDS = ("LORA", "IA3", "PROMPT_TUNING")  # `peft_type` of what learners save
# Settings of a LoRA whose effect a host does not compute.
ONLY_PEFT = (
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "monteclora_config",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
)


def adapter_folders(folder: Path) -> list[Path]:
    """Return the folders in PEFT's format of a saved adapter: itself, or a hybrid's LoRA and then its soft prompt.

    Raise ValueError if there is none, or one of a kind that no learner saves: the configurations of others can name
    files and repositories that PEFT then loads.
    """
    parts = [folder / LORA_FOLDER, folder / PROMPT_FOLDER] if (folder / LORA_FOLDER).is_dir() else [folder]
    if not all((part / CONFIG_FILE).is_file() for part in parts):
        raise ValueError(f"{folder} holds no PEFT adapter; give the folder of one, or a whole model as the base")
    for part in parts:
        kind = _configuration(part)["peft_type"]
        if kind not in KINDS:
            raise ValueError(f"{part / CONFIG_FILE}: peft_type {kind!r:.40} is not one of {', '.join(KINDS)}")
    return parts


def _configuration(part: Path) -> dict[str, Any]:
    """Read an adapter's configuration. Raise ValueError, in one line, for a damaged one."""
    try:
        found = json.loads((part / CONFIG_FILE).read_text(encoding="utf-8"))
        return {**found, "peft_type": found["peft_type"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{part / CONFIG_FILE} is no configuration of an adapter") from error


def fits_a_host(folder: Path) -> bool:
    """Whether a host can give a saved adapter a seat (`saved_adapter`); only PEFT computes IA3, DoRA and others.

    Raise ValueError as `adapter_folders`.
    """
    configs = [_configuration(part) for part in adapter_folders(folder)]
    plain = all(one.get("bias", "none") == "none" and not any(map(one.get, ONLY_PEFT)) for one in configs)
    return plain and all(one["peft_type"] != "IA3" for one in configs)


def check_can_be_removed(folder: Path) -> None:
    """Raise ValueError, in one line, for a saved adapter that overwrites biases of its base: they would stay in it."""
    for part in adapter_folders(folder):
        if (bias := _configuration(part).get("bias", "none")) != "none":
            raise ValueError(
                f"{part}: the adapter holds biases of its base (bias={bias!r:.40}), which stay in it; use a merged"
                " model (`espalier export --merge`)"
            )


def load_adapter(model: Any, folder: Path) -> Any:
    """Return the model with the adapter in `folder`, one of `adapter_folders`. Raise ValueError, in one line, if the
    adapter is damaged or is another base's."""
    try:
        return peft.PeftModel.from_pretrained(model, str(folder))
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, OSError, SafetensorError) as error:
        raise ValueError(
            f"the adapter in {folder} is damaged, or does not fit the base ({first_line(error)[:160]})"
        ) from error


@dataclass
class InitialAdapter:
    """An adapter as PEFT initialises it.

    `values`: `prompt` (num_virtual_tokens, hidden_size), and `<module>.A` (r, in) and `<module>.B` (out, r) of every
    adapted module; `modules`: name -> (in, out); the update is scaled by `scale`.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    modules: dict[str, tuple[int, int]] = field(default_factory=dict)
    scale: float = 0.0
    configs: dict[str, Any] = field(default_factory=dict)  # folder -> PEFT's configuration

    @property
    def num_virtual_tokens(self) -> int:
        return len(self.values.get("prompt", ()))

    @property
    def r(self) -> int:
        """The rank of its LoRA matrices; 0 without any."""
        return max((len(value) for name, value in self.values.items() if name.endswith(".A")), default=0)

    def files(self, values: Mapping[str, Tensor]) -> dict[str, bytes]:
        """Return files in PEFT's format, path -> content: one adapter, or a hybrid's two in `lora/` and `soft_prompt/`.

        Load one with `PeftModel.from_pretrained(model, folder)`; a hybrid's LoRA first, merged
        (`.merge_and_unload()`), then its soft prompt.
        """
        made = {}
        for part in self.configs:
            prefix = f"{part}/" if len(self.configs) > 1 else ""
            own = {name: value for name, value in values.items() if (name == "prompt") == (part == PROMPT_FOLDER)}
            named = {_peft_name(name): value.contiguous() for name, value in own.items()}
            made[f"{prefix}adapter_model.safetensors"] = save(named, metadata={"format": "pt"})
            made[f"{prefix}{CONFIG_FILE}"] = self._written[part]
        return made

    @cached_property
    def _written(self) -> dict[str, bytes]:
        """Each configuration as PEFT writes it; cached, as an adapter is saved every round."""
        return {part: _written(config) for part, config in self.configs.items()}


def initial_adapter(base: Base, adapter: Adapter, seed: int) -> InitialAdapter:
    """Initialise an adapter with PEFT, and restore the base, also after an error.

    Raise ValueError for a module that cannot be adapted.
    """
    made = InitialAdapter()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if adapter.num_virtual_tokens:
                made.values["prompt"] = _prompt(base, adapter, made)
            if adapter.r:
                _lora(base, adapter, made)
    finally:
        remove_peft(base.model)
    for config in made.configs.values():
        config.inference_mode = True  # as PEFT saves an adapter
    return made


def saved_adapter(base: Base, folder: Path) -> InitialAdapter:
    """Load an adapter that a learner saved, for a seat in a host, with PEFT; restore the base, also after an error.

    Raise ValueError, in one line, if the adapter is damaged, is another base's, or does not fit a host.
    """
    if not fits_a_host(folder):
        raise ValueError(f"the adapter in {folder} is no plain LoRA or soft prompt, so that only PEFT computes it")
    made = InitialAdapter()
    try:
        for part in adapter_folders(folder):
            model = load_adapter(base.model, part)
            config = model.peft_config["default"]
            made.configs[PROMPT_FOLDER if config.is_prompt_learning else LORA_FOLDER] = config
            if config.is_prompt_learning:
                made.values["prompt"] = model.prompt_encoder["default"].embedding.weight.detach().clone()
            else:
                _take_lora(model, made)
    finally:
        remove_peft(base.model)
    return made


def _prompt(base: Base, adapter: Adapter, made: InitialAdapter) -> Tensor:
    made.configs[PROMPT_FOLDER] = config = _prompt_config(base, adapter)
    model: Any = peft.get_peft_model(base.model, config)
    if adapter.prompt_init == "vocab" and len(base.tokenizer) < base.vocabulary:
        # PEFT would also draw the rows that only pad the embedding and were never trained.
        drawn = torch.randint(len(base.tokenizer), (adapter.num_virtual_tokens,)).to(base.device)
        return base.model.get_input_embeddings()(drawn).detach().float()
    return model.prompt_encoder["default"].embedding.weight.detach().clone()


def _lora(base: Base, adapter: Adapter, made: InitialAdapter) -> None:
    made.configs[LORA_FOLDER] = config = lora_config(base, adapter)
    _take_lora(peft.get_peft_model(base.model, config), made)


def _take_lora(model: Any, made: InitialAdapter) -> None:
    """Copy the LoRA matrices of a PEFT model, and the scale of their updates."""
    for name, module in model.base_model.model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        if isinstance(module, ParamWrapper):
            raise ValueError(
                f"{module.parameter_name} of {name!r} is a stack of experts, whose adapters only PEFT computes; leave"
                " experts out of target_modules"
            )
        halves: tuple[Any, Any] = (module.lora_A, module.lora_B)
        if any("default" not in half or half["default"].weight.ndim != 2 for half in halves):
            kind = type(module.get_base_layer()).__name__
            raise ValueError(f"module {name!r} is no linear layer but {kind}; leave it out of target_modules")
        if "router" in type(module.get_base_layer()).__name__.lower():
            raise ValueError(f"module {name!r} is the router of experts; leave it out of target_modules")
        a, b = (half["default"].weight.detach().clone() for half in halves)
        made.values |= {f"{name}.A": a, f"{name}.B": b}
        made.modules[name] = (a.shape[1], b.shape[0])
        made.scale = module.scaling["default"]


def remove_peft(model: Any) -> None:
    """Remove PEFT's modules from a model, even if PEFT failed before it had put in all of them."""
    for name, module in [*model.named_modules()]:
        if isinstance(module, BaseTunerLayer):
            model.set_submodule(name, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):  # a trained copy of a whole module
            model.set_submodule(name, module.original_module)
    if hasattr(model, "peft_config"):
        del model.peft_config
    model.requires_grad_(False).eval()


def _written(config: peft.PeftConfig) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        return ordered((Path(folder) / CONFIG_FILE).read_bytes())


def _peft_name(name: str) -> str:
    if name == "prompt":
        return "prompt_embeddings"
    module, _, half = name.rpartition(".")
    return f"base_model.model.{module}.lora_{half}.weight"


def lora_config(base: Base, adapter: Adapter) -> peft.LoraConfig:
    """Return PEFT's LoRA configuration, with the architecture's default targets if none are named."""
    named = list(adapter.target_modules)
    return peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        r=adapter.r,
        lora_alpha=adapter.lora_alpha,  # type: ignore[arg-type]  # PEFT says int and takes any number
        lora_dropout=adapter.lora_dropout,
        target_modules=base.every_linear if EVERY_LINEAR in named else named or base.target_modules(),
        exclude_modules=rf"({'|'.join(map(re.escape, base.beside))})\..*" if base.beside else None,
        fan_in_fan_out=base.model.config.model_type == "gpt2",  # its Conv1D keeps weights transposed
    )


def _prompt_config(base: Base, adapter: Adapter) -> peft.PromptTuningConfig:
    init = {"random": peft.PromptTuningInit.RANDOM, "vocab": peft.PromptTuningInit.SAMPLE_VOCAB}
    return peft.PromptTuningConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        num_virtual_tokens=adapter.num_virtual_tokens,
        token_dim=base.hidden_size,
        num_attention_heads=getattr(base.model.config.get_text_config(), "num_attention_heads", None),  # by any name
        prompt_tuning_init=init[adapter.prompt_init],
    )
