"""QLoRA (Dettmers et al. 2023, arXiv 2305.14314): LoRA on every linear layer of a base in 4 bits, with paged AdamW.

Trains the LoRA matrices; the base stays frozen, in NormalFloat (`--base NAME:nf4`). Any other base is refused, because
that is `lora`. On a 4-bit base, `lora` with all linear layers as target_modules trains the same parameters in a shared
host, but with the host's optimizer. Use `qlora` for the paged optimizer, or for one trial that fills the device. Where
nothing can be paged (a CPU, adapters of small layers), the updates are equal, and the metric `paged_parameters` is 0
(`training/optimizers.py`).
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
    optim: Literal["paged_adamw_32bit", "paged_adamw_8bit", "adamw_torch"] = (
        "paged_adamw_32bit"  # names as in transformers
    )

    def adapter(self) -> Adapter:
        return replace(super().adapter(), target_modules=tuple(self.target_modules) or ("all-linear",))

    def check_base(self, base: Any) -> None:
        """Raise ValueError for a base that is not in 4 bits."""
        if not base.quantization.get("load_in_4bit"):
            raise ValueError(f"learner 'qlora' needs a base in 4 bits; use --base {base.name}:nf4, or train lora on it")

    def build(self, base: Any, task: Task, seed: int) -> StandaloneLearner:  # type: ignore[override]
        """Raise ValueError for a base that is not in 4 bits."""
        from trainables.models.peft_adapters import lora_config
        from trainables.training.standalone import with_peft

        self.check_base(base)
        learner = SupervisedLearner(self, self.adapter(), self.optimizer(), base, task, seed)
        return with_peft(base, lora_config(base, self.adapter()), learner, seed, self.optim)
