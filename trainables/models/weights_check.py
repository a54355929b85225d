"""Look at a base's weights: the headers of its safetensors files, whether they fit its model, and a sample of numbers.

A header is a length (8 bytes), then JSON: name -> dtype, shape, place. https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainables.models.base_fault import BaseFault, check_content, first_line, read_object, silence

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
CONVERT = (
    "only safetensors is read, as pickles can run code: convert it where you trust it, with"
    " `AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW)`"
)
OTHERS = (  # names of weights that are not read -> what they are, and the remedy; the first that matches counts
    (("pytorch_model*.bin", "*.pt", "*.pth", "*.bin"), f"weights are pickles ({{}}); {CONVERT}"),
    (("*.gguf",), "weights are a GGUF file; name it: FOLDER/{}"),
    (("*.h5", "*.msgpack", "*.onnx", "*.tflite"), "weights are in a format of another library ({}); give safetensors"),
    (
        ("model-*-of-*.safetensors",),
        f"weights are in parts ({{}} ...), and {INDEX}, which lists the parts, is missing; copy it from the original",
    ),
    (("adapter_model.safetensors",), "weights are those of an adapter ({}) alone; give the adapter's base"),
    (("*.safetensors",), f"weights are called {{}}, and {SINGLE} is read; rename the file, or save the model again"),
)
PICKLE, ZIP = b"\x80", b"PK"
SAMPLE = (
    2**28
)  # bytes of weights that are read before anything starts: all of a small base, a part of each tensor of others


def check_weights(folder: Path, names: Sequence[str], whole: bool = True) -> list[Path]:
    """Return the files of weights that are here. Raise BaseFault for weights that are missing, damaged, or of a format
    that is not read.

    `names`: the files that the folder has, or that a repository on the hub has, which may not be here `whole`.
    """
    if SINGLE in names:
        shards = [SINGLE]
    elif INDEX in names:
        shards = _listed(folder / INDEX) if whole or (folder / INDEX).is_file() else []
    else:
        raise BaseFault(_instead(names))
    if lacking := [shard for shard in shards if shard not in names]:
        raise BaseFault(
            f"{len(lacking)} of its {len(shards)} files of weights are missing ({lacking[0]}); copy or download them"
        )
    here = [folder / shard for shard in shards if whole or (folder / shard).is_file()]
    for path in here:
        check_header(path)
    return here


def _listed(index: Path) -> list[str]:
    where = read_object(index).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise BaseFault(f"{index.name} lists no weights (weight_map); copy it from the original model")
    if strange := [file for file in where.values() if not isinstance(file, str) or Path(file).name != file]:
        raise BaseFault(f"{index.name} names {strange[0]!r}, which is no file in its folder; copy it from the original")
    return sorted(set(where.values()))


def _instead(names: Sequence[str]) -> str:
    for patterns, what in OTHERS:
        if found := sorted(name for name in names if any(Path(name).match(pattern) for pattern in patterns)):
            return f"its {what.format(found[0])}"
    return f"it has no weights ({SINGLE}); copy or download them, or save the model with `save_pretrained`"


def check_header(path: Path) -> None:
    """Raise BaseFault for a safetensors file whose header is damaged, or which is not as long as its header says."""
    check_content(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        start, opened = file.read(8), file.read(1)
        if start.startswith((PICKLE, ZIP)) and opened != b"{":
            raise BaseFault(f"{path.name} is no safetensors file but a pickle; {CONVERT}")
        length = int.from_bytes(start, "little")
        if size < 8 or length > size - 8:
            raise BaseFault(
                f"{path.name} is cut off or damaged: it has {size:,} bytes, and its header alone needs"
                f" {8 + length:,}; copy or download it again"
            )
        try:
            header = json.loads(opened + file.read(length - 1))
            end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
            raise BaseFault(f"{path.name} has no header of safetensors; copy or download it again") from error
    if not end:
        raise BaseFault(f"{path.name} holds no weights; copy or download it again")
    if size != 8 + length + end:
        state = "cut off" if size < 8 + length + end else "damaged"
        raise BaseFault(f"{path.name} is {state}: {size:,} of {8 + length + end:,} bytes; copy or download it again")


def check_numbers(paths: Sequence[Path], most: float = SAMPLE) -> None:
    """Raise BaseFault, with the file and the tensor, for weights that are NaN or infinite.

    If they have more than `most` bytes, the beginning, the middle and the end of each tensor are read.
    """
    from safetensors import safe_open

    whole, tensors = sum(path.stat().st_size for path in paths) <= most, 0
    for path in paths:
        with safe_open(path, framework="pt") as file:
            tensors += len(file.keys())
    for path in paths:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # it is no dictionary
                parts = [file.get_tensor(name)] if whole else _sample(file.get_slice(name), most / tensors)
                if not all(map(is_finite, parts)):
                    raise BaseFault(
                        f"{path.name}: the tensor {name} holds numbers that are NaN or infinite; copy or download it"
                        " again, or give an earlier checkpoint of the training that wrote it"
                    )


def _sample(tensor: Any, most: float) -> list[Any]:
    """Read so many bytes of a tensor, or a little more: of its first dimension the beginning, the middle, the end."""
    length, *inner = tensor.get_shape() or [0]
    if not length:
        return [tensor[...]]
    rows = max(1, int(most / (3 * 4 * math.prod(inner))))  # four bytes each, at the most but for float64
    if 3 * rows >= length:
        return [tensor[:]]
    middle = (length - rows) // 2
    return [tensor[:rows], tensor[middle : middle + rows], tensor[length - rows :]]


def is_finite(values: Any) -> bool:
    """Return whether all numbers of a tensor are; those of an integer tensor always are."""
    import torch

    if not values.is_floating_point() or not values.numel():
        return True
    ends = torch.aminmax(values.float() if values.element_size() == 1 else values)  # NaN is passed on
    return bool(torch.isfinite(torch.stack([*ends])).all())


def check_fit(folder: str, remote_code: bool) -> None:
    """Raise BaseFault if the weights are not those that the configuration asks for. Reads headers only."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with silence():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=torch.bfloat16,
                device_map={"": "meta"},
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=remote_code,
            )
    except Exception as error:  # also what a repository's own code raises
        raise BaseFault(f"its model cannot be made from config.json ({first_line(error)}); mend config.json") from error
    model, info = loaded
    parameters = dict(model.named_parameters())
    for name, stored, wanted in sorted(tuple(one) for one in info["mismatched_keys"]):
        raise BaseFault(
            f"its weights do not fit its config.json: {name} is {tuple(stored)}, not {tuple(wanted)}; use the"
            " config.json that came with the weights"
        )
    missing = [name for name in sorted(info["missing_keys"]) if name in parameters]
    if missing:
        instead = f", and has {min(info['unexpected_keys'])} instead" if info["unexpected_keys"] else ""
        raise BaseFault(
            f"its weights lack {len(missing)} of {len(parameters)} tensors of {type(model).__name__} ({missing[0]}"
            f"{instead}); give the whole model, with the config.json that came with it"
        )
