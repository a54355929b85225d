"""Tables as people save them: quoted lines, a byte order mark, semicolons, broken rows."""

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
    ],
)
def test_a_table_that_cannot_be_read_is_told_in_one_line(tmp_path, text, told):
    with pytest.raises(ValueError, match=told) as error:
        rows(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_long_cell_is_read(tmp_path):
    ((_, row),) = rows(tmp_path, f"question,answer\nWho?,{'x' * 200_000}\n")
    assert len(row["answer"]) == 200_000
