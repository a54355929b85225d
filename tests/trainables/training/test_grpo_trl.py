"""GRPO's loss against TRL's own trainer: it samples nothing, but masks, scores, accumulates and clips by itself.

Completions are given to it. They are scored by one adapter and trained on with another, so that ratios are on both
sides of both clips. Our log-probabilities come from plain forwards of one row at a time, without padding.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tests.support.miniatures import base
from trainables.training.grpo_loss import GrpoSettings, advantages, grpo_loss, loss_figures, reward_figures

PROMPTS = ["Question : a b c ?", "Question : q 1 ?", "Question : x y z w v u ?"]
REWARDS = torch.tensor([[0.0, 1.0, 0.5, 1.0], [0.25, 0.25, 0.25, 0.25], [0.1, 0.9, 0.0, 0.0]])
LENGTHS = [1, 9, 4, 2, 9, 3, 5, 8, 7, 2, 9, 6]  # with the end; those of 9 were cut off and have none
END, STEPS = 1, 2
SETTINGS = GrpoSettings(
    epsilon=0.1,
    epsilon_high=0.25,
    beta=0.3,
    num_generations=4,
    num_iterations=2,
    temperature=0.7,
    max_completion_length=9,
)
SAME = ("num_generations", "num_iterations", "temperature", "epsilon", "epsilon_high", "beta", "max_completion_length")


def completions() -> list[list[int]]:
    drawn = torch.randint(5, 41, (len(LENGTHS), 9), generator=torch.Generator().manual_seed(3)).tolist()
    return [row if n == 9 else [*row[: n - 1], END] for row, n in zip(drawn, LENGTHS, strict=True)]


class TrlTrainer:
    """TRL's trainer on a miniature with a LoRA adapter."""

    def __init__(self, folder: Path) -> None:
        from datasets import Dataset
        from peft import LoraConfig
        from trl import GRPOConfig, GRPOTrainer

        own, self.completions = base("qwen2"), completions()
        self.prompts = [own.tokenizer(prompt)["input_ids"] for prompt in PROMPTS for _ in range(4)]
        arguments = GRPOConfig(
            str(folder),
            per_device_train_batch_size=6,
            gradient_accumulation_steps=STEPS,
            use_cpu=True,
            report_to="none",
            bf16=False,
            activation_checkpointing=False,
            disable_tqdm=True,
            **{name: getattr(SETTINGS, name) for name in SAME},
        )
        with torch.random.fork_rng():
            self.trainer: Any = GRPOTrainer(
                own.model,
                self._score,
                args=arguments,
                train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
                processing_class=own.tokenizer,
                peft_config=LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
                rollout_func=self._roll_out,
            )
        self.trainer.current_gradient_accumulation_steps = STEPS  # as its `train` does
        self.model = self.trainer.model.train()
        self.parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.sampled = self._drawn(1, 0.3)
        self.trained = {name: value + self._drawn(2, 0.1)[name] for name, value in self.sampled.items()}

    def _drawn(self, seed: int, scale: float) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {n: torch.randn(p.shape, generator=generator) * scale for n, p in self.parameters.items()}

    def _roll_out(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        assert prompts == [prompt for prompt in PROMPTS for _ in range(4)]
        return {"prompt_ids": self.prompts, "completion_ids": self.completions, "logprobs": None}

    def _score(self, prompts: list[str], completion_ids: list[list[int]], **others: Any) -> list[float]:
        assert completion_ids == self.completions
        return REWARDS.flatten().tolist()

    def adapt(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.data.copy_(weights[name])

    def batches(self, settings: GrpoSettings, mask_truncated: bool) -> list[dict[str, Tensor]]:
        """Let the trainer score the completions, and return the micro-batches of its first step."""
        trainer, sequence = self.trainer, settings.loss_type == "gspo"
        trainer.loss_type = "grpo" if sequence else settings.loss_type
        trainer.importance_sampling_level = "sequence" if sequence else "token"
        trainer.beta, trainer.scale_rewards = settings.beta, settings.scale_rewards
        trainer.mask_truncated_completions = mask_truncated
        trainer._step, trainer._buffered_inputs = 0, None
        trainer._metrics["train"].clear()
        self.adapt(self.sampled)
        with torch.random.fork_rng():  # it shuffles
            torch.manual_seed(0)
            trainer._prepare_inputs([{"prompt": prompt} for prompt in PROMPTS for _ in range(4)])
        assert len(trainer._buffered_inputs) == STEPS
        return trainer._buffered_inputs

    def ours(self, batch: dict[str, Tensor], scale_rewards: str) -> tuple[Tensor, ...]:
        """Return our arguments for a micro-batch of the trainer's: log-probabilities, advantages and mask."""
        rows = [tuple(ids[ids != 0].tolist()) for ids in batch["completion_ids"]]
        places = [self.completions.index(list(row)) for row in rows]
        with torch.no_grad():
            self.adapt(self.sampled)
            old = self._logprobs(places)
            with self.model.disable_adapter():
                reference = self._logprobs(places)
        self.adapt(self.trained)
        masks = [mask[: len(row)] for mask, row in zip(batch["completion_mask"], rows, strict=True)]
        own = advantages(REWARDS, scale_rewards).flatten()[places]
        return self._logprobs(places), old, reference, own, pad_sequence(masks, True).float()

    def _logprobs(self, places: list[int]) -> Tensor:
        found = []
        for prompt, completion in ((self.prompts[i], self.completions[i]) for i in places):
            logits = self.model(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
            logprobs = (logits / SETTINGS.temperature).log_softmax(-1)
            found.append(logprobs.gather(1, torch.tensor(completion)[:, None])[:, 0])
        return pad_sequence(found, True)

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.parameters, torch.autograd.grad(loss, [*self.parameters.values()]), strict=True))


@pytest.fixture(scope="module")
def trl(tmp_path_factory: pytest.TempPathFactory) -> TrlTrainer:
    return TrlTrainer(tmp_path_factory.mktemp("trl"))


@pytest.mark.parametrize("mask_truncated", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo", "gspo"])
def test_loss_gradients_and_figures_are_trls(
    trl: TrlTrainer, loss_type: Any, beta: float, mask_truncated: bool
) -> None:
    """Two micro-batches of one step, off-policy; with sequences of unequal lengths, some of them cut off."""
    settings = replace(SETTINGS, loss_type=loss_type, beta=beta)
    batches = trl.batches(settings, mask_truncated)
    parts = [trl.ours(batch, "group") for batch in batches]
    tokens = float(sum(part[-1].sum() for part in parts))
    assert tokens == (sum(n for n in LENGTHS if n < 9) if mask_truncated else sum(LENGTHS))
    if loss_type == "dapo":
        losses = [grpo_loss(*part, settings, tokens) for part in parts]
    else:
        losses = [grpo_loss(*part, settings) / STEPS for part in parts]
    theirs = [trl.trainer._compute_loss(trl.model, batch) for batch in batches]
    torch.testing.assert_close(losses, theirs, rtol=1e-5, atol=1e-5)
    assert sum(losses).abs() > 0.01
    own, other = trl.gradients(sum(losses)), trl.gradients(sum(theirs))
    assert all(gradient.abs().max() > 1e-4 for gradient in own.values())  # every module is reached
    torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)
    logged = trl.trainer._metrics["train"]
    for step, part in enumerate(parts):
        figures = loss_figures(*part, settings)
        assert ("kl" in logged) == (beta > 0)
        for name in figures.keys() & logged.keys():
            assert figures[name] == pytest.approx(logged[name][step], rel=1e-4), name
    assert max(logged["clip_ratio/low_mean"]) > 0, "no ratio is below the lower clip"
    assert max(logged["clip_ratio/high_mean"]) > 0, "no ratio is above the upper clip"
    assert max(logged["clip_ratio/region_mean"]) < 1, "no ratio is inside both clips"


@pytest.mark.parametrize("scale_rewards", ["group", "batch", "none"])
def test_advantages_and_their_figures_are_trls(trl: TrlTrainer, scale_rewards: Any) -> None:
    trl.trainer._logs["advantages"].clear()
    trl.batches(replace(SETTINGS, scale_rewards=scale_rewards), mask_truncated=False)
    theirs, ours = torch.tensor([*trl.trainer._logs["advantages"]]), advantages(REWARDS, scale_rewards).flatten()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    figures, logged = reward_figures(REWARDS), trl.trainer._metrics["train"]
    for name in figures.keys() - ({"frac_reward_zero_std"} if scale_rewards == "batch" else set()):
        assert figures[name] == pytest.approx(logged[name][0]), name


def test_shares_of_a_step_add_up_as_accumulation_does(trl: TrlTrainer) -> None:
    """A host weights each micro-batch's own loss by its share of the step."""
    for loss_type in ("grpo", "dr_grpo", "dapo", "gspo"):
        settings = replace(SETTINGS, loss_type=loss_type)
        batches = trl.batches(settings, mask_truncated=True)
        parts = [trl.ours(batch, "group") for batch in batches]
        sizes = [float(part[-1].sum()) if loss_type == "dapo" else len(part[-1]) for part in parts]
        shared = sum(grpo_loss(*part, settings) * size / sum(sizes) for part, size in zip(parts, sizes, strict=True))
        theirs = sum(trl.trainer._compute_loss(trl.model, batch) for batch in batches)
        torch.testing.assert_close(shared, theirs, rtol=1e-5, atol=1e-5)
