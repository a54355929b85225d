"""Preference losses against TRL's own trainer: the same miniature, the same batch, the loss and every gradient.

TRL computes log-probabilities its own way (a collator that pads, a fused output layer); ours come from plain forwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.miniatures import base
from trainables.core import Row
from trainables.learners.lm.preference_losses import cal_dpo, dpo, dr_dpo, mean, reward_metrics, sums_of_pairs
from trainables.models.tokenization import row_of

PAIRS = [("a b c ?", "d e", "f"), ("q 1 ?", "7", "z z 9"), ("x y z w v u ?", "4 2", "2 4"), ("h ?", "k", "m n")]
ALL = [0, 1, 2, 3]


class TrlTrainer:
    """TRL's trainer on a miniature with a LoRA adapter that is no longer where it began, and our log-probabilities."""

    def __init__(self, folder: Path) -> None:
        from datasets import Dataset
        from peft import LoraConfig
        from trl import DPOConfig, DPOTrainer

        own = base("qwen2")
        columns = [{"prompt": f"Question: {p}\nAnswer:", "chosen": f" {c}", "rejected": f" {r}"} for p, c, r in PAIRS]
        arguments = DPOConfig(
            str(folder), use_cpu=True, report_to="none", bf16=False, activation_checkpointing=False, disable_tqdm=True
        )
        with torch.random.fork_rng():
            self.trainer: Any = DPOTrainer(
                own.model,
                args=arguments,
                train_dataset=Dataset.from_list(columns),
                processing_class=own.tokenizer,
                peft_config=LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
            )
        self.model = self.trainer.model
        self.parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        generator = torch.Generator().manual_seed(1)
        for parameter in self.parameters.values():
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        self.rows = [row_of(own.tokenizer, prompt, answer) for prompt, *answers in PAIRS for answer in answers]

    def batch(self, pairs: list[int]) -> dict[str, Tensor]:
        return self.trainer.data_collator([self.trainer.train_dataset[i] for i in pairs])

    def theirs(self, pairs: list[int], *losses: str, beta: float, smoothing: float = 0.0) -> Tensor:
        trainer = self.trainer
        trainer.loss_types, trainer.loss_weights = list(losses), [1.0] * len(losses)
        trainer.beta, trainer.label_smoothing = beta, smoothing
        return trainer.compute_loss(self.model, self.batch(pairs))

    def sums(self, pairs: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the arguments of our losses, from plain forward passes of one row at a time, without padding."""
        rows = [row for i in pairs for row in self.rows[2 * i : 2 * i + 2]]
        trained = sums_of_pairs([self._logprobs(row) for row in rows])
        with torch.no_grad(), self.model.disable_adapter():
            return *trained, *sums_of_pairs([self._logprobs(row) for row in rows])

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.parameters, torch.autograd.grad(loss, [*self.parameters.values()]), strict=True))

    def _logprobs(self, row: Row) -> Tensor:
        tokens = torch.tensor(row.tokens)
        of_all = self.model(input_ids=tokens[None]).logits[0, :-1].log_softmax(-1)
        return of_all.gather(1, tokens[1:, None])[torch.tensor(row.labels)[1:], 0]

    def agrees(self, ours: Tensor, theirs: Tensor) -> None:
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        own, other = self.gradients(ours), self.gradients(theirs)
        assert all(gradient.abs().max() > 1e-4 for gradient in own.values())  # every module is reached
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def trl(tmp_path_factory: pytest.TempPathFactory) -> TrlTrainer:
    return TrlTrainer(tmp_path_factory.mktemp("trl"))


def test_trl_reads_the_same_rows(trl: TrlTrainer) -> None:
    """Else what follows would compare two losses of different batches."""
    names, batch = ("input_ids", "attention_mask", "completion_mask"), trl.batch(ALL)
    theirs = [
        (tokens[seen == 1].tolist(), labels[seen == 1].bool().tolist())
        for tokens, seen, labels in zip(*(batch[n] for n in names), strict=True)
    ]
    ours = [(list(row.tokens), list(row.labels)) for row in [*trl.rows[0::2], *trl.rows[1::2]]]
    assert theirs == ours


@pytest.mark.parametrize("beta", [0.05, 0.1, 1.0])
def test_dpo_is_trls(trl: TrlTrainer, beta: float) -> None:
    trl.agrees(mean(dpo(*trl.sums(ALL), beta)), trl.theirs(ALL, "sigmoid", beta=beta))


def test_label_smoothing_is_trls(trl: TrlTrainer) -> None:
    """TRL's `sigmoid` has none; its `aot` is the smoothed loss of sorted pairs, so of one pair at a time it is ours."""
    theirs = torch.stack([trl.theirs([i], "aot", beta=0.5, smoothing=0.2) for i in ALL]).mean()
    trl.agrees(mean(dpo(*trl.sums(ALL), 0.5, label_smoothing=0.2)), theirs)


def test_trls_robust_loss_is_another_one(trl: TrlTrainer) -> None:
    """Robust DPO (Chowdhury et al. 2024) takes the expected noise out of the loss; smoothing puts it in."""
    chosen, rejected, of_chosen, of_rejected = trl.sums(ALL)
    right, wrong = (
        dpo(chosen, rejected, of_chosen, of_rejected, 0.5),
        dpo(rejected, chosen, of_rejected, of_chosen, 0.5),
    )
    theirs = trl.theirs(ALL, "robust", beta=0.5, smoothing=0.2)
    trl.agrees(mean(0.8 * right - 0.2 * wrong) / 0.6, theirs)
    assert (mean(dpo(chosen, rejected, of_chosen, of_rejected, 0.5, 0.2)) - theirs).abs() > 0.01


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_cal_dpo_is_two_of_trls(trl: TrlTrainer, beta: float) -> None:
    """TRL has no Cal-DPO, but its parts: the contrast is `sigmoid` at beta 1, the calibration is `sppo_hard`."""
    theirs = trl.theirs(ALL, "sigmoid", beta=1.0) + trl.theirs(ALL, "sppo_hard", beta=beta)
    trl.agrees(mean(cal_dpo(*trl.sums(ALL), beta)), theirs)


def test_dr_dpo_is_papers_formula_on_trls_losses(trl: TrlTrainer) -> None:
    theirs = torch.stack([trl.theirs([i], "sigmoid", beta=0.5) for i in ALL])
    ours = dr_dpo(dpo(*trl.sums(ALL), 0.5), 0.7)
    trl.agrees(ours, -0.7 * (-theirs / 0.7).exp().mean().log())
    assert ours < theirs.mean() - 0.01


def test_metrics_are_trls(trl: TrlTrainer) -> None:
    logged = trl.trainer._metrics["train"]
    logged.clear()
    trl.theirs(ALL, "sigmoid", beta=0.3)
    ours = reward_metrics(*trl.sums(ALL), 0.3)
    assert ours == pytest.approx({name: logged[name][0] for name in ours}, rel=1e-4)
    assert ours["rewards/margins"] != 0
