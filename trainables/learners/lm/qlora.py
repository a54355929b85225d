"""QLoRA (Dettmers et al. 2023, arXiv 2305.14314): LoRA on every linear layer of a base in 4 bits, with paged AdamW.

The base is loaded as NormalFloat, `--base NAME:nf4`; any other is refused, as LoRA on it is `lora`'s. On that base,
`lora` with target_modules of every linear layer trains the same in a shared host, but with an optimizer of the host's
own: what needs this learner is the paged optimizer, and one trial that fills the device. Where nothing can be paged (a
CPU, adapters of small layers), the update is the same and the metric `paged_parameters` says so (see `optimizers.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from trainables.core import Adapter, Task
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.supervised import AloneConfig, SupervisedLearner
from trainables.options import option

if TYPE_CHECKING:
    from trainables.training.standalone import StandaloneLearner


@dataclass(frozen=True)
class QloraConfig(LoraConfig, AloneConfig):
    name: ClassVar[str] = "qlora"
    packs: ClassVar[bool] = False

    target_modules: tuple[str, ...] = option(
        (), shapes_weights=True
    )  # module names; empty: every linear layer but the head, as in the paper
    optim: Literal["paged_adamw_32bit", "paged_adamw_8bit", "adamw_torch"] = "paged_adamw_32bit"  # as transformers'

    def adapter(self) -> Adapter:
        return replace(super().adapter(), target_modules=tuple(self.target_modules) or ("all-linear",))

    def build(self, base: Any, task: Task, seed: int) -> StandaloneLearner:  # type: ignore[override]
        """Raises ValueError for a base that is not in 4 bits."""
        from trainables.models.peft_adapters import lora_config
        from trainables.training.standalone import with_peft

        if not getattr(base.model, "is_loaded_in_4bit", False):
            raise ValueError(f"learner 'qlora' needs a base in 4 bits; use --base {base.name}:nf4, or train lora on it")
        learner = SupervisedLearner(self, self.adapter(), self.optimizer(), base, task, seed)
        return with_peft(base, lora_config(base, self.adapter()), learner, seed, self.optim)
