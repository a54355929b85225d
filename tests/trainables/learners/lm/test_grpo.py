"""grpo: what is sampled, rewards and advantages by hand, what the loss gets, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from optuna.distributions import CategoricalDistribution

from search_spaces.space import Space
from sweeps import arena
from sweeps.cli.flags import parse
from sweeps.spec.fit_to_bases import TokenLengths
from sweeps.tuning.session import check
from tests.support.miniatures import base
from tests.support.toys import Letters
from trainables.bad_input import BadInput
from trainables.core import Complete, Completion, Read
from trainables.learners.lm.grpo import GrpoConfig, GrpoLearner, SampledRow
from trainables.training.grpo_loss import GrpoSettings, grpo_loss
from trainables.training.round_metrics import shares

BASE, TASK = base("qwen2"), Letters()
SMALL: dict[str, Any] = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "num_generations": 2}


def built(**fields: Any) -> GrpoLearner:
    return GrpoConfig(**SMALL | {"rows_per_round": 4} | fields).build(BASE, TASK, 0)


def said(text: str, ended: bool = True) -> Completion:
    """A completion whose tokens were drawn with probability one half, of two that were equally likely."""
    tokens = BASE.tokenizer(text, add_special_tokens=False).input_ids
    count = len(tokens) + ended
    return Completion(tokens, ended, [-0.5] * count, [0.7] * count)


def sampled(learner: GrpoLearner, completions: list[Completion], shift: float = 0.25) -> list[Any]:
    """Prepare a round and a step; the base finds every token more likely by `shift` nats. Return the queries."""
    asked = []
    list(learner.prepare())
    queries, reply = learner.prepare_step(), None
    while True:
        try:
            query = queries.send(reply)
        except StopIteration:
            return asked
        asked.append(query)
        if isinstance(query, Complete):
            reply = completions
        else:
            reply = [[-0.5 + shift * query.untouched] * sum(row.labels) for row in query.rows]


def right_and_wrong(learner: GrpoLearner) -> list[Completion]:
    """Of the first question a right and a wrong answer, of the second two right ones."""
    first, second = (learner.examples[learner._index(i)].answer for i in range(2))
    return [said(first), said("? ?"), said(second), said(second)]


def test_each_question_is_sampled_as_often_as_a_group_has_completions() -> None:
    learner = built(num_generations=4, temperature=0.8, top_p=0.9, max_completion_length=3)
    (query, _) = sampled(learner, [said("a")] * 4)
    assert isinstance(query, Complete)
    assert len(query.prompts) == 4
    assert len({tuple(prompt) for prompt in query.prompts}) == 1
    assert query.max_new_tokens == 3
    assert {(draw.temperature, draw.top_p) for draw in query.draws} == {(0.8, 0.9)}
    keys = [draw.key for draw in query.draws]
    (again, _) = sampled(built(num_generations=4), [said("a")] * 4)
    (later, _) = sampled(learner, [said("a")] * 4)
    (other, *_) = sampled(GrpoConfig(**SMALL).build(BASE, TASK, 1), [said("a")] * 4)
    assert [draw.key for draw in again.draws] == keys, "draws depend on no setting"
    assert not {*keys} & {draw.key for one in (later, other) for draw in one.draws}
    assert len({*keys}) == 4


def test_rewards_and_advantages_by_hand() -> None:
    learner = built()
    sampled(learner, right_and_wrong(learner))
    rows: list[Any] = [*learner.next_rows(), *learner.next_rows()]
    # Rewards 1 and 0: their mean is 0.5, and their standard deviation 1 / sqrt(2).
    better = 0.5 / (0.5**0.5 + 1e-4)
    assert sorted(row.advantage for row in rows) == pytest.approx([-better, 0, 0, better])
    wrong = min(rows, key=lambda row: row.advantage)
    assert [token for token, label in zip(wrong.tokens, wrong.labels, strict=True) if label] == [
        *BASE.tokenizer("? ?", add_special_tokens=False).input_ids,
        BASE.eos,
    ]


@pytest.mark.parametrize(
    ("fields", "text", "ended", "reward"),
    [
        ({}, "right", True, 1.0),
        ({}, "right", False, 0.0),  # an answer must end
        ({"format_weight": 0.5}, "right", True, 1.5),
        ({"format_weight": 0.5}, "?", True, 0.5),
        ({"format_weight": 0.5}, "right", False, 0.0),
        ({"length_penalty": 0.8}, "? ?", True, -0.6),  # three of four tokens
        ({"length_penalty": 0.8}, "? ? ? ?", False, -0.8),
    ],
)
def test_a_reward_is_the_score_and_what_is_asked_for(
    fields: dict[str, float], text: str, ended: bool, reward: float
) -> None:
    learner = built(**fields)
    example = learner.examples[0]
    found = learner._reward(example, said(text.replace("right", example.answer), ended))
    assert found == pytest.approx(reward)


def test_figures_of_a_round() -> None:
    learner = built(rows_per_round=8, length_penalty=0.4)
    completions = [*right_and_wrong(learner)[:2], said("? ? ? ?", False), said("? ? ? ?", False)]
    sampled(learner, completions)
    told = _evaluated(learner)
    assert told["frac_reward_zero_std"] == 0.5
    assert told["reward"] == pytest.approx((1 - 0.2 - 0.3 - 0.4 - 0.4) / 4)
    assert told["completions/mean_length"] == pytest.approx((2 + 3 + 4 + 4) / 4)
    assert told["completions/clipped_ratio"] == 0.5
    assert told["entropy"] == pytest.approx(0.7)
    assert "kl" not in told, "the last generation of a round is read by the base"
    _continue(learner, completions)
    assert _evaluated(learner)["kl"] == pytest.approx(torch.tensor(0.25).exp().item() - 0.25 - 1)
    list(learner.prepare())
    assert "reward" not in _evaluated(learner), "figures are of one round"


def _continue(learner: GrpoLearner, completions: list[Completion]) -> None:
    """Use the generation up, and sample the next."""
    for _ in range(2):
        learner.next_rows()
    queries = learner.prepare_step()
    query = next(queries)
    try:
        query = queries.send(completions)
        queries.send([[-0.25] * sum(row.labels) for row in query.rows])  # type: ignore[union-attr]
    except StopIteration:
        pass


def _evaluated(learner: GrpoLearner) -> dict[str, Any]:
    queries = learner.evaluate("search")
    next(queries)
    try:
        queries.send([said("a")] * len(TASK.search()))
    except StopIteration as end:
        return dict(end.value.metrics)
    raise AssertionError("it asks one query")


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"rows_per_round": 8}, []),
        ({"rows_per_round": 8, "beta": 0.1}, [True]),
        ({"num_iterations": 2, "rows_per_round": 8}, [False]),
        ({"steps_per_generation": 2, "beta": 0.1, "rows_per_round": 16}, [False, True]),
    ],
)
def test_only_log_probabilities_that_are_needed_are_read(fields: dict[str, Any], asked: list[bool]) -> None:
    learner = built(**fields, temperature=0.7)
    count = learner.config.rows_of_generation  # type: ignore[attr-defined]
    reads = sampled(learner, [said("a")] * count)[1:]
    assert [query.untouched for query in reads] == asked
    assert all(isinstance(query, Read) and query.once and query.temperature == 0.7 for query in reads)


def test_a_generation_is_trained_on_as_often_as_asked_and_then_the_next_is_sampled() -> None:
    learner = built(num_iterations=2, rows_per_round=8)
    assert learner.steps_per_round == 4
    sampled(learner, right_and_wrong(learner))
    first = learner.next_rows() + learner.next_rows()
    assert not list(learner.prepare_step()), "the second pass needs no samples"
    assert learner.next_rows() + learner.next_rows() == first
    assert isinstance(next(learner.prepare_step()), Complete)


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo", "gspo"])
def test_micro_batches_add_up_to_the_loss_of_all_completions(loss_type: Any) -> None:
    learner = built(loss_type=loss_type, num_iterations=2, beta=0.1)
    sampled(learner, right_and_wrong(learner))
    batches = [learner.next_rows(), learner.next_rows()]
    rows: list[Any] = [row for own in batches for row in own]
    drawn = torch.Generator().manual_seed(0)
    now = {id(row): -torch.rand(sum(row.labels), generator=drawn, dtype=torch.float64) for row in rows}
    parts = [learner.loss([now[id(row)] for row in own], own) for own in batches]
    total = sum(part * share for part, share in zip(parts, shares(learner, batches), strict=True))
    widest = max(len(own) for own in now.values())

    def padded(values: list[Any], fill: float = 0.0) -> torch.Tensor:
        return torch.stack([torch.nn.functional.pad(own, (0, widest - len(own)), value=fill) for own in values])

    whole = grpo_loss(
        padded([now[id(row)] for row in rows]),
        padded([now[id(row)].new_tensor(row.old) for row in rows]),
        padded([now[id(row)].new_tensor(row.reference) for row in rows]),
        torch.tensor([row.advantage for row in rows], dtype=torch.float64),
        padded([torch.ones_like(now[id(row)]) for row in rows]),
        GrpoSettings(loss_type=loss_type, beta=0.1, num_generations=2, max_completion_length=4),
    )
    assert len({len(own) for own in now.values()}) > 1
    assert float(total) == pytest.approx(float(whole), rel=1e-6)


def test_without_old_log_probabilities_the_gradient_is_that_of_advantage_times_log_probability() -> None:
    learner = built(loss_type="grpo")
    row = SampledRow((5, 6, 7), (False, True, True), (), advantage=2.0)
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    (slope,) = torch.autograd.grad(learner.loss([logprobs], [row]), logprobs)
    assert slope.tolist() == pytest.approx([-1.0, -1.0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_generations": 1}, "num_generations is 1; a group needs at least 2"),
        ({"num_generations": 3}, "num_generations is 3 and a generation has 64 completions"),
        (
            {"steps_per_round": 3, "num_iterations": 2},
            "steps_per_round is 3 and a generation is trained on for 2 steps",
        ),
        ({"temperature": 0.0}, "temperature is 0.0; it must be a finite number above 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"max_completion_length": -1}, "max_completion_length is -1"),
        ({"steps_per_generation": 0}, "steps_per_generation is 0; it must be at least 1"),
        ({"format_weight": float("nan")}, "format_weight is nan"),
        ({"length_penalty": -0.1}, "length_penalty is -0.1"),
        ({"mode": "online"}, "mode is 'online'; grpo has no given answers"),
        ({"replay_ratio": 0.5}, "replay_ratio is 0.5; grpo has no given answers"),
        ({"watch_updates": True, "mode": "batched"}, "watch_updates is True; grpo has no given answers"),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha is 5.0; samples are drawn without noise"),
        ({"loss_type": "ppo"}, "loss_type is 'ppo'; use one of grpo, dr_grpo, dapo, gspo"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as told:
        GrpoConfig(**fields)
    assert "\n" not in str(told.value)


def test_completions_longer_than_the_window_are_refused_before_a_step() -> None:
    short = base("gpt2")  # 128 positions
    assert GrpoConfig(max_completion_length=100).build(short, TASK, 0)
    with pytest.raises(ValueError, match="pass the 128 places"):
        GrpoConfig(max_completion_length=125).build(short, TASK, 0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["max_completion_length=5000"], "a question and 5000 tokens pass the 512 that the base reads"),
        (["num_generations=1"], "num_generations is 1; a group needs at least 2"),
        (["num_generations=3"], "num_generations is 3 and a generation has 64 completions"),
    ],
)
def test_a_sweep_refuses_it_in_one_line_before_anything_starts(flags: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message) as told:
        check(parse(arena.SWEEP, ["--learner", "grpo", "--set", *flags])[1])
    assert "\n" not in str(told.value)


def test_a_space_is_refused_if_some_of_its_groups_do_not_divide_a_generation() -> None:
    """Each value alone divides the default of the other; a batch of 12 and groups of 16 do not go together."""
    sizes = {
        "per_device_train_batch_size": CategoricalDistribution((12, 32)),
        "num_generations": CategoricalDistribution((8, 16)),
    }
    sweep = parse(arena.SWEEP, ["--learner", "grpo"])[1]
    (space,) = (sweep.space_of(pair) for pair in sweep.pairs)
    with pytest.raises(BadInput, match="num_generations=16 per_device_train_batch_size=12: ") as told:
        replace(sweep, space=Space({**space.axes, **sizes}, space.conditions)).validate()
    assert "a generation has 24 completions" in str(told.value)
    assert "\n" not in str(told.value)


def test_micro_batches_without_any_weight_count_the_same() -> None:
    learner = built(loss_type="dapo")
    assert shares(learner, [[], []]) == [0.5, 0.5]


def test_completions_without_a_gradient_are_left_out_unless_beta_gives_them_one() -> None:
    for beta, left_out in ((0.0, [False, False, True, True]), (0.1, [False] * 4)):
        learner = built(beta=beta)
        sampled(learner, right_and_wrong(learner))
        rows = [*learner.next_rows(), *learner.next_rows()]
        assert [row.left_out for row in rows] == left_out, "in a step, those that are read come first"


@pytest.mark.parametrize("several", [False, True], ids=["one pass", "two passes"])
@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo", "gspo"])
def test_what_is_left_out_counts_in_the_loss_as_if_it_had_been_read(loss_type: Any, several: bool) -> None:
    """With the zeros that a host gives, loss and gradient are those of a model that reads all completions."""
    sizes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "rows_per_round": 8}
    learner = built(loss_type=loss_type, num_iterations=1 + several, **sizes)
    sampled(learner, [*right_and_wrong(learner)[:2], said("? ? ?"), said("? ? ?")])
    rows: list[Any] = learner.next_rows()
    assert [row.left_out for row in rows] == [False, False, True, True]
    drawn = torch.Generator().manual_seed(0)
    read = [-torch.rand(sum(row.labels), generator=drawn).requires_grad_() for row in rows]
    given = [torch.zeros_like(own) if row.left_out else own for own, row in zip(read, rows, strict=True)]
    whole, part = learner.loss([*read], rows), learner.loss(given, rows)
    assert float(part) == float(whole)
    wanted = torch.autograd.grad(whole, read, allow_unused=True, materialize_grads=True)
    found = torch.autograd.grad(part, read, allow_unused=True, materialize_grads=True)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert all(bool(slope.any()) != row.left_out for slope, row in zip(wanted, rows, strict=True))


def test_a_score_that_no_completion_has_is_refused() -> None:
    @dataclass(frozen=True)
    class Likelihood(Letters):
        ranks_by_likelihood = True

    with pytest.raises(ValueError, match="the score of 'letters' is a likelihood"):
        GrpoConfig().check_task(Likelihood(), TokenLengths("builtin:tiny", 0))


def test_a_round_is_a_whole_number_of_generations_and_schedules_end_with_the_last() -> None:
    config = GrpoConfig(rows_per_round=300, num_iterations=3, lr_scheduler_type="linear")
    assert config.steps_of_round() == 5 * 3
    assert replace(config, schedule_rounds=4).optimizer().total_steps == 60
