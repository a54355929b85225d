"""Conversations from files of every layout, what is wrong with a row and where."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from trainables.core import Message
from trainables.tasks.chat.data import load
from trainables.tasks.chat.rows import Conversation

ASKED, SAID = "Why is the sky blue?", "Blue light is scattered most."
EXPECTED = (
    Conversation((Message("user", ASKED), Message("assistant", SAID))),
    Conversation((Message("system", "Be brief."), Message("user", "Add up.\n\n1 and 2"), Message("assistant", "3"))),
)


def chat(*turns):
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def sharegpt(*turns):
    return {"conversations": [{"from": role, "value": text} for role, text in turns]}


GOOD = chat(("user", ASKED), ("assistant", SAID))
ROWS = {
    "chat": [GOOD, chat(("system", "Be brief."), ("user", "Add up.\n\n1 and 2"), ("assistant", "3"))],
    "sharegpt": [
        sharegpt(("human", ASKED), ("gpt", SAID)),
        sharegpt(("system", "Be brief."), ("human", "Add up.\n\n1 and 2"), ("gpt", "3")),
    ],
    "alpaca": [
        {"instruction": ASKED, "input": "", "output": SAID},
        {"instruction": "Add up.", "input": "1 and 2", "output": "3", "system": "Be brief."},
    ],
}


def write(file, rows):
    """Rows (objects, or the very text of a line) in the format that the file's name says."""
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows))
    else:
        file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return file


def numbered(*numbers):
    return [chat(("user", f"question {n}"), ("assistant", f"answer {n}")) for n in numbers]


def asked(conversations):
    return [conversation.prompt for conversation in conversations]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("layout", ROWS)
def test_every_layout_in_every_format_gives_the_same_conversations(tmp_path, layout, suffix):
    rows = ROWS[layout]
    if layout == "alpaca" and suffix == "parquet":  # a table has all columns in every row
        rows = [{"system": None, **row} for row in rows]
    splits = load(str(write(tmp_path / f"sft.{suffix}", rows))).splits
    assert splits == {"train": EXPECTED}
    assert {conversation.layout for conversation in splits["train"]} == {layout}


def test_turns_are_each_reply_with_all_that_came_before():
    first, second = Message("user", "Hi."), Message("user", "And you?")
    talk = Conversation((first, Message("assistant", "Hello."), second, Message("assistant", "Well.")))
    assert talk.turns == (((first,), "Hello."), ((first, Message("assistant", "Hello."), second), "Well."))
    assert talk.prompt == "user: Hi.\nassistant: Hello.\nuser: And you?"
    assert talk.answer == "Well."
    assert EXPECTED[0].prompt == ASKED
    assert EXPECTED[1].prompt == "system: Be brief.\nuser: Add up.\n\n1 and 2"


def test_a_key_is_what_the_user_says_but_for_case_and_punctuation():
    def key(*turns):
        return Conversation(tuple(Message(*turn) for turn in turns)).key

    plain = key(("user", "Why is it so?"), ("assistant", "a"))
    assert plain == key(("system", "s"), ("user", " why IS  it, so"), ("assistant", "b"))
    assert key(("user", "What is 7 - 2?"), ("assistant", "5")) != key(("user", "What is 7 + 2?"), ("assistant", "9"))
    assert plain != key(("user", "Why is it so late?"), ("assistant", "a"))
    assert plain != key(("user", "Why is it so?"), ("assistant", "a"), ("user", "Really?"), ("assistant", "b"))


def test_what_nobody_answers_is_left_off(tmp_path):
    rows = [sharegpt(("human", ASKED), ("gpt", SAID), ("human", "Thanks!"))]
    found = load(str(write(tmp_path / "a.jsonl", rows)))
    assert found.splits["train"] == EXPECTED[:1]
    assert found.lines == ("left out: 1 turns behind the last reply that is learned",)


def turn_with(**marks):
    return {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", **marks}]}


def nested(depth):
    return [] if not depth else [nested(depth - 1)]


BROKEN = {
    "bad JSON": ('{"messages": [', "not valid JSON at column 15"),
    "no object": ('["a"]', "of type list, not an object"),
    "no column": ({"text": "a"}, "no column 'messages'; every chat row needs it"),
    "no list": ({"messages": "a"}, "column 'messages' holds a text that is no JSON; write a list of turns"),
    "no turns": ({"messages": []}, "column 'messages' is an empty list"),
    "no content": ({"messages": [{"role": "user"}]}, "turn 1 is not an object of 'role' and 'content'"),
    "unknown role": (chat(("narrator", "a")), "turn 1 has the role 'narrator'; write system, user, assistant or tool"),
    "empty content": (chat(("user", "a"), ("assistant", " \n")), "turn 2 (assistant) is empty"),
    "no text": (chat(("user", {"a": 1}), ("assistant", "b")), "turn 1 (user) is of type dict; only text"),
    "a picture": (chat(("user", [{"type": "image_url"}])), "turn 1 (user) has a part of type image_url; only text"),
    "a weight": (turn_with(weight=0.5), "turn 2 (assistant): 'weight' is '0.5'; only 0, 1, true and false are read"),
    "a detail": (
        turn_with(train_detail=[{"train": False}]),
        "turn 2 (assistant): 'train_detail' marks parts of a turn",
    ),
    "two systems": ({**chat(("system", "a"), ("user", "b")), "system": "c"}, "the column 'system' and the system turn"),
    "half a character": (chat(("user", "a\ud83d")), "column 'messages' holds half of a character (\\ud83d); repair"),
    "NUL": (chat(("user", "a\0")), "column 'messages' holds a NUL character; repair or remove the row"),
    "brackets": ("[" * 5_000, "brackets nested too deep; flatten or remove the row"),
    "nested": ({**GOOD, "more": nested(200)}, "column 'more' has brackets nested deeper than 100; flatten"),
    "no assistant": (chat(("user", "a")), "no assistant turn, so there is nothing to learn"),
    "assistant first": (chat(("system", "s"), ("assistant", "a")), "the assistant speaks before the user"),
    "two users": (chat(("user", "a"), ("user", "b"), ("assistant", "c")), "turns 1 and 2 are both user; join them"),
    "late system": (chat(("user", "a"), ("system", "b"), ("assistant", "c")), "turn 2 is a system message"),
}


@pytest.mark.parametrize(("row", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_row_is_named_in_one_line(tmp_path, row, reason):
    file = write(tmp_path / "sft.jsonl", [GOOD, "", GOOD, row, GOOD])  # the empty line counts and is no fault
    with pytest.raises(ValueError, match="line 4") as error:
        load(str(file))
    assert str(error.value).startswith(f"{file}, line 4: {reason}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "a"}, "no column 'output'; every alpaca row needs it"),
        ({"instruction": "a", "output": None}, "column 'output' is empty"),
        ({"instruction": "a", "output": 3}, "column 'output' is of type int; only text"),
    ],
)
def test_a_broken_alpaca_row_is_named(tmp_path, row, reason):
    with pytest.raises(ValueError, match="row 3: ") as error:
        load(str(write(tmp_path / "sft.json", [*ROWS["alpaca"], row])))
    assert reason in str(error.value)


def test_the_other_broken_rows_are_counted(tmp_path):
    rows = [GOOD, *(row for row, _ in BROKEN.values())]
    with pytest.raises(ValueError, match=rf"line 2: .* \(and {len(BROKEN) - 1} more broken rows\)$"):
        load(str(write(tmp_path / "sft.jsonl", rows)))


def test_a_row_of_parquet_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"a\.parquet, row 2: turn 2 has the role 'narrator'"):
        load(str(write(tmp_path / "a.parquet", [GOOD, chat(("user", "a"), ("narrator", "b"))])))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASKED, "chosen": SAID, "rejected": "No idea."},
        {"Prompt": [{"role": "user", "content": ASKED}], "Chosen": [], "Rejected": []},
        {**sharegpt(("human", ASKED)), "chosen": {"from": "gpt", "value": SAID}, "rejected": {"from": "gpt"}},
        {"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []},
    ],
)
def test_preferences_are_called_so_with_what_takes_them(tmp_path, row):
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1: columns '\w+' and '\w+' are preferences, which") as told:
        load(str(write(tmp_path / "a.jsonl", [row])))
    assert "sweeps/strategyqa.py learns (--phase dpo --task.pairs FILE)" in str(told.value)
    assert "\n" not in str(told.value)


def test_an_answer_beside_preferences_is_learned(tmp_path):
    found = load(str(write(tmp_path / "a.jsonl", [{**GOOD, "chosen": "a", "rejected": "b"}])))
    assert found.splits == {"train": EXPECTED[:1]}
    assert found.lines == ("not read: columns 'chosen' (1 rows), 'rejected' (1 rows)",)


def test_keys_of_turns_are_known_whatever_their_letter_case(tmp_path):
    turns = [
        {"Role": "user", "Content": "Hi."},
        {"Role": "assistant", "Content": "Wrong.", "Weight": 0},
        {"ROLE": "User", "CONTENT": ASKED},
        {"role": "Assistant", "content": SAID, "Weight": 1},
    ]
    found = load(str(write(tmp_path / "a.jsonl", [{"messages": turns}])))
    assert [one.learned for one in found.splits["train"][0].messages if one.role == "assistant"] == [False, True]
    assert found.lines == ("not learned: 1 assistant turns that the data marks so; they are only read",)
    trl = load(str(write(tmp_path / "b.jsonl", [{"prompt": turns[2:3], "completion": SAID}])))
    assert trl.splits["train"] == EXPECTED[:1]


def test_a_conversation_knows_its_place(tmp_path):
    file = write(tmp_path / "a.jsonl", [GOOD, "", GOOD])
    assert [one.place for one in load(str(file)).splits["train"]] == [f"{file}, line 1", f"{file}, line 3"]


def test_what_is_no_data_at_all(tmp_path):
    known = r"messages \(chat\), conversations \(ShareGPT\), instruction and output \(Alpaca\), or prompt and response"
    with pytest.raises(ValueError, match=f"line 1: columns prompt, text are no known layout; name them {known}"):
        load(str(write(tmp_path / "a.jsonl", [{"text": "a", "prompt": "b"}])))
    with pytest.raises(ValueError, match="holds no rows"):
        load(str(write(tmp_path / "b.jsonl", [])))
    (tmp_path / "c.json").write_text('[\n{"messages": ]')
    with pytest.raises(ValueError, match=r"not valid JSON at line 2.*call it \.jsonl"):
        load(str(tmp_path / "c.json"))
    with pytest.raises(ValueError, match="holds a dict where a list of rows, or an object with 'data', is needed"):
        load(str(write(tmp_path / "d.json", GOOD)))
    (tmp_path / "e.parquet").write_text("no table")
    with pytest.raises(ValueError, match=r"e\.parquet: cannot be read"):
        load(str(tmp_path / "e.parquet"))
    (tmp_path / "f.jsonl").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match=r"f\.jsonl: cannot be read"):
        load(str(tmp_path / "f.jsonl"))
    for unknown in ("", "nowhere.jsonl", str(tmp_path / "a.txt")):
        with pytest.raises(ValueError, match=r"(is not known|there is no data); use 'generated', a \.jsonl"):
            load(unknown)


def test_a_table_with_a_header(tmp_path):
    (tmp_path / "a.csv").write_text(f"prompt,response\n{ASKED},{SAID}\n")
    assert load(str(tmp_path / "a.csv")).splits == {"train": EXPECTED[:1]}
    (tmp_path / "b.csv").write_text("text\nhello\n")
    with pytest.raises(ValueError, match=r"b\.csv, line 2: columns text are no known layout; name them messages"):
        load(str(tmp_path / "b.csv"))


def test_the_letter_case_of_a_tables_header_does_not_matter(tmp_path):
    table = [
        "Instruction,Input,Output,System,Weight,Split,ID",
        f"{ASKED},,{SAID},,1,train,7",
        "Add up.,1 and 2,3,Be brief.,1,test,8",
        "Not this.,,a,,0,train,9",
    ]
    (tmp_path / "a.csv").write_text("\n".join(table))
    found = load(str(tmp_path / "a.csv"))
    assert found.splits == {"train": EXPECTED[:1], "test": EXPECTED[1:]}
    told = ("left out: 1 rows that the data marks so (weight: 0)", "not read: columns 'ID' (2 rows)")
    assert found.lines == told
    both = {"prompt": ASKED, "Prompt": "x", "completion": SAID}
    found = load(str(write(tmp_path / "b.jsonl", [both])))
    assert (found.splits["train"], found.lines) == (EXPECTED[:1], ("not read: columns 'Prompt' (1 rows)",))


def test_a_column_states_the_split_of_a_row_where_no_file_does(tmp_path):
    rows = [{**row, "split": split} for row, split in zip(numbered(1, 2, 3), ("train", "test", "dev"), strict=True)]
    found = load(str(write(tmp_path / "a.jsonl", rows)))
    assert {split: asked(own) for split, own in found.splits.items()} == {
        "train": ["question 1"], "test": ["question 2"], "validation": ["question 3"],
    }  # fmt: skip
    assert found.lines == ()
    rows[2]["split"] = "extra"
    found = load(str(write(tmp_path / "b.jsonl", rows)))
    assert (found.splits.keys(), found.lines) == ({"train"}, ("not read: columns 'split' (3 rows)",))


def test_a_file_of_which_nothing_is_learned(tmp_path):
    rows = [{**row, "weight": 0} for row in numbered(1, 2)]
    with pytest.raises(ValueError, match=r"no conversation to learn; left out: 2 rows that the data marks so \(weight"):
        load(str(write(tmp_path / "a.jsonl", rows)))


def test_a_line_separator_inside_a_text_is_no_new_line(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(chat(("user", "a\u2028b"), ("assistant", "c")), ensure_ascii=False))
    assert asked(load(str(tmp_path / "a.jsonl")).splits["train"]) == ["a\u2028b"]


def test_a_folder_keeps_its_splits_and_each_file_has_its_own_layout(tmp_path):
    write(tmp_path / "train-00000-of-00002.parquet", numbered(1))
    write(tmp_path / "train-00001-of-00002.json", ROWS["alpaca"][:1])
    write(tmp_path / "sft.val.jsonl", numbered(2))
    write(tmp_path / "test.jsonl", numbered(3, 4))
    (tmp_path / "README.md").write_text("no data")
    splits = {name: asked(rows) for name, rows in load(str(tmp_path)).splits.items()}
    assert splits == {
        "train": ["question 1", ASKED], "validation": ["question 2"], "test": ["question 3", "question 4"],
    }  # fmt: skip


def test_a_folder_whose_names_say_no_split_or_two(tmp_path):
    write(tmp_path / "test.jsonl", numbered(1))
    with pytest.raises(ValueError, match="no training rows, only test"):
        load(str(tmp_path))
    extra = write(tmp_path / "sft.jsonl", numbered(2))
    with pytest.raises(
        ValueError, match=r"^which split is sft\.jsonl\? Its name says none, and others do; rename it to"
    ):
        load(str(tmp_path))
    extra = extra.rename(tmp_path / "train_test.jsonl")
    with pytest.raises(ValueError, match=r"^train_test\.jsonl: the name says train and test; rename it to one of"):
        load(str(tmp_path))
    extra.rename(tmp_path / "a.jsonl")
    (tmp_path / "test.jsonl").rename(tmp_path / "b.jsonl")
    assert asked(load(str(tmp_path)).splits["train"]) == ["question 2", "question 1"], "nobody speaks of splits"


def test_a_data_set_that_datasets_loads(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "train.jsonl", numbered(1, 2))
    write(folder / "validation.jsonl", numbered(3))
    splits = {name: asked(rows) for name, rows in load(f"hub:{folder}").splits.items()}
    assert splits == {"train": ["question 1", "question 2"], "validation": ["question 3"]}

    files = [{"split": split, "path": f"{split.split('_')[0]}.jsonl"} for split in ("train_sft", "validation_sft")]
    said = json.dumps([{"config_name": "default", "data_files": files}])
    (folder / "README.md").write_text(f"---\nconfigs: {said}\n---\n")
    assert {name: asked(rows) for name, rows in load(f"hub:{folder}").splits.items()} == splits
    (folder / "README.md").write_text(f"---\nconfigs: {said.replace('validation_sft', 'more')}\n---\n")
    with pytest.raises(
        ValueError, match=r"^which split is more\? .*; save the parts that you want as files called train"
    ):
        load(f"hub:{folder}")
    (folder / "README.md").unlink()

    write(folder / "train.jsonl", [*numbered(1), chat(("user", "a"), ("narrator", "b"))])
    with pytest.raises(ValueError, match=r"set train, row 2: turn 2 has the role 'narrator'"):
        load(f"hub:{folder}")
    with pytest.raises(ValueError, match=r"cannot be loaded \(.*\); check the name and the network") as error:
        load(f"hub:{tmp_path / 'empty'}")
    assert "\n" not in str(error.value)
