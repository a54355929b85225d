"""A user's own questions: layouts of well-known data sets, columns by their names, splits, scores."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet
import pytest

from trainables.tasks.own import task as own_task
from trainables.tasks.own.task import OwnTask

SPLITS = ("train", "search", "test")


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def every(task):
    return [example for split in SPLITS for example in task.split(split)]


def sums(count=60):
    return [{"question": f"What is {n} + 3?", "answer": n + 3} for n in range(count)]


def told(task):
    return "\n".join(task.describe(len))


def test_gsm8k_answers_end_with_their_number(tmp_path):
    rows = [
        {"question": f"{n} pens and 2?", "answer": f"{n} and 2 is {n + 2}.\n#### {n + 2:,}"} for n in range(999, 1040)
    ]
    task = OwnTask(jsonl(tmp_path / "gsm8k.jsonl", rows))
    assert task.rule == "number"
    example = every(task)[0]
    right = int(example.answer.split("#### ")[1].replace(",", ""))
    assert task.score(example, f"So 7 of them.\n#### {right}") == 1
    assert task.score(example, f"It is ${right:,}.00.") == 1
    assert task.score(example, f"{right} or {right + 1}") == 0
    assert task.score(example, f"#### {right + 1}") == 0
    assert task.score(example, "many") == 0


def test_commonsenseqa_as_on_the_hub_and_as_published(tmp_path):
    texts = ["bank", "library", "mall"]
    flat = [
        {"question": f"Where is {n}?", "choices": {"label": ["A", "B", "C"], "text": texts}, "answerKey": "ABC"[n % 3]}
        for n in range(60)
    ]
    inner = [{"label": label, "text": text} for label, text in zip("ABC", texts, strict=True)]
    deep = [{"question": {"stem": row["question"], "choices": inner}, "answerKey": row["answerKey"]} for row in flat]
    task = OwnTask(jsonl(tmp_path / "flat.jsonl", flat))
    named = OwnTask(jsonl(tmp_path / "deep.jsonl", deep), "question.stem", "answerKey", ("question.choices",))
    assert [(e.prompt, e.answer) for e in every(task)] == [(e.prompt, e.answer) for e in every(named)]
    example = next(e for e in every(task) if e.answer == "B")
    assert example.prompt.endswith("\nA. bank\nB. library\nC. mall")
    assert task.chance == pytest.approx(1 / 3)
    assert [task.score(example, said) for said in ("B", " (B)", "B. library", "Library.")] == [1, 1, 1, 1]
    assert [task.score(example, said) for said in ("A", "B or C", "Books are there", "A. bank, not B")] == [0, 0, 0, 0]
    assert task.details(example, "the library")["lenient"] == 1
    with pytest.raises(ValueError, match=r"holds an object; name a part of it, such as question\.stem"):
        OwnTask(named.data).train()


@pytest.mark.parametrize("first", [0, 1])
def test_choices_in_columns_and_answers_by_number(tmp_path, first):
    rows = [
        {"question": f"Which is {n}?", "choice_a": "red", "choice_b": "blue", "answer": n % 2 + first}
        for n in range(60)
    ]
    task = OwnTask(jsonl(tmp_path / "my.jsonl", rows))
    assert all(e.answer == "AB"[int(e.prompt.split()[2].rstrip("?")) % 2] for e in every(task))


def test_svamp_has_a_body_before_its_question(tmp_path):
    rows = [{"Body": f"Ann has {n} figs.", "Question": "How many?", "Answer": float(n)} for n in range(40)]
    (tmp_path / "svamp.json").write_text(json.dumps(rows))
    task = OwnTask(str(tmp_path / "svamp.json"))
    example = every(task)[0]
    assert example.prompt == f"Ann has {example.answer} figs.\nHow many?", "a whole number is written as one"
    assert task.rule == "number"
    assert "prompt: '{Body}\\n{Question}'; answer: column 'Answer'" in told(task)


def test_a_table_with_answers_of_several_lines(tmp_path):
    with (tmp_path / "my.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows(
            [["Prompt", "Response"], *([f"Say {n}", f"So it is:\n{n}, twice"] for n in range(40))]
        )
    example = every(OwnTask(str(tmp_path / "my.csv")))[0]
    assert example.answer == f"So it is:\n{example.prompt.split()[1]}, twice"
    assert example.data.place.startswith("my.csv line ")


def test_a_template_over_columns(tmp_path):
    rows = [{"fact": f"x{n} is big", "ask": f"Is x{n}?", "said": "yes"} for n in range(40)]
    task = OwnTask(jsonl(tmp_path / "my.jsonl", rows), r"{fact}\n\nQ: {ask}", "said")
    assert every(task)[0].prompt.split("\n\nQ: ")[0].endswith("is big")
    with pytest.raises(ValueError, match=r"which column is the answer\? Columns are fact, ask, said"):
        OwnTask(task.data).train()
    with pytest.raises(ValueError, match=r"prompt names the column 'facts'; columns are fact, ask, said"):
        OwnTask(task.data, "{facts}", "said").train()


def test_splits_are_those_of_a_column_of_files_or_of_a_hash(tmp_path):
    rows = [row | {"part": ("train", "dev", "test")[n % 3]} for n, row in enumerate(sums())]
    by_column = OwnTask(jsonl(tmp_path / "my.jsonl", rows), split_by="part")
    folder = tmp_path / "folder"
    folder.mkdir()
    for part in ("train", "dev", "test"):
        jsonl(folder / f"my.{part}.jsonl", [row for row in rows if row["part"] == part])
    by_file = OwnTask(str(folder))
    for split in SPLITS:
        assert [e.prompt for e in by_column.split(split)] == [e.prompt for e in by_file.split(split)]
    assert len(by_file.search()) == 20
    by_hash, more = OwnTask(by_column.data), OwnTask(jsonl(tmp_path / "more.jsonl", rows + sums(90)[60:]))
    for split in SPLITS:
        assert {e.prompt for e in by_hash.split(split)} < {e.prompt for e in more.split(split)}, (
            "rows stay where they were"
        )


def test_test_questions_are_put_in_order_once(tmp_path, monkeypatch):
    hashed, plain = [], own_task.hash_fraction
    monkeypatch.setattr(own_task, "hash_fraction", lambda text: hashed.append(text) or plain(text))
    task = OwnTask(jsonl(tmp_path / "my.jsonl", sums(90)))
    first = task.test()
    assert len(hashed) == len(first) > 5
    assert task.test() == first
    assert task.test_up_to(2000) == first
    assert OwnTask(task.data, test_size=5).test() == first[:5]
    assert len(hashed) == len(first), "a copy of the task needs no other order"
    OwnTask(task.data, seed=1).test()
    assert len(hashed) == 2 * len(first), "another seed has another order"


def test_the_first_test_questions_are_a_fair_sample_of_sorted_rows(tmp_path):
    """All answers "no" come after all answers "yes" in the file. More questions follow those that were asked first."""
    rows = [{"question": f"Is {n} small?", "answer": "yes" if n < 500 else "no"} for n in range(1000)]
    data = jsonl(tmp_path / "my.test.jsonl", rows)
    for size in (0, 400, 1000, 5000):
        task = OwnTask(data, test_size=size)
        some = [example.answer for example in task.test()[:100]]
        assert 30 < some.count("yes") < 70, size
        assert task.test_up_to(2000)[: len(task.test())] == task.test(), size


def test_rows_of_a_group_share_a_split(tmp_path):
    rows = [row | {"page": n // 6} for n, row in enumerate(sums(120))]
    task = OwnTask(jsonl(tmp_path / "my.jsonl", rows), group="page")
    pages = [{e.data.columns["page"] for e in task.split(split)} for split in SPLITS]
    assert all(pages)
    assert sum(map(len, pages)) == 20
    assert len({e.key for e in every(task)}) == 20, "guards and intervals count groups"


def test_rows_without_a_group_share_nothing(tmp_path):
    rows = [row | {"page": n // 6 if n < 60 else None} for n, row in enumerate(sums(120))]
    task = OwnTask(jsonl(tmp_path / "my.jsonl", rows), group="page")
    assert len({e.key for e in every(task)}) == 10 + 60


def test_a_long_list_of_columns_is_cut(tmp_path):
    data = jsonl(tmp_path / "my.jsonl", [{f"c{n}": n for n in range(300)}])
    with pytest.raises(
        ValueError, match=r"which column is the answer\? Columns are c0, c1, .*, c19 and 280 more; give"
    ):
        OwnTask(data).train()


def test_repeated_questions_are_left_out_and_named(tmp_path):
    rows = [*sums(), {"question": "What is 1 + 3?", "answer": 4}, {"question": "What is 2 + 3?", "answer": 6}]
    task = OwnTask(jsonl(tmp_path / "my.jsonl", rows))
    assert len(every(task)) == 60
    assert "left out: 1 row (my.jsonl line 61) that repeat" in told(task)
    assert "left out: 1 row (my.jsonl line 62) that give another answer" in told(task)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"question": "Who?", "answer": None}, "my.jsonl line 61 has no answer"),
        ({"question": " ", "answer": "Ann"}, "my.jsonl line 61: the prompt is empty"),
        (["Who?"], "my.jsonl line 61: is a list"),
    ],
)
def test_a_broken_row_is_named(tmp_path, row, fault):
    with pytest.raises(ValueError, match=fault):
        OwnTask(jsonl(tmp_path / "my.jsonl", [*sums(), row])).train()


def test_a_part_without_any_answer_is_left_out(tmp_path):
    jsonl(tmp_path / "train.jsonl", sums())
    jsonl(tmp_path / "dev.jsonl", [{"question": f"{n} + 3?", "answer": n + 3} for n in range(9)])
    jsonl(tmp_path / "test.jsonl", [{"question": f"And {n}?", "answer": ""} for n in range(9)])
    task = OwnTask(str(tmp_path))
    assert "left out: test.jsonl, in which no row has an answer" in told(task)
    assert len(task.test()) == 9, "one of validation and test is the test split"


def test_parquet_is_read_and_texts_are_ranked_by_likelihood(tmp_path):
    texts = [f"A long answer with {n} in it, which may be said in many other words." for n in range(40)]
    table = pa.table({"instruction": [f"Tell of {n}" for n in range(40)], "input": [""] * 40, "output": texts})
    pyarrow.parquet.write_table(table, tmp_path / "my.parquet")
    task = OwnTask(str(tmp_path / "my.parquet"))
    assert task.ranks_by_likelihood
    assert "score: likelihood (answers are texts" in told(task)
    assert every(task)[0].prompt.startswith("Tell of"), "no blank lines for an empty input"


def test_a_pattern_compares_what_it_finds(tmp_path):
    rows = [{"question": f"Colour {n}?", "answer": f"Think {n}. Answer: {('red', 'blue')[n % 2]}"} for n in range(40)]
    task = OwnTask(jsonl(tmp_path / "my.jsonl", rows), scoring=r"regex:Answer: (\w+)")
    example = next(e for e in every(task) if e.answer.endswith("red"))
    assert [task.score(example, said) for said in ("Answer: Red", "Answer: blue", "red")] == [1, 0, 0]
    with pytest.raises(ValueError, match="is no regular expression"):
        OwnTask(task.data, scoring="regex:(")
    with pytest.raises(ValueError, match="score 'fuzzy' is not known; give one of exact, contains"):
        OwnTask(task.data, scoring="fuzzy")


def test_trivial_strategies(tmp_path):
    rows = [{"question": f"Is {n} even, yes or no?", "answer": "yes" if n % 4 else "no"} for n in range(80)]
    task = OwnTask(jsonl(tmp_path / "my.jsonl", rows), scoring="exact")
    yes = [e.answer for e in task.search()].count("yes") / len(task.search())
    found = task.baselines()
    assert (found["constant"], found["majority"], found["copy"]) == (yes, yes, 0)
    assert task.chance == 0.5
    assert OwnTask(task.data, scoring="contains").baselines()["copy"] == 1, "the prompt says both"


@dataclass
class Letters:
    """A base whose tokens are letters."""

    limit: float

    def is_too_long(self, example, more):
        return len(example.prompt + example.answer) + more > self.limit

    def answer(self, example):
        return len(example.answer) + 1


def test_rows_that_are_too_long_for_a_base_are_left_out_by_name(tmp_path):
    rows = [*sums(), {"question": "x" * 500, "answer": 1}]
    task = OwnTask(jsonl(tmp_path / "my.jsonl", rows)).fitted([Letters(100), Letters(1000)])
    assert task.without == ("my.jsonl line 61",)
    assert len(every(task)) == 60
    assert "left out: 1 row (my.jsonl line 61), too long" in told(task)
    assert task.max_new_tokens == 2 + 1 + 8
    with pytest.raises(ValueError, match="every row is too long"):
        OwnTask(task.data).fitted([Letters(5)])
    with pytest.raises(ValueError, match=r"no row is at 'line 61'; a place is written as 'my\.jsonl line 1'"):
        OwnTask(task.data, without=("line 61",)).train()


def test_what_is_not_read_and_what_is_not_to_be_learned_are_told(tmp_path):
    rows = [row | {"id": n, "weight": int(n > 2)} for n, row in enumerate(sums())]
    task = OwnTask(jsonl(tmp_path / "my.jsonl", rows))
    assert len(every(task)) == 57
    assert (
        "left out: 3 rows (my.jsonl line 1, my.jsonl line 2, my.jsonl line 3) that the data marks so (weight: 0)\n"
        "not read: columns 'id' (57 rows)"
    ) in told(task)
    asked = OwnTask(task.data, "{question} {weight}")
    assert len(every(asked)) == 60, "a column that is a part of the question marks nothing"
    rows = [row | {"weight": n / 2, "history": ["a"]} for n, row in enumerate(sums())]
    assert "not read: columns 'weight' (60 rows), 'history' (60 rows)" in told(
        OwnTask(jsonl(tmp_path / "kilograms.jsonl", rows))
    )


def test_columns_with_a_meaning_are_known_whatever_their_letter_case(tmp_path):
    rows = [row | {"Weight": int(n > 2), "SPLIT": ("train", "dev", "test")[n % 3]} for n, row in enumerate(sums())]
    task = OwnTask(jsonl(tmp_path / "my.jsonl", rows))
    assert [len(task.split(split)) for split in SPLITS] == [19, 19, 19]
    said = told(task)
    assert "splits as column 'SPLIT' states: train 19, search 19, test 19" in said
    assert (
        "left out: 3 rows (my.jsonl line 1, my.jsonl line 2, my.jsonl line 3) that the data marks so (Weight: 0)"
        in said
    )
    assert "not read" not in said
    assert "Weight" in task.train()[0].data.columns, "a function of the user's own sees the row as it is"


def test_preferences_are_called_so(tmp_path):
    rows = [{"prompt": f"Say {n}", "chosen": f"It is {n}", "rejected": "No"} for n in range(40)]
    task = OwnTask(jsonl(tmp_path / "my.jsonl", rows))
    with pytest.raises(ValueError, match=r"^columns 'chosen' and 'rejected' are preferences, which only sweeps/strat"):
        task.train()
    assert every(OwnTask(task.data, answer="chosen"))[0].answer.startswith("It is"), "as asked"


def test_choices_without_a_label_each_are_refused_by_row(tmp_path):
    choices = [{"label": ["A", "B"], "text": ["bank", "mall"]}, {"label": ["A", "B", "C"], "text": ["bank", "mall"]}]
    rows = [{"question": f"Where {n}?", "choices": one, "answer": "A"} for n, one in enumerate(choices)]
    with pytest.raises(ValueError, match=r"my.jsonl line 2: column 'choices' holds 3 labels and 2 texts; give each"):
        OwnTask(jsonl(tmp_path / "my.jsonl", rows)).train()


def test_data_of_which_nothing_is_to_be_learned_is_told_with_its_mark(tmp_path):
    data = jsonl(tmp_path / "my.jsonl", [row | {"weight": 0} for row in sums()])
    with pytest.raises(ValueError, match=r"no question to learn; left out: 60 rows .*\(weight: 0\): remove the mark"):
        OwnTask(data).train()


def test_conversations_are_for_another_sweep(tmp_path):
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
    with pytest.raises(ValueError, match=r"Columns are messages; conversations are for sweeps/style\.py, or give"):
        OwnTask(jsonl(tmp_path / "my.jsonl", rows)).train()
