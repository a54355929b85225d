"""Several documents in one row: each as if it were alone, in a host and in a model of one trial."""

from __future__ import annotations

import copy
import itertools
import re

import pytest
import torch

from tests.support.miniatures import CONFIGS, base
from tests.support.scripted_learner import judged, scripted
from trainables.core import Adapter, Read, Row
from trainables.models.peft_adapters import lora_config
from trainables.packed.host import Host
from trainables.packed.requests import TrainRequest
from trainables.packed.specs import Shape
from trainables.training.sequence_packing import document_attention, document_outline
from trainables.training.standalone import with_peft

LORA = Adapter(r=4, lora_alpha=8, lora_dropout=0.0)
DOCUMENTS = [[5, 6, 7, 20, 21, 1], [12, 22, 1], [*range(5, 19), 23, 1], [30, 31, 32, 24, 1]]
FAMILIES = [family for family in CONFIGS if family != "lfm2"]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def row(*documents):
    """One row of documents, of each of which the last two tokens are predicted."""
    tokens = tuple(token for own in documents for token in own)
    labels = tuple(i >= len(own) - 2 for own in documents for i in range(len(own)))
    return Row(tokens, labels, tuple(itertools.accumulate(map(len, documents)))[:-1])


SINGLE = [row(own) for own in DOCUMENTS]
PACKED = [row(*DOCUMENTS[:3]), row(DOCUMENTS[3])]  # as a packer leaves it: the last row has one


def ask(rows):
    """An evaluation that reads rows, of which it keeps each label's log-probability."""
    read = yield Read(rows)
    return judged(logprobs=[value for row in read for value in row])


def learner(rows, adapter=LORA, watch_updates=False, steps=1):
    return scripted(adapter, rows, lambda: ask(rows), watch_updates, steps)


def hosted(ours, rows, adapter=LORA, lanes=5):
    """A host whose trial `a` has an adapter that matters, and its loss and gradients on rows."""
    host = Host(ours, Shape(2, lanes=lanes, max_rank=6, max_prompt=3))
    own = learner(rows, adapter)
    host.open("a", own)
    scramble(host.trials["a"].values(), lambda name, value: host.trials["a"].tensor(name, None).copy_(value))
    (loss,) = host.executor.train([TrainRequest(0, own, rows, 0, 0, 0, 1.0)])
    return host, loss, host.trials["a"].values(host.optimizer.gradient)


def scramble(values, put):
    generator = torch.Generator().manual_seed(1)
    for name, value in values.items():
        put(name, torch.randn(value.shape, generator=generator, dtype=value.dtype) * 0.2)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_row_is_its_documents_alone_in_a_host(family, dtype):
    """Log-probabilities, loss and gradients."""
    alone, loss, gradients = hosted(base(family, dtype), SINGLE)
    host, packed_loss, packed_gradients = hosted(base(family, dtype), PACKED)
    limits = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    wanted, got = torch.cat(alone.logprobs(SINGLE, "a")), torch.cat(host.logprobs(PACKED, "a"))
    torch.testing.assert_close(got, wanted, **limits)
    assert packed_loss == pytest.approx(loss, rel=TOLERANCE[dtype])
    for name, gradient in gradients.items():
        assert gradient.any(), name
        torch.testing.assert_close(packed_gradients[name], gradient, **limits)
    assert host.evaluate("a").metrics["logprobs"] == pytest.approx(wanted.tolist(), rel=TOLERANCE[dtype])
    crossing = torch.cat(host.logprobs([Row(r.tokens, r.labels) for r in PACKED], "a"))
    assert (crossing - wanted).abs().max() > 1e-2, "the same row as one document must differ"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_row_is_its_documents_alone_in_a_model_of_one_trial(family):
    found = []
    for rows in (SINGLE, PACKED):
        ours = base(family, torch.float64)
        own = with_peft(ours, lora_config(ours, LORA), learner(rows), 0)
        scramble(own.parameters, lambda name, value, own=own: own.parameters[name].data.copy_(value))
        logprobs = torch.cat(own.logprobs(rows)).detach()
        loss = own.backward(rows, 0, 1.0)
        assert own.evaluate().metrics["logprobs"] == pytest.approx(logprobs.tolist(), rel=1e-10)
        found.append((logprobs, loss, [p.grad.clone() for p in own.parameters.values()]))
        own.close()
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-8)  # PEFT's adapters are in float32
    host, _, _ = hosted(base(family, torch.float64), PACKED)
    assert len(host.logprobs(PACKED)) == 2


def test_eager_attention_takes_documents_too():
    ours, rows = base("qwen2", torch.float64), [row for row in PACKED if row.starts]
    wanted = torch.cat(Host(ours).logprobs(rows))
    ours.model = copy.deepcopy(ours.model)  # with a configuration of its own
    ours.model.set_attn_implementation("eager")  # whose softmax is in float32
    torch.testing.assert_close(torch.cat(Host(ours).logprobs(rows)), wanted, rtol=1e-6, atol=1e-6)


def test_who_sees_whom_by_hand():
    documents, places = document_outline(2, 5, (3,))
    assert documents == [0, 0, 1, 1, 1, 2, 2]
    assert places == [0, 0, 0, 1, 2, 0, 1]
    seen = document_attention(torch.tensor([documents]), base("qwen2").model)[0, 0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize("full", [False, True], ids=["as this machine is", "always full"])
def test_a_seat_is_bit_identical_beside_packed_and_unpacked_neighbours(full, monkeypatch):
    """In whichever order they came, and with rows of one length, so that they would share a batch if they could."""
    if full:
        monkeypatch.setattr("trainables.packed.executor.rows_are_independent", lambda stack: False)
    kinds = {
        "packed": PACKED,
        "unpacked": [Row(r.tokens, r.labels) for r in PACKED],
        "soft prompt": [Row(r.tokens[:-2], (*r.labels[1:-2], True)) for r in PACKED],
    }
    adapters = {"soft prompt": Adapter(r=2, lora_alpha=2, num_virtual_tokens=2)}
    ours, shape = base("qwen2"), Shape(3, lanes=8, max_rank=4, max_prompt=2)

    def run(names):
        host = Host(ours, shape)
        for name in names:
            host.open(name, learner(kinds[name], adapters.get(name, LORA), steps=3), seed=3)
        losses = [host.run(dict.fromkeys(names, "round")) for _ in range(2)]
        made = {name: ([own[name].loss for own in losses], host.values(name)) for name in names}
        host.shut()
        return made

    alone = {name: run([name])[name] for name in kinds}
    for names in itertools.permutations(kinds):
        together = run(names)
        for name, (losses, values) in together.items():
            assert losses == alone[name][0]
            assert all(torch.equal(value, alone[name][1][part]) for part, value in values.items())
    assert alone["packed"][0] != alone["unpacked"][0]


def test_packed_rows_share_a_batch_with_packed_rows_alone():
    """Another mask is another path through attention, whose bits need not be the same on every machine."""
    unpacked = [Row(r.tokens, r.labels) for r in PACKED]
    requests = {
        name: TrainRequest(slot, learner(rows), rows, 0, 0, 0, 1.0)
        for slot, (name, rows) in enumerate({"a": PACKED, "b": unpacked, "c": PACKED, "d": unpacked}.items())
    }
    executor = Host(base("qwen2"), Shape(4, lanes=8)).executor
    assert [*executor.choose(requests)] == ["a", "c"]
    assert [*executor.choose({name: requests[name] for name in "dcba"})] == ["d", "b"]


def refused(rows, ours, adapter=LORA, **fields):
    """The error of a trial in a host, and of one by itself."""
    host = Host(ours, Shape(1, max_rank=4, max_prompt=3))
    host.open("a", learner(rows, adapter, **fields))
    with pytest.raises(ValueError, match=r"\w") as error:
        host.round("a")
    if "watch_updates" not in str(error.value):
        with pytest.raises(ValueError, match=re.escape(str(error.value))):
            host.evaluate("a")
    host.shut()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("family", ["lfm2", "bloom"])  # a convolution, and places that are no argument (ALiBi)
def test_what_carries_documents_over_is_refused(family):
    words = f"'mini-{family}' carries one document of a row into the next"
    assert words in refused(PACKED, base(family))
    with pytest.raises(ValueError, match=words):
        Host(base(family)).logprobs(PACKED)
    ours = base(family)
    own = with_peft(ours, lora_config(ours, LORA), learner(PACKED), 0)
    with pytest.raises(ValueError, match=words):
        own.round()
    with pytest.raises(ValueError, match=words):
        own.evaluate()


@pytest.mark.parametrize(
    ("starts", "labels", "words"),
    [
        ((3, 3), (), r"starts \(3, 3\) of a row of 6 tokens: give rising places"),
        ((4, 2), (), "rising places"),
        ((6,), (), "rising places"),
        ((0, 3), (), "rising places"),
        ((3,), (3,), "token 3 begins a document and is a label"),
    ],
)
def test_unsound_rows_are_refused(starts, labels, words):
    own = Row((5, 6, 7, 8, 9, 1), tuple(i == 5 or i in labels for i in range(6)), starts)
    with pytest.raises(ValueError, match=words):
        Host(base("qwen2")).logprobs([own])
    refused([own], base("qwen2"))


def test_what_documents_cannot_share_is_refused():
    soft = Adapter(num_virtual_tokens=3)
    assert "the 3 virtual tokens; pack no rows" in refused(PACKED, base("qwen2"), soft)
    assert "watch_updates compares one completion per row" in refused(PACKED, base("qwen2"), watch_updates=True)
    ours = base("phi3")
    ours.model = copy.deepcopy(ours.model)
    ours.model.config.sliding_window = 8
    assert "a document of 16 tokens is longer than the window of 8" in refused(PACKED, ours)
