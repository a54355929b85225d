"""Files, folders and the hub's loader: what is read, which split it goes to, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from trainables.tasks.strategyqa.data import load, split_of
from trainables.tasks.strategyqa.task import StrategyQaTask

SPLITS = ("train", "search", "test")


def row(number: int, **more) -> dict:
    """A row in the official form."""
    return {
        "qid": f"id{number}",
        "question": f"Would case {number} hold?",
        "answer": number % 3 == 0,
        "facts": [f"Fact {number}.", "Another fact."],
        "decomposition": ["What is it?", "Is #1 so?", "Both?"][: 1 + number % 3],
    } | more


def written(path: Path, rows: list) -> str:
    """The rows in the format that the name asks for."""
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        text = "\n".join(map(json.dumps, rows)) if path.suffix == ".jsonl" else json.dumps(rows)
        path.write_text(text, encoding="utf-8")
    return str(path)


def big_bench(number: int) -> dict:
    right, wrong = ("Yes", "No") if number % 2 else ("No", "Yes")
    target = f"{right}. No. {number} is a number. Yes it is."
    return {"input": f"Does {number} float?", "target_scores": {right: 1, wrong: 0}, "target": target}


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_questions_by_split(tmp_path, suffix):
    data = written(tmp_path / f"any{suffix}", [row(n) for n in range(60)])
    splits = load(data).splits
    assert sum(map(len, splits.values())) == 60
    assert splits == load(written(tmp_path / "same.json", [row(n) for n in range(60)])).splits
    assert all(split_of(entry.key) == split for split, entries in splits.items() for entry in entries)
    task = StrategyQaTask(data=data, train_size=0, search_size=0, test_size=3)
    assert [len(getattr(task, split)()) for split in SPLITS] == [len(splits["train"]), len(splits["search"]), 3]
    for example in task.train():
        number = int(example.prompt.split()[2])
        assert example.prompt == f"Would case {number} hold?"
        assert example.answer == ("Yes" if number % 3 == 0 else "No")
        assert example.kind == ("steps=3" if number % 3 == 2 else "steps<=2")
        assert example.data.facts == (f"Fact {number}.", "Another fact.")
        assert len(example.data.decomposition) == 1 + number % 3
        assert (task.rationale(example), task.score(example, example.answer)) == ("", 1.0)


def test_oracle_facts_come_first_and_change_neither_key_nor_split(tmp_path):
    data = written(tmp_path / "q.json", [row(n) for n in range(60)])
    bare, told = (StrategyQaTask(data=data, facts_in_prompt=given) for given in (False, True))
    assert [e.key for e in bare.test()] == [e.key for e in told.test()]
    for one, other in zip(bare.test(), told.test(), strict=True):
        assert other.prompt == f"{' '.join(other.data.facts)} {one.prompt}"


def test_big_bench_rationales_lose_their_leading_answer_only(tmp_path):
    file = tmp_path / "task.json"
    file.write_text(json.dumps({"name": "strategyqa", "examples": [big_bench(n) for n in range(60)]}))
    task = StrategyQaTask(data=str(file))
    for example in [*task.train(), *task.search(), *task.test()]:
        number = int(example.prompt.split()[1])
        assert example.answer == ("Yes" if number % 2 else "No")
        assert task.rationale(example) == f"No. {number} is a number. Yes it is."
        assert example.kind == "question"


def test_official_splits_are_kept_and_search_is_carved_out_of_train(tmp_path):
    written(tmp_path / "strategyqa_train.json", [row(n) for n in range(40)])
    written(tmp_path / "strategyqa_train_filtered.json", [row(n) for n in range(900, 910)])
    written(tmp_path / "dev.jsonl", [row(n) for n in range(100, 120)])
    splits = load(str(tmp_path)).splits
    assert {int(e.question.split()[2]) for e in splits["test"]} == set(range(100, 120))
    assert {int(e.question.split()[2]) for e in splits["train"] + splits["search"]} == {*range(40), *range(900, 910)}
    assert 0 < len(splits["search"]) < 20
    load.cache_clear()
    written(tmp_path / "strategyqa_test_labelled-00000-of-00001.parquet", [row(n) for n in range(200, 210)])
    splits = load(str(tmp_path)).splits
    assert {name: len(entries) for name, entries in splits.items()} == {"test": 10, "search": 20, "train": 50}
    written(tmp_path / "more.json", [row(n) for n in range(300, 310)])
    load.cache_clear()
    with pytest.raises(
        ValueError, match=r"^which split is more\.json\? Its name says none, and others do; rename it to"
    ):
        load(str(tmp_path))


def test_a_question_that_comes_twice_is_one_key_in_one_split(tmp_path):
    again = row(3, question="would CASE 3 hold", facts=[], qid="other")
    data = written(tmp_path / "twice.jsonl", [row(n) for n in range(60)] + [again])
    entries = [entry for entries in load(data).splits.values() for entry in entries]
    assert len({entry.key for entry in entries}) == len(entries) == 60
    assert next(entry for entry in entries if entry.key == "would case 3 hold").item.facts, "the first is kept"
    said = StrategyQaTask(data=data, train_size=0).describe(len)
    assert "left out: 1 rows that ask what another asks" in said
    folder = tmp_path / "folder"
    folder.mkdir()
    written(folder / "train.jsonl", [row(n) for n in range(40)])
    written(folder / "test.jsonl", [row(n) for n in range(30, 50)])
    splits = load(str(folder)).splits
    assert len(splits["test"]) == 20
    assert len(splits["train"]) + len(splits["search"]) == 30


def test_a_question_with_both_answers_is_left_out_and_named(tmp_path):
    torn = [row(3, question="would case 3 hold", answer=False), row(9, answer=False)]
    data = written(tmp_path / "torn.jsonl", [row(n) for n in range(60)] + torn)
    entries = [entry for entries in load(data).splits.values() for entry in entries]
    assert len(entries) == 58
    assert not {"would case 3 hold", "would case 9 hold"} & {entry.key for entry in entries}
    said = StrategyQaTask(data=data, train_size=0).describe(len)
    assert "left out: 2 questions whose rows contradict each other, such as 'Would case 3 hold?'" in said
    data = written(tmp_path / "all.jsonl", [row(n, answer=yes) for n in range(60) for yes in (True, False)])
    with pytest.raises(
        ValueError, match="leaves no question for test and search and train but 60 whose rows contradict"
    ):
        load(data)


def test_questions_that_differ_in_a_sign_or_a_vowel_are_kept(tmp_path):
    asked = [f"Is {a} {sign} {b} above {c}.5?" for a in range(5) for b in range(5) for c in range(2) for sign in "+-*"]
    asked += ["Is it 3.5 m?", "Is it 35 m?", "\u0926\u093f\u0928?", "\u0926\u0940\u0928?"]  # a day, and the poor
    data = written(tmp_path / "signs.jsonl", [row(n, question=question) for n, question in enumerate(asked)])
    assert sum(map(len, load(data).splits.values())) == len(asked) == 154


def test_the_loader_of_hub_data_keeps_its_splits(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "owner"
    folder.mkdir()
    written(folder / "train.jsonl", [row(n) for n in range(40)])
    written(folder / "test.jsonl", [row(n) for n in range(100, 110)])
    splits = load(f"hub:{folder}").splits
    assert {int(e.question.split()[2]) for e in splits["test"]} == set(range(100, 110))
    assert len(splits["train"]) + len(splits["search"]) == 40
    assert splits["test"][0].item.facts[1] == "Another fact."
    with pytest.raises(ValueError, match=r"^data='hub:.*nowhere' cannot be loaded \(.*\); check the name[^\n]*$"):
        load(f"hub:{tmp_path}/nowhere")

    files = [{"split": "train", "path": "train.jsonl"}, {"split": "extra", "path": "test.jsonl"}]
    named = json.dumps([{"config_name": "default", "data_files": files}])
    (folder / "README.md").write_text(f"---\nconfigs: {named}\n---\n")
    load.cache_clear()
    with pytest.raises(ValueError, match=r"^which split is extra\? .*; save the parts that you want as files"):
        load(f"hub:{folder}")


ON_HUB = {"inputs": "Is it?", "targets": ["Yes"], "multiple_choice_targets": ["Yes", "No"],
          "multiple_choice_scores": [1, 0]}  # fmt: skip
FAULTS = {
    "no answer": (row(1, answer=None), r"line 2 has no answer; an unlabelled file"),
    "odd answer": (row(1, answer="maybe"), r"line 2 has the answer 'maybe'; write true or false"),
    "no question": (row(1, question=" "), r"line 2 has the question ' '; write it as text"),
    "no column": ({"text": "Is it?", "answer": True}, r"line 2 has no column 'question', only text, answer"),
    "a conversation": ({"messages": []}, r"line 2 has no column 'question', only messages; conversations are for"),
    "facts": (row(1, facts=[1]), r"line 2 has facts \[1\]; write a list of texts"),
    "rationale": (row(1, rationale=3), r"line 2 has the rationale 3; write it as text"),
    "a list": ([1], r"line 2 is a list; write an object"),
    "two right": (big_bench(1) | {"target_scores": {"Yes": 1, "No": 1}}, r"line 2 has the answer \{'Yes': 1"),
    "a number": ({"inputs": "Is it?", "targets": 3}, r"line 2 has targets 3; write a list of texts"),
    "scores": (ON_HUB | {"multiple_choice_scores": 5}, r"line 2 has multiple_choice_scores 5; write a list of numbers"),
    "scores as text": (ON_HUB | {"multiple_choice_scores": "[1, 0]"}, r"line 2 has multiple_choice_scores '\[1, 0\]'"),
    "lists of choices": (
        ON_HUB | {"multiple_choice_targets": [["Yes"], ["No"]]},
        r"line 2 has multiple_choice_targets \[\['Yes'\], \['No'\]\]; write a list of texts",
    ),
}


@pytest.mark.parametrize(("broken", "message"), FAULTS.values(), ids=FAULTS)
def test_a_broken_row_is_named_in_one_line(tmp_path, broken, message):
    data = written(tmp_path / "q.jsonl", [row(0), broken])
    with pytest.raises(ValueError, match=rf"^[^\n]*q.jsonl: {message}[^\n]*$"):
        load(data)


def test_files_that_cannot_be_used_are_refused_in_one_line(tmp_path):
    def refused(data, message):
        with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
            load(str(data))

    refused(tmp_path / "nowhere", "is not known; use 'generated'")
    refused("", "there is no data; use 'generated'")
    refused(tmp_path, "has no .jsonl, .ndjson, .json, .csv, .tsv, .parquet file")
    for name, text, message in (
        ("a.txt", "x", "is not known; use 'generated', a .jsonl"),
        ("a.json", "[1,", "not valid JSON at line 1"),
        ("b.json", "{}", "holds a dict where a list of rows, or an object with 'examples', is needed"),
        ("c.json", "[]", "holds no question"),
        ("a.jsonl", '{"question"', "line 1: not valid JSON at column 12"),
        ("a.parquet", "no parquet", "a.parquet: cannot be read"),
    ):
        (tmp_path / name).write_text(text)
        refused(tmp_path / name, message)
    (tmp_path / "latin.json").write_bytes('["é"]'.encode("latin-1"))
    refused(tmp_path / "latin.json", "cannot be read")
    refused(written(tmp_path / "few.json", [row(0)]), "leaves no question for")
    refused(tmp_path, "a.json: not valid JSON")
    unnamed = tmp_path / "unnamed"
    unnamed.mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        written(unnamed / name, [row(0)])
    refused(unnamed, "has no train, validation or test file")
    whole = tmp_path / "whole"
    whole.mkdir()
    written(whole / "test.jsonl", [row(n) for n in range(9)])
    written(whole / "dev.jsonl", [row(n) for n in range(10, 19)])
    refused(whole, "has validation and test and no train part")


def test_a_line_separator_inside_a_question_is_no_new_line(tmp_path):
    rows = [row(n) | {"question": f"Is thing {n}\u2028a thing?"} for n in range(40)]
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(one, ensure_ascii=False) for one in rows))
    assert sum(len(entries) for entries in load(str(tmp_path / "q.jsonl")).splits.values()) == 40


def test_the_official_release_is_read_without_what_has_no_answers(tmp_path):
    written(tmp_path / "strategyqa_train.json", [row(n) for n in range(60)])
    unlabelled = {name: value for name, value in row(90).items() if name in ("qid", "question")}
    written(tmp_path / "strategyqa_test.json", [unlabelled])
    paragraphs = {"Llama-1": {"title": "Llama", "content": "Llamas stare."}}
    (tmp_path / "strategyqa_train_paragraphs.json").write_text(json.dumps(paragraphs))
    found = load(str(tmp_path))
    assert found.splits == load(str(tmp_path / "strategyqa_train.json")).splits
    assert found.lines() == [
        "left out: strategyqa_test.json, in which no row has an answer",
        "left out: strategyqa_train_paragraphs.json, in which no row has an answer",
        "not read: columns 'qid' (60 rows)",
    ]
    with pytest.raises(ValueError, match=r"strategyqa_test.json: row 1 has no answer; an unlabelled file cannot be"):
        load(str(tmp_path / "strategyqa_test.json"))
    written(tmp_path / "strategyqa_train.json", [*(row(n) for n in range(60)), unlabelled])
    load.cache_clear()
    with pytest.raises(ValueError, match=r"strategyqa_train.json: row 61 has no answer"):
        load(str(tmp_path))


@pytest.mark.parametrize("scored", [True, False])
def test_big_bench_as_on_the_hub(tmp_path, scored):
    rows = []
    for n in range(60):
        right, wrong = ("Yes", "No") if n % 2 else ("No", "Yes")
        scores = {"multiple_choice_targets": ["Yes", "No"], "multiple_choice_scores": [n % 2, 1 - n % 2]}
        said = right if scored else f"{right}. No wonder, as {n} is {wrong}."
        rows.append({"inputs": f"Q: Does {n} float?\nA:", "targets": [said], "idx": n, **(scores if scored else {})})
    found = load(written(tmp_path / "hub.jsonl", rows))
    entries = [entry for own in found.splits.values() for entry in own]
    assert len(entries) == 60
    for entry in entries:
        n = int(entry.question.split()[1])
        assert (entry.question, entry.answer) == (f"Does {n} float?", "Yes" if n % 2 else "No")
        assert entry.item.rationale == ("" if scored else f"No wonder, as {n} is {'No' if n % 2 else 'Yes'}.")
    assert found.lines() == ["not read: columns 'idx' (60 rows)"]


def test_the_target_of_a_table_is_a_text(tmp_path):
    answers = ["Yes" if n % 2 else "No. It sinks." for n in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["inputs,targets", *(f"Is {n}?,{a}" for n, a in enumerate(answers))]))
    entries = [entry for own in load(str(tmp_path / "a.csv")).splits.values() for entry in own]
    found = {int(entry.question[3:-1]): (entry.answer, entry.item.rationale) for entry in entries}
    assert found == {n: ("Yes", "") if n % 2 else ("No", "It sinks.") for n in range(60)}


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}, {"masked": True}], ids=str)
def test_rows_that_are_not_to_be_learned_are_left_out(tmp_path, mark):
    found = load(written(tmp_path / "a.jsonl", [*(row(n) for n in range(60)), row(90, **mark)]))
    assert sum(map(len, found.splits.values())) == 60
    ((name, value),) = mark.items()
    assert f"left out: 1 rows that the data marks so ({name}: {str(value).lower()})" in found.lines()


def test_columns_are_known_whatever_their_letter_case(tmp_path):
    rows = [row(n, weight=int(n > 1), split=("train", "dev", "test")[n % 3]) for n in range(60)]
    titled = [{name.title(): value for name, value in one.items()} for one in rows]
    plain, other = (load(written(tmp_path / name, own)) for name, own in (("a.jsonl", rows), ("b.jsonl", titled)))
    assert plain.splits == other.splits
    assert [len(plain.splits[split]) for split in SPLITS] == [19, 19, 20]
    for name, found in (("a.jsonl", plain), ("b.jsonl", other)):
        assert found.lines() == [
            f"splits of {name}: as the column 'split' states",
            "left out: 2 rows that the data marks so (weight: 0)",
            f"not read: columns '{'qid' if found is plain else 'Qid'}' (60 rows)",
        ]


def test_preferences_are_called_so(tmp_path):
    rows = [{"prompt": "Is it?", "chosen": "Yes.", "rejected": "No."}]
    with pytest.raises(ValueError, match=r"a.jsonl: line 1: columns 'chosen' and 'rejected' are preferences") as told:
        load(written(tmp_path / "a.jsonl", rows))
    assert "--task.pairs FILE" in str(told.value)


def test_scores_that_are_not_one_for_each_target_are_refused_by_row(tmp_path):
    rows = [{"inputs": "Is it?", "targets": ["Yes"], "multiple_choice_targets": ["Yes", "No"]}] * 2
    rows[1] = rows[1] | {"multiple_choice_scores": [1, 0, 0]}
    told = r"a.jsonl: line 2 has 2 multiple_choice_targets and 3 multiple_choice_scores; give each target a score"
    with pytest.raises(ValueError, match=told):
        load(written(tmp_path / "a.jsonl", rows))


def test_a_column_of_weights_in_kilograms_is_no_mark(tmp_path):
    found = load(written(tmp_path / "a.jsonl", [row(n, weight=n / 2) for n in range(60)]))
    assert sum(map(len, found.splits.values())) == 60
    assert "not read: columns 'qid' (60 rows), 'weight' (60 rows)" in found.lines()
