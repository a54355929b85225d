"""Other spellings of conversations, what is not learned because the data says so, and what is not read."""

import json

import pytest

from trainables.core import Message
from trainables.tasks.chat.rows import Conversation, conversation, layout_of
from trainables.tasks.chat.turns import BrokenRow, Notes

ASKED, SAID = Message("user", "Hi?"), Message("assistant", "Ho.")
SYSTEM = Message("system", "Be brief.")


def read(row):
    """The conversation of a row, and what is said of it."""
    notes = Notes()
    return conversation(row, layout_of(row), notes), notes.lines()


def turns(*said, role="role", text="content"):
    return [{role: who, text: what} for who, what in said]


TALK = turns(("user", "Hi?"), ("assistant", "Ho."))
SPELLINGS = {
    "sharegpt with chat's roles": {
        "conversations": turns(("user", "Hi?"), ("assistant", "Ho."), role="from", text="value")
    },
    "sharegpt with chat's keys": {"conversations": TALK},
    "chat with sharegpt's roles": {"messages": turns(("Human", "Hi?"), ("GPT", "Ho."))},
    "one conversation": {"conversation": TALK},
    "bots": {"conversations": turns(("user", "Hi?"), ("bot", "Ho."), role="from", text="text")},
    "AIs": {"messages": turns(("human", "Hi?"), ("ai", "Ho."))},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}, TALK[1]]},
    "JSON text": {"messages": json.dumps(TALK)},
    "Python text": {"messages": str(TALK)},
    "prompt and completion": {"prompt": "Hi?", "completion": "Ho."},
    "turns as prompt and completion": {"prompt": TALK[:1], "completion": TALK[1:]},
    "a table's header": {"Question": "Hi?", "Answer": "Ho."},
    "no pictures": {"messages": TALK, "images": [], "tools": None, "weight": "1"},
}


@pytest.mark.parametrize("row", SPELLINGS.values(), ids=SPELLINGS)
def test_other_spellings_are_the_same_conversation(row):
    assert read(row) == (Conversation((ASKED, SAID)), [])


def test_text_parts_are_lines():
    row = {"messages": [{"role": "user", "content": ["Hi", {"type": "text", "text": "you?"}]}, TALK[1]]}
    assert read(row)[0].messages[0].content == "Hi\nyou?"


@pytest.mark.parametrize("name", ["system", "system_prompt", "system_message"])
@pytest.mark.parametrize("row", [{"messages": TALK}, {"instruction": "Hi?", "output": "Ho."}], ids=["turns", "alpaca"])
def test_a_system_column_goes_in_front(row, name):
    assert read({**row, name: "Be brief."}) == (Conversation((SYSTEM, ASKED, SAID)), [])
    assert read({**row, name: ""}) == (Conversation((ASKED, SAID)), [])


def test_a_system_column_beside_the_same_system_turn_is_one():
    row = {"messages": [{"role": "system", "content": "Be brief."}, *TALK], "system": "Be brief."}
    assert read(row) == (Conversation((SYSTEM, ASKED, SAID)), [])


@pytest.mark.parametrize("history", [[["a", "b"], ["c", "d"]], '[["a", "b"], ["c", "d"]]'], ids=["list", "text"])
def test_a_history_comes_before_the_question_and_behind_the_system_turn(history):
    found, lines = read({"instruction": "Hi?", "output": "Ho.", "system": "Be brief.", "history": history})
    said = [SYSTEM.content, "a", "b", "c", "d", "Hi?", "Ho."]
    assert ([one.content for one in found.messages], lines) == (said, [])
    assert [turn.reply for turn in found.turns] == ["b", "d", "Ho."]
    with pytest.raises(BrokenRow, match=r"history 1 is no pair of a question and its answer"):
        read({"instruction": "Hi?", "output": "Ho.", "history": [["a"]]})


MARKS = [{"weight": 0}, {"weight": 0.0}, {"weight": "0"}, {"train": False}, {"training": "false"}, {"masked": True},
         {"loss_mask": 0}, {"loss_weight": 0.0}, {"trainable": False}]  # fmt: skip


@pytest.mark.parametrize("mark", [*MARKS, {"loss": False}], ids=str)
def test_a_marked_reply_is_read_and_not_learned(mark):
    found, lines = read({"messages": [TALK[0], {**TALK[1], **mark}, *turns(("user", "No."), ("assistant", "Hu."))]})
    assert [(one.content, one.learned) for one in found.messages[1::2]] == [("Ho.", False), ("Hu.", True)]
    assert [turn.reply for turn in found.turns] == ["Hu."]
    assert lines == ["not learned: 1 assistant turns that the data marks so; they are only read"]
    found, lines = read({"messages": [*TALK, TALK[0], {**TALK[1], **mark}]})
    assert found == Conversation((ASKED, SAID)), "the last reply is not asked for either"
    assert read({"messages": [TALK[0], {**TALK[1], **mark}]}) == (
        None,
        ["left out: 1 rows without an assistant turn that may be learned"],
    )


@pytest.mark.parametrize("mark", MARKS, ids=str)
@pytest.mark.parametrize("row", [{"messages": TALK}, {"prompt": "Hi?", "response": "Ho."}], ids=["turns", "pair"])
def test_a_marked_row_is_left_out(row, mark):
    ((name, value),) = mark.items()
    assert read({**row, **mark}) == (None, [f"left out: 1 rows that the data marks so ({name}: {str(value).lower()})"])


def test_a_loss_of_a_row_is_a_number_that_is_not_read():
    assert read({"messages": TALK, "loss": 0}) == (Conversation((ASKED, SAID)), ["not read: columns 'loss' (1 rows)"])


@pytest.mark.parametrize("mark", [{"weight": 1}, {"train": True}, {"masked": False}, {"weight": None}], ids=str)
def test_a_mark_that_says_yes_changes_nothing(mark):
    assert read({"messages": [TALK[0], {**TALK[1], **mark}], **mark}) == (Conversation((ASKED, SAID)), [])


def test_of_a_conversational_prompt_only_the_completion_is_learned():
    found, _ = read({"prompt": [*TALK, TALK[0]], "completion": turns(("assistant", "Hu."))})
    assert [turn.reply for turn in found.turns] == ["Hu."]


def test_an_answer_that_nobody_wants_is_left_out():
    row = {"prompt": "Hi?", "completion": "Ho."}
    assert read({**row, "label": True}) == (Conversation((ASKED, SAID)), [])
    assert read({**row, "label": False}) == (None, ["left out: 1 rows with an answer that nobody wants (label: false)"])


def test_what_is_not_read_is_counted():
    notes = Notes()
    rows = [{"messages": [{**TALK[0], "name": "Ann", "weight": 1}, TALK[1]], "id": n, "history": "x"} for n in range(3)]
    for row in [*rows, {"messages": TALK, "id": None}]:
        assert conversation(row, layout_of(row), notes) == Conversation((ASKED, SAID))
    assert notes.lines() == [
        "not read: columns 'id' (3 rows), 'history' (3 rows)",
        "not read: keys of turns 'name' (3 turns), 'weight' (3 turns)",
    ]


@pytest.mark.parametrize("name", ["images", "image", "audio", "videos"])
def test_what_is_more_than_text_is_left_out(name):
    told = [f"left out: 1 rows with {name}, of which only the text could be learned"]
    assert read({"messages": TALK, name: ["a.png"]}) == (None, told)


CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
SCHEMA = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}
RESULT = {"role": "tool", "content": "3"}
CALLING = {  # spellings of an assistant's turn that calls a tool
    "tool_calls": {"role": "assistant", "content": None, "tool_calls": [CALL]},
    "JSON arguments": {
        "role": "assistant",
        "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}],
    },
    "JSON calls": {"role": "assistant", "content": "", "tool_calls": json.dumps([CALL])},
    "flat": {"role": "assistant", "content": "", "tool_calls": [CALL["function"]]},
    "OpenAI's first": {"role": "assistant", "content": None, "function_call": CALL["function"]},
    "ShareGPT's": {"from": "function_call", "value": json.dumps(CALL["function"])},
}


@pytest.mark.parametrize("turn", CALLING.values(), ids=CALLING)
def test_calls_of_tools_are_read_in_every_spelling(turn):
    found, lines = read({"messages": [TALK[0], turn, RESULT, TALK[1]], "tools": json.dumps([SCHEMA])})
    call, result = found.messages[1:3]
    assert (call.role, call.content, json.loads(call.more)) == ("assistant", "", {"tool_calls": [CALL]})
    assert result == Message("tool", "3")
    assert json.loads(found.tools) == [{"type": "function", "function": SCHEMA}]
    assert [json.loads(turn.reply) if "add" in turn.reply else turn.reply for turn in found.turns] == [
        {"tool_calls": [CALL]}, "Ho.",
    ]  # fmt: skip
    assert (found.uses_tools, lines) == (True, [])


def test_ids_and_names_of_calls_are_kept_and_other_keys_counted():
    turn = {"role": "assistant", "content": "Well.", "name": "Ann", "tool_calls": [{"id": "x1", **CALL}]}
    result = {**RESULT, "tool_call_id": "x1", "name": "add", "artifact": 1}
    found, lines = read({"messages": [{**TALK[0], "tool_calls": [CALL]}, turn, result, TALK[1]]})
    assert json.loads(found.messages[1].more) == {"tool_calls": [{"id": "x1", **CALL}]}
    assert json.loads(found.messages[2].more) == {"tool_call_id": "x1", "name": "add"}
    assert lines == ["not read: keys of turns 'tool_calls' (1 turns), 'name' (1 turns), 'artifact' (1 turns)"]


@pytest.mark.parametrize(
    "tools",
    [[SCHEMA], [{"type": "function", "function": SCHEMA}], json.dumps([SCHEMA]), [json.dumps(SCHEMA)], SCHEMA,
     [{**SCHEMA, "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "c": None}}}]],
)  # fmt: skip
@pytest.mark.parametrize("column", ["tools", "functions"])
def test_tools_are_read_in_every_spelling(tools, column):
    found, lines = read({"prompt": "Hi?", "response": "Ho.", column: tools})
    assert json.loads(found.tools) == [{"type": "function", "function": SCHEMA}]
    assert (found.messages, found.uses_tools, lines) == ((ASKED, SAID), True, [])


def test_a_tool_that_a_service_has_built_in_has_no_name():
    found, _ = read({"messages": TALK, "tools": [{"type": "web_search"}]})
    assert json.loads(found.tools) == [{"type": "web_search"}]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": TALK, "tools": "add, subtract"}, "column 'tools': tool 1 has no name; write a list of JSON"),
        ({"messages": TALK, "tools": [SCHEMA, {"parameters": {}}]}, "column 'tools': tool 2 has no name"),
        (
            {"messages": [TALK[0], {"role": "assistant", "tool_calls": [{"arguments": {}}]}]},
            "turn 2 (assistant) calls a tool without a name; write {",
        ),
        (
            {"messages": [TALK[0], {"from": "function_call", "value": "add(1, 2)"}]},
            "turn 2 (assistant) calls a tool without a name; write {",
        ),
        (
            {"messages": [TALK[0], {"role": "assistant", "function_call": {"name": "add", "arguments": "{1"}}]},
            "turn 2 (assistant): the arguments of add are no JSON object; repair or remove the row",
        ),
    ],
)
def test_broken_tools_are_told(row, reason):
    with pytest.raises(BrokenRow) as error:
        read(row)
    assert str(error.value).startswith(reason)


def called(found):
    """The calls of the second turn."""
    return json.loads(found.messages[1].more)["tool_calls"]


def call_of(name="get", **more):
    return {"messages": [TALK[0], {"role": "assistant", "function_call": {"name": name, **more}}, RESULT, TALK[1]]}


def test_arguments_of_a_call_may_be_called_parameters():
    found, lines = read(call_of(parameters={"city": "Paris"}))
    assert (called(found)[0]["function"], lines) == ({"name": "get", "arguments": {"city": "Paris"}}, [])
    found, lines = read(call_of(arguments={"a": 1}, parameters={"b": 2}, comment="x"))
    assert called(found)[0]["function"]["arguments"] == {"a": 1}
    assert lines == ["not read: keys of turns 'calls: parameters' (1 turns), 'calls: comment' (1 turns)"]


def test_arguments_have_no_keys_that_a_table_added():
    found, _ = read(call_of(arguments={"city": "Paris", "currency": None, "at": [{"x": 1, "y": None}]}))
    assert called(found)[0]["function"]["arguments"] == {"city": "Paris", "at": [{"x": 1}]}
    found, _ = read(call_of(arguments='{"city": null}'))
    assert called(found)[0]["function"]["arguments"] == {"city": None}, "a text says what its writer meant"


def test_empty_tools_written_as_text_are_none():
    for empty in ("[]", "null", "{}", " "):
        row = {"messages": [{**TALK[0], "tool_calls": empty}, {**TALK[1], "tool_calls": empty}], "tools": empty}
        found, lines = read(row)
        assert (found, found.uses_tools) == (Conversation((ASKED, SAID)), False)
        assert lines == ([] if empty == " " else ["not read: keys of turns 'tool_calls' (1 turns)"])
        assert json.loads(read({**row, "functions": [SCHEMA]})[0].tools)[0]["function"] == SCHEMA


def test_a_turn_with_the_role_of_a_call_may_have_its_calls_as_a_list():
    turn = {"role": "function_call", "tool_calls": [CALL]}
    found, lines = read({"messages": [TALK[0], turn, RESULT, TALK[1]]})
    assert (called(found), lines) == ([CALL], [])


@pytest.mark.parametrize("mark", [{"train": False}, {"weight": 0}, {"masked": True}], ids=str)
def test_a_marked_part_of_a_reply_is_refused(mark):
    parts = [{"type": "text", "text": "Think."}, {"type": "text", "text": "Ho."}]
    parts[0] |= mark
    told = r"has a part that is not to be learned; only whole turns are read, mark the turn"
    for row in (
        {"messages": [TALK[0], {"role": "assistant", "content": parts}]},
        {"prompt": "Hi?", "completion": parts},
        {"prompt": "Hi?", "completion": "Ho.", "history": [["a", parts]]},
    ):
        with pytest.raises(BrokenRow, match=told):
            read(row)
    found, _ = read({"messages": [TALK[0], {"role": "assistant", "content": parts, "train": False}, *TALK]})
    assert [turn.reply for turn in found.turns] == ["Ho."], "nothing of this turn is learned"


def test_other_keys_of_parts_are_counted():
    part = {"type": "text", "text": "Hi?", "cache_control": {"type": "ephemeral"}}
    told = ["not read: keys of turns 'parts: cache_control' (1 turns)"]
    assert read({"messages": [{"role": "user", "content": [part]}, TALK[1]]}) == (Conversation((ASKED, SAID)), told)


@pytest.mark.parametrize("row", [{"messages": TALK}, {"prompt": "Hi?", "completion": "Ho."}], ids=["turns", "pair"])
def test_a_label_of_a_table_is_a_mark_and_a_number_is_none(row):
    for unwanted in (False, "False", "false"):
        told = ["left out: 1 rows with an answer that nobody wants (label: false)"]
        assert read({**row, "label": unwanted}) == (None, told)
    for wanted in (True, "True"):
        assert read({**row, "label": wanted}) == (Conversation((ASKED, SAID)), [])
    for number in (0, 1, "0"):
        assert read({**row, "label": number})[1] == ["not read: columns 'label' (1 rows)"]


def test_keys_of_turns_are_counted_wherever_turns_are():
    question, answer = {**TALK[0], "a": 1}, {**TALK[1], "b": 1}
    for row in ({"prompt": [question], "completion": [answer]},
                {"instruction": "Hi?", "output": "Ho.", "history": [question, answer]}):  # fmt: skip
        assert read(row)[1] == ["not read: keys of turns 'a' (1 turns), 'b' (1 turns)"]


def test_a_second_text_of_a_turn_is_counted():
    found, lines = read({"messages": [TALK[0], {**TALK[1], "text": "B"}]})
    assert (found.answer, lines) == ("Ho.", ["not read: keys of turns 'text' (1 turns)"])
    found, lines = read({"messages": [TALK[0], {"role": "assistant", "content": None, "text": "Ho."}]})
    assert (found.answer, lines) == ("Ho.", []), "a table has the keys of all rows"


def test_blank_cells_are_empty():
    assert read({"instruction": "Hi?", "input": " ", "output": "Ho.", "system": "\n"}) == (
        Conversation((ASKED, SAID)),
        [],
    )
