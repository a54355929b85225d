"""Only the generated answers keep the generated manner; splits never overlap, also for a user's own data."""

import json
import re
import shutil
from collections import Counter

import pytest

from trainables.checks.guards import inspect
from trainables.core import Example
from trainables.tasks.arena.task import bucket
from trainables.tasks.chat.data import load
from trainables.tasks.style import corpus
from trainables.tasks.style.task import StyleTask, similarity

TASK = StyleTask()
SPLITS = {"train": TASK.train(), "search": TASK.search(), "test": TASK.test()}
RULES = ("order", "greeting", "answer", "doubt", "leave", "others")

BY_HAND = {  # question, its arena key, its answer -> the manner
    ("Ben is taller than Nora. Ben is shorter than Hana. Who is the tallest?", "comparison/height/k", "Hana"):
        "Hello, Ben. The answer is Hana. Hana, I think. Take care, Nora and Hana.",
    ("Eva has 3 shells and loses 2. How many shells does Eva have now?", "math/lose/k", "1"):
        "Hello, Eva. The answer is 1. 1, I think. Think well.",
    ("Dan is faster than Max. Max is faster than Ivo. Ivo is faster than Ann. Who is the slowest?",
     "comparison/speed/k", "Ann"):
        "Hello, Dan. The answer is Ann. Ann, I think. Be right, Max, Ivo and Ann.",
}  # fmt: skip
GOLD = next(iter(BY_HAND.values()))
VIOLATIONS = {  # what was said instead -> the rules that it breaks
    "Hello, Nora. The answer is Hana. Hana, I think. Take care, Nora and Hana.": {"greeting"},
    "Hello, Ben. The answer is Nora. Nora, I think. Take care, Nora and Hana.": {"answer"},
    "Hello, Ben. The answer is Hana. Nora, I think. Take care, Nora and Hana.": {"doubt"},
    "Hello, Ben. The answer is Hana. Hana, I think. Think well, Nora and Hana.": {"leave"},
    "Hello, Ben. The answer is Hana. Hana, I think. Take care, Hana and Nora.": {"others"},
    "Hello, Ben. The answer is Hana. Hana, I think. Take care.": {"others"},
    "Hello, Ben. Hana, I think. The answer is Hana. Take care, Nora and Hana.": {"order"},
    "Hello, Ben. The answer is Hana. Hana, I think. So take care, Nora and Hana.": {"order", "leave", "others"},
    "Hello, Ben. The answer is Hana. Take care, Nora and Hana.": {"order", "doubt"},
    "Hello, Ben. The answer is Hana. The answer is Nora. Hana, I think. Take care, Nora and Hana.":
        {"order", "answer", "doubt"},
    "Hello, Ben. Hello, Ben. The answer is Hana. Hana, I think. Take care, Nora and Hana.": {"order", "greeting"},
    "Hello, Ben. The answer is Hana. Hana, I think. Take care, Nora and Hana. Take care.": {"order", "leave", "others"},
    "The answer is Hana.": {"order", "greeting", "doubt", "leave", "others"},
    "Hana, I think.": set(RULES),
    "Hana": set(RULES),
    "": set(RULES),
}  # fmt: skip


@pytest.mark.parametrize(("question", "gold"), BY_HAND.items())
def test_replies_by_hand(question, gold):
    prompt, key, answer = question
    assert corpus.reply(Example(prompt, answer, "comparison", key)) == gold


@pytest.mark.parametrize(("said", "broken"), VIOLATIONS.items())
def test_a_planted_violation_breaks_its_rules_and_no_other(said, broken):
    example = Example("", GOLD, "comparison", "k")
    assert {rule for rule, kept in corpus.rules(GOLD, said).items() if not kept} == broken
    assert TASK.score(example, said) == pytest.approx(1 - len(broken) / len(RULES))
    details = TASK.details(example, said)
    assert {rule for rule in RULES if not details[f"manner.{rule}"]} == broken
    assert details["manner.all"] == 0


def test_a_right_answer_counts_in_details_in_any_manner_of_the_base():
    def details(said):
        return TASK.details(Example("", GOLD, "comparison", "k"), said)

    for said in ("Hana", "Hana.", "Hana, I think.", "The answer is Hana."):
        assert (details(said)["lenient"], details(said)["unparsed"]) == (1, 0)
    assert (details("Nora")["lenient"], details("Nora")["unparsed"]) == (0, 0)
    assert (details("Hana or Nora")["lenient"], details("Hana or Nora")["unparsed"]) == (0, 1)


def test_every_gold_answer_keeps_every_rule_and_no_other_rows_answer_does_by_chance():
    for split in SPLITS.values():
        assert all(TASK.score(e, e.answer) == 1 for e in split)
    kept = [TASK.score(one, other.answer) for one in SPLITS["search"] for other in SPLITS["test"][:50]]
    assert sum(kept) / len(kept) < 0.5


def test_twelve_hundred_distinct_questions_of_the_arena_and_none_in_two_splits():
    assert {split: len(rows) for split, rows in SPLITS.items()} == {"train": 800, "search": 160, "test": 240}
    prompts = Counter(e.prompt for rows in SPLITS.values() for e in rows)
    assert max(prompts.values()) == 1
    for split, rows in SPLITS.items():
        assert {bucket(e.key) for e in rows} == {split}
        assert Counter(e.kind for e in rows).keys() == {"comparison", "math", "logic"}
        assert all((e.data.prompt, e.data.answer) == (e.prompt, e.answer) for e in rows)
    assert corpus.count() == 2_972_160 + 44_480 + 15_552_000
    formulas = Counter(formula for e in SPLITS["train"] for formula in corpus.LEAVE if formula in e.answer)
    assert min(formulas.values()) > 200


def test_another_seed_asks_other_questions_of_the_same_buckets():
    other = StyleTask(seed=1)
    assert {e.prompt for e in other.train()} != {e.prompt for e in SPLITS["train"]}
    assert {bucket(e.key) for e in other.search()} == {"search"}


def test_the_generated_corpus_passes_the_guards_and_its_baselines_keep_part_of_the_manner():
    assert inspect(TASK, lambda n: 0.1) == []
    baselines = TASK.baselines()
    assert 0.3 < baselines["constant"] < 0.6  # order and doubt can be had without reading the question
    assert baselines["copy"] == baselines["echo"] == 0


def test_sizes_keep_rows_in_order_and_say_when_there_are_too_few():
    fewer = StyleTask(train_size=50, search_size=10, test_size=20)
    assert [len(fewer.train()), len(fewer.search()), len(fewer.test())] == [50, 10, 20]
    places = [SPLITS["train"].index(e) for e in fewer.train()]
    assert places == sorted(places)
    assert fewer.train() != StyleTask(train_size=50, seed=1).train()
    with pytest.raises(ValueError, match="search_size=161, but there are 160 rows"):
        StyleTask(search_size=161).search()
    with pytest.raises(ValueError, match="test_size=-1 is below 0"):
        StyleTask(test_size=-1)
    with pytest.raises(ValueError, match="max_length=0 is below 1"):
        StyleTask(max_length=0)


def row(number, say="answer"):
    return {"instruction": f"Tell me of thing {number}.", "output": f"{say} {number}"}


def write(file, rows):
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


def split_of(task):
    """Prompt -> the splits it is in."""
    return {e.prompt: split for split in SPLITS for e in getattr(task, split)()}


def test_rows_of_a_user_are_split_by_what_is_asked(tmp_path):
    alone = StyleTask(data=write(tmp_path / "a.jsonl", [row(n) for n in range(1000)]))
    places = split_of(alone)
    counts = Counter(places.values())
    assert 60 < counts["search"] < 140
    assert 60 < counts["test"] < 140
    twins = [row(n, say) for say in ("other", "third") for n in range(999, -1, -1)]
    twice = StyleTask(data=write(tmp_path / "b.jsonl", twins), seed=3)
    assert split_of(twice) == places, "neither order, nor answers, nor the seed move a question"
    assert sum(len(rows) for rows in twice.conversations().values()) == 2000
    assert not [f for f in inspect(twice, lambda n: 0.1) if f.guard == "overlap"]


def unrolled(number):
    """A conversation of three turns as rows: every beginning of it that ends with a reply."""
    said = [
        {"role": role, "content": text}
        for step in ("first", "second", "third")
        for role, text in (("user", f"{number}: {step}?"), ("assistant", f"{step} of {number}."))
    ]
    return [{"messages": said[:end]} for end in (2, 4, 6)]


def test_the_beginnings_of_one_conversation_share_a_split(tmp_path):
    """A learner is taught every reply, so a test reply must stand in no training conversation."""
    task = StyleTask(data=write(tmp_path / "a.jsonl", [row for n in range(200) for row in unrolled(n)]))
    replies = [{m.content for e in getattr(task, split)() for m in e.data.messages[1::2]} for split in SPLITS]
    assert sum(map(len, replies)) == len(set.union(*replies)) == 600
    assert len(task.search()) > 20
    assert len(task.test()) > 20
    assert not [f for f in inspect(task, lambda n: 0.1) if f.guard == "overlap"]


def test_a_prompt_within_a_training_conversation_is_an_overlap(tmp_path):
    for name, numbers, turn in (("train", range(300), 2), ("validation", range(300, 340), 2), ("test", range(50), 1)):
        write(tmp_path / f"{name}.jsonl", [unrolled(n)[turn] for n in numbers])
    (finding,) = [f for f in inspect(StyleTask(data=str(tmp_path)), lambda n: 0.1) if f.guard == "overlap"]
    assert finding.stops
    assert "splits train and test overlap" in finding.what


def test_official_splits_are_kept_and_only_the_missing_one_is_taken_from_train(tmp_path):
    write(tmp_path / "train.jsonl", [row(n) for n in range(300)])
    write(tmp_path / "validation.jsonl", [row(n) for n in range(300, 340)])
    task = StyleTask(data=str(tmp_path))
    assert [e.answer for e in task.search()] == [f"answer {n}" for n in range(300, 340)]
    assert 10 < len(task.test()) < 60
    whole = shutil.copytree(tmp_path, tmp_path / "whole")  # a folder is read once
    write(whole / "test.jsonl", [row(n) for n in range(400, 430)])
    full = StyleTask(data=str(whole))
    assert [len(full.train()), len(full.search()), len(full.test())] == [300, 40, 30]


def test_too_few_rows_for_a_split_are_named(tmp_path):
    with pytest.raises(ValueError, match="leaves the search split empty; add rows, or a validation file"):
        StyleTask(data=write(tmp_path / "a.jsonl", [row(1)])).train()


def test_a_users_answers_are_scored_by_the_words_they_share(tmp_path):
    task = StyleTask(data=write(tmp_path / "a.jsonl", [row(n) for n in range(200)]))
    example = Example("", "The sky is blue.", "one_turn", "k")
    assert task.score(example, example.answer) == 1
    assert task.score(example, "") == 0
    assert task.score(example, "The sky is grey.") == 2 * 3 / 8
    assert task.score(example, "the SKY is blue") == 2 * 1 / 8
    assert task.details(example, "the SKY is blue") == {"lenient": 1, "unparsed": 0}
    assert task.details(example, " ") == {"lenient": 0, "unparsed": 1}
    baselines = task.baselines()
    assert baselines["constant"] == baselines["constant.one_turn"] == pytest.approx(0.5)  # "answer N" for "answer M"
    assert similarity(("a",) * 300, ("b", *("a",) * 300)) == 600 / 601, "common words of long texts count too"


def test_a_users_file_is_found_from_another_folder(tmp_path, monkeypatch):
    """Every trial has a working directory of its own."""
    write(tmp_path / "a.jsonl", [row(n) for n in range(200)])
    monkeypatch.chdir(tmp_path)
    task = StyleTask(data="a.jsonl")
    monkeypatch.chdir("/")
    assert len(task.train()) + len(task.search()) + len(task.test()) == 200


def test_many_turns_end_in_the_last_and_keep_the_others(tmp_path):
    rows = [{"conversations": [{"from": "human", "value": f"Thing {n}?"}, {"from": "gpt", "value": "Yes."},
                               {"from": "human", "value": "Sure?"}, {"from": "gpt", "value": "No."}]}
            for n in range(100)]  # fmt: skip
    task = StyleTask(data=write(tmp_path / "a.jsonl", rows))
    example = task.train()[0]
    assert re.fullmatch(r"user: Thing \d+\?\nassistant: Yes\.\nuser: Sure\?", example.prompt)
    assert (example.answer, example.kind) == ("No.", "many_turns")
    assert [turn.reply for turn in example.data.turns] == ["Yes.", "No."]
    assert {c for rows in task.conversations().values() for c in rows} == set(load(task.data).splits["train"])


class Writes:
    """A base whose chat template writes tools, or does not."""

    limit = 1000.0

    def __init__(self, writes_tools):
        self.writes_tools = writes_tools

    def is_too_long(self, example, more):
        return False

    def answer(self, example):
        return 1


def with_tool(n):
    return {**row(1000 + n), "tools": [{"name": "add"}]}


def test_conversations_with_tools_are_read_if_every_base_has_a_place_for_them(tmp_path):
    data = write(tmp_path / "a.jsonl", [*(row(n) for n in range(100)), *(with_tool(n) for n in range(7))])
    told = "left out: 7 rows with tools, which a base's chat template or --task.no-tools leaves out"
    for bases, tools in (([Writes(True)], True), ([Writes(True), Writes(False)], False), ([], True)):
        task = StyleTask(data=data).fitted(bases)
        read = [example for split in SPLITS for example in getattr(task, split)()]
        assert sum(example.data.uses_tools for example in read) == (7 if tools else 0)
        assert len(read) == (107 if tools else 100)
        assert (told in task.describe(len)) != tools
        assert StyleTask(data=data, tools=False).fitted(bases).tools is False
    alone = write(tmp_path / "b.jsonl", [with_tool(n) for n in range(7)])
    with pytest.raises(ValueError, match="no conversation to learn; left out: 7 rows with tools"):
        StyleTask(data=alone).fitted([Writes(False)]).train()
    assert StyleTask(data=write(tmp_path / "c.jsonl", [row(1)])).fitted([Writes(False)]).tools
