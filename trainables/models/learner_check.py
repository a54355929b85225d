"""Find out whether a learner can be trained on a base, from the base's sizes: no weights are loaded."""

from __future__ import annotations

import warnings
from dataclasses import replace

from trainables.core import LearnerConfig
from trainables.models.architecture import keeps_keys_and_values
from trainables.models.base_fault import first_line
from trainables.models.loading import UnknownBase, base_sizes, without_weights
from trainables.models.peft_adapters import initial_adapter


def check_learner(name: str, learner: LearnerConfig) -> None:
    """Raise UnknownBase, in one line with a remedy, if a learner cannot be trained on a base."""
    base = without_weights(name)
    try:
        learner.check_base(base)
    except ValueError as error:
        raise UnknownBase(f"base {name!r}: {error}") from error
    adapter = learner.adapter()
    hosted = learner.packs or (learner.per_example and adapter is not None)
    if hosted and not keeps_keys_and_values(base.model):
        raise UnknownBase(
            f"base {name!r}: {base.model.config.model_type!r} keeps no keys and values, with which {learner.name!r}"
            " decodes in a shared host; use a learner with a model of its own: full or dora"
        )
    if not adapter or not adapter.r:
        return
    base_sizes(name, adapter.target_modules or None)  # refuses targets that the base does not have
    try:
        with warnings.catch_warnings(action="ignore"):  # PEFT's advice is for its users
            initial_adapter(base, replace(adapter, num_virtual_tokens=0), 0)  # a prompt needs tokens
    except ValueError as error:
        raise base.missing_targets(f"LoRA cannot be put onto it ({first_line(error)})") from error
