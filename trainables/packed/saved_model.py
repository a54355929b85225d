"""Open a trained model that a learner saved, and its untouched base, in hosts that answer."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from trainables.models.loading import Base
from trainables.models.peft_adapters import (
    adapter_folders,
    check_can_be_removed,
    fits_a_host,
    load_adapter,
    remove_peft,
    saved_adapter,
)
from trainables.models.side_by_side import WHOLE_MODEL, whole_model
from trainables.packed.host import Host
from trainables.packed.specs import Shape

NO_SEAT = Shape(max_rank=0, max_prompt=0)
TRAINED = "trained"


class HostedModel(NamedTuple):
    """A model in a host: an adapter's trial id, or None for the host's own model."""

    host: Host
    trial_id: str | None

    @property
    def num_virtual_tokens(self) -> int:
        return self.host.trials[self.trial_id].made.num_virtual_tokens if self.trial_id else 0


def open_trained(base: Base, folder: Path) -> HostedModel:
    """Return the model that a learner saved in `folder`: a base's adapter (a hybrid's two), or a whole model.

    LoRA and soft prompts get a seat. An adapter that only PEFT computes (IA3, DoRA) is put into the base itself; a
    whole model gets a host of its own. Call the host's `shut` before `open_untouched`. Raise ValueError, in one line,
    for a folder with neither, with the adapter of another base, or with one that could not be taken out again.
    """
    if (folder / WHOLE_MODEL).is_file():
        return HostedModel(Host(Base(base.name, whole_model(folder, base.device), base.tokenizer), NO_SEAT), None)
    if fits_a_host(folder):
        saved = saved_adapter(base, folder)
        host = Host(base, Shape(max_rank=saved.r, max_prompt=saved.num_virtual_tokens))
        host.open_saved(TRAINED, saved)
        return HostedModel(host, TRAINED)
    check_can_be_removed(folder)
    for part in adapter_folders(folder):
        load_adapter(base.model, part)
    base.model.eval()
    return HostedModel(Host(base, NO_SEAT), None)


def open_untouched(base: Base) -> HostedModel:
    """Return the base without any adapter, also if `open_trained` has put one into it."""
    remove_peft(base.model)
    return HostedModel(Host(base, NO_SEAT), None)
