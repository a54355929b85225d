"""Look at a base before anything starts: its files, configuration, weights and tokenizer. Of large weights a sample is
read.

What would fail in a trial's process, minutes later and in somebody else's words, is refused here in one line with its
own remedy. Each check is a function that raises `BaseFault`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.models.base_fault import BaseFault, first_line, read_object, silence
from trainables.models.weights_check import check_fit, check_numbers, check_weights

CONFIG, ADAPTER = "config.json", "adapter_config.json"
INSTEAD = (  # what lies in a folder without config.json -> what it is, and the remedy; the first that matches counts
    ("*.gguf", "holds a GGUF file; name it: {}"),
    ("checkpoint-*/" + CONFIG, "holds checkpoints of a Trainer; give one of them: {0.parent}"),
    ("checkpoint-*/" + ADAPTER, "holds checkpoints of an adapter; merge one of them into its base: {0.parent}"),
    ("snapshots/*/" + CONFIG, "is the hub's cache; give the snapshot in it: {0.parent}"),
    ("model_index.json", "is a diffusion pipeline ({0.name}); causal language models only"),
    (
        "params.json",
        "has its publisher's own format ({0.name}); give the one for transformers, on the hub mostly `-hf`",
    ),
    ("consolidated*", "has its publisher's own format ({0.name}); give the one for transformers"),
    ("*/" + CONFIG, f"has no {CONFIG}; give the folder in it that has one: {{0.parent}}"),
    ("*.safetensors", f"has no {CONFIG} beside its weights; copy it from the original model"),
)
UNKNOWN = (
    "is neither a local folder nor a model that the hub gave us; check the name and the network, or use"
    " --base builtin:tiny"
)
UNQUANTIZED = "or give the model without quantization (and `:nf4` for 4 bits)"


def check_files(source: str, remote_code: bool, most: float = 0) -> None:
    """Raise BaseFault unless a folder, or a repository on the hub, holds a causal language model that can be loaded.

    Of a repository, small files are downloaded; weights are looked at only if they are in the hub's cache. `most`: how
    many bytes of weights are read, to see whether they are finite.
    """
    folder, names, whole = _opened(source)
    facts = read_object(folder / CONFIG)
    check_config(facts, remote_code)
    _check_loadable(str(folder) if whole else source, remote_code)
    weights = check_weights(folder, names, whole)
    if most:
        check_numbers(weights, most)
    if whole and not _quantization(facts):
        check_fit(str(folder), remote_code)


def _opened(source: str) -> tuple[Path, list[str], bool]:
    """Return where a base's files lie, the names of all its files, and whether all are there."""
    path = Path(source)
    if path.is_dir():
        _check_folder(path)
        return path, sorted(one.name for one in path.iterdir()), True
    if path.exists():
        raise BaseFault("is a file; give the folder of a model, or a file whose name ends in .gguf")
    if path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1:
        raise BaseFault("there is no such folder; check the path")
    return _from_hub(source)


def _check_folder(folder: Path) -> None:
    if (folder / ADAPTER).is_file():
        if (folder / CONFIG).is_file():
            raise BaseFault(f"holds an adapter beside a model; move its {ADAPTER} away")
        named = read_object(folder / ADAPTER).get("base_model_name_or_path")
        raise BaseFault(
            f"is an adapter of {named!r}; give that base, or merge the adapter into it first (`espalier export"
            " --merge`, or PEFT's `merge_and_unload`)"
        )
    if (folder / CONFIG).is_file():
        return
    for pattern, what in INSTEAD:
        if found := sorted(folder.glob(pattern)):
            raise BaseFault(f"the folder {what.format(found[-1])}")
    empty = f"is empty, it has no {CONFIG}" if not any(folder.iterdir()) else f"has no {CONFIG}"
    raise BaseFault(f"the folder {empty}; give one that transformers can load")


def _from_hub(source: str) -> tuple[Path, list[str], bool]:
    from huggingface_hub import HfApi, constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    try:
        folder = Path(hf_hub_download(source, CONFIG)).parent
        if constants.HF_HUB_OFFLINE:
            return folder, sorted(one.name for one in folder.iterdir()), True
        return folder, sorted(HfApi().list_repo_files(source)), False
    except GatedRepoError as error:
        raise BaseFault(
            f"its publisher asks for your consent; give it on https://huggingface.co/{source}, then `hf auth login`"
        ) from error
    except EntryNotFoundError as error:
        if not isinstance(error, LocalEntryNotFoundError):
            raise BaseFault(
                f"the repository has no {CONFIG}; name a GGUF file with gguf=FILE, or another one"
            ) from error
        raise BaseFault(UNKNOWN) from error
    except (OSError, ValueError) as error:  # also everything else that the hub's client raises
        raise BaseFault(UNKNOWN) from error


def check_config(facts: Mapping[str, Any], remote_code: bool) -> None:
    """Raise BaseFault for a configuration of another kind of model, or one that needs what is not there."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as causal

    kind, own = facts.get("model_type"), facts.get("auto_map") or {}
    if not isinstance(kind, str) or not kind:
        raise BaseFault(f"its {CONFIG} has no model_type; copy {CONFIG} from the original model")
    if facts.get("is_encoder_decoder"):
        raise BaseFault(f"{kind!r} is an encoder-decoder; causal language models only")
    if kind not in CONFIG_MAPPING and not remote_code:
        if "AutoConfig" in own:
            raise BaseFault(f"{kind!r} is code in the model's own folder; read it, and add :remote-code to run it")
        raise BaseFault(f"transformers does not know {kind!r}; upgrade it if the model is new, or give another model")
    if kind in CONFIG_MAPPING and kind not in causal and not (remote_code and "AutoModelForCausalLM" in own):
        family = CONFIG_MAPPING[kind]
        if getattr(family, "is_encoder_decoder", False) or _says_encoder_decoder(family):
            raise BaseFault(f"{kind!r} is an encoder-decoder; causal language models only")
        raise BaseFault(f"{kind!r} is no causal language model; give one, such as Qwen/Qwen2.5-0.5B-Instruct")
    check_quantization(_quantization(facts))


def _says_encoder_decoder(family: Any) -> bool:
    try:
        return bool(family().is_encoder_decoder)
    except Exception:  # some configurations have no defaults
        return False


def _quantization(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = facts.get("text_config") or {}
    return facts.get("quantization_config") or inner.get("quantization_config") or facts.get("quantization") or {}


def check_quantization(settings: Mapping[str, Any]) -> None:
    """Raise BaseFault for weights that were quantized by a method whose package is missing, or which is unknown."""
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, AutoHfQuantizer

    if not settings:
        return
    method = settings.get("quant_method")
    if method is None and settings.get("load_in_4bit", settings.get("load_in_8bit")) is None:
        raise BaseFault(
            f"its weights are quantized for another library (MLX?); give the model without it, {UNQUANTIZED}"
        )
    known = [name for name in AUTO_QUANTIZER_MAPPING if name.startswith(str(method or "bitsandbytes"))]
    if not known:
        raise BaseFault(f"its weights are quantized by {method!r}, which transformers does not know; {UNQUANTIZED[3:]}")
    try:
        with silence():
            quantizer = AutoHfQuantizer.from_config(dict(settings), pre_quantized=True)
            quantizer.validate_environment(device_map={"": "cpu"})
    except Exception as error:  # of a package that is missing, of settings, or of this machine's devices
        if "GPU" in str(error) or "CUDA" in str(error):
            return  # trials may run on machines that have one
        raise BaseFault(
            f"its weights are quantized ({method}): {first_line(error).rstrip('.')}; install that, {UNQUANTIZED}"
        ) from error


def _check_loadable(source: str, remote_code: bool) -> None:
    """Raise BaseFault if transformers cannot read the configuration, with the reason."""
    from transformers import AutoConfig

    try:
        with silence():
            AutoConfig.from_pretrained(source, trust_remote_code=remote_code)
    except Exception as error:  # also what a repository's own code raises
        what = "its own code cannot be run" if remote_code else f"its {CONFIG} cannot be read"
        remedy = "bring what is missing" if remote_code else f"copy {CONFIG} from the original model"
        raise BaseFault(f"{what} ({type(error).__name__}: {first_line(error)}); {remedy}") from error
