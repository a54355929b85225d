"""Tables as people save them: quoted lines, a byte order mark, semicolons, broken rows."""

import json

import pytest

from trainables.tasks.files.records import BadLine, read


def rows(tmp_path, text, name="my.csv"):
    (tmp_path / name).write_bytes(text.encode("utf-8"))
    return list(read(tmp_path / name))


def test_an_answer_with_several_lines_behind_a_byte_order_mark(tmp_path):
    table = '\ufeffquestion,answer\r\nWho?,"Ann,\nand ""Ben"""\r\n\r\nWhere?,Rome\r\n'
    assert rows(tmp_path, table) == [
        ("line 2", {"question": "Who?", "answer": 'Ann,\nand "Ben"'}),
        ("line 5", {"question": "Where?", "answer": "Rome"}),
    ]


@pytest.mark.parametrize(("name", "between"), [("my.csv", ";"), ("my.csv", "\t"), ("my.tsv", "\t")])
def test_other_delimiters(tmp_path, name, between):
    ((_, row),) = rows(tmp_path, f"question{between}answer\nOne, two?{between}yes\n", name)
    assert row == {"question": "One, two?", "answer": "yes"}


def test_a_row_with_a_cell_too_many_is_named(tmp_path):
    (_, (place, row)) = rows(tmp_path, "question,answer\nWho?,Ann\nOne, two?,yes\n")
    assert place == "line 3"
    assert isinstance(row, BadLine)
    assert "3 cells, and the first line names 2" in str(row)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('question,answer\nWho?,Ann\nWhere?,"Rome\n', "row that begins on line 3"),
        ("question,question\na,b\n", "two columns are called 'question'"),
        ('"prompt"s,completion\na,b\n', "row that begins on line 1: "),
    ],
)
def test_a_table_that_cannot_be_read_is_told_in_one_line(tmp_path, text, told):
    with pytest.raises(ValueError, match=told) as error:
        rows(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_long_cell_is_read(tmp_path):
    ((_, row),) = rows(tmp_path, f"question,answer\nWho?,{'x' * 200_000}\n")
    assert len(row["answer"]) == 200_000


@pytest.mark.parametrize("between", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["my.json", "my.jsonl"])
def test_lines_and_lists_are_told_apart_whatever_the_suffix_and_behind_a_byte_order_mark(tmp_path, name, between):
    lines = ['{"a": 1}', '{"a": "b\u2028c"}']
    told = [{"a": 1}, {"a": "b\u2028c"}]
    assert [row for _, row in rows(tmp_path, "\ufeff" + between.join(lines) + between, name)] == told
    assert [row for _, row in rows(tmp_path, f"\ufeff[{f',{between}'.join(lines)}]", name)] == told


def test_an_object_of_objects_is_their_list(tmp_path):
    assert rows(tmp_path, '{"x": {"a": 1}, "y": {"a": 2}}', "my.json") == [("row 1", {"a": 1}), ("row 2", {"a": 2})]


@pytest.mark.parametrize(
    ("cell", "told"),
    [("a\ud83d", r"column 'q' holds half of a character (\ud83d)"), ("a\0", "column 'q' holds a NUL character")],
)
def test_broken_text_is_told_with_its_row(tmp_path, cell, told):
    text = json.dumps({"q": "a"}) + "\n" + json.dumps({"q": {"deep": [cell]}})
    (_, (place, row)) = rows(tmp_path, text, "my.jsonl")
    assert place == "line 2"
    assert isinstance(row, BadLine)
    assert str(row) == f"{told}; repair or remove the row"


def test_a_table_with_nul_names_the_row(tmp_path):
    (_, (place, row)) = rows(tmp_path, "q,a\nb,c\nd\0,e\n")
    assert (place, str(row)) == ("line 3", "column 'q' holds a NUL character; repair or remove the row")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[" * 100_000, r"cannot be read \(brackets nested too deep\)"),
        ("é".encode("latin-1"), r"no UTF-8 text: byte 0xe9 at 0, save it as UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path, content, told):
    (tmp_path / "my.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"my\.json: .*{told}") as error:
        read(tmp_path / "my.json")
    assert "\n" not in str(error.value)


def test_the_line_for_excel_that_states_the_delimiter_is_no_row(tmp_path):
    assert rows(tmp_path, "sep=|\r\nquestion|answer\r\nOne, two; three?|yes\r\n") == [
        ("line 3", {"question": "One, two; three?", "answer": "yes"})
    ]


@pytest.mark.parametrize(
    "table",
    [
        {"question": {"0": "Who?", "1": "Where?"}, "answer": {"0": "Ann", "1": "Rome"}},
        {"question": ["Who?", "Where?"], "answer": ["Ann", "Rome"]},
    ],
)
def test_columns_as_pandas_writes_them_are_rows(tmp_path, table):
    assert rows(tmp_path, json.dumps(table), "my.json") == [
        ("row 1", {"question": "Who?", "answer": "Ann"}),
        ("row 2", {"question": "Where?", "answer": "Rome"}),
    ]


@pytest.mark.parametrize(
    "content",
    [{"train": [{"a": 1}], "test": [{"a": 2}]}, {"a": [1, 2], "b": [1]}, {"a": [1, 2]}, {"a": [1], "b": "c"}],
)
def test_an_object_that_is_no_table_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="holds a dict where a list of rows is needed"):
        rows(tmp_path, json.dumps(content), "my.json")
