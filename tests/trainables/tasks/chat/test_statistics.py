"""Statistics of a data set of conversations."""

from trainables.core import Message
from trainables.tasks.chat.rows import Conversation
from trainables.tasks.chat.statistics import statistics


def test_statistics_by_hand():
    def talk(*texts, system=None):
        turns = [Message(role, text) for role, text in zip(["user", "assistant"] * 2, texts, strict=False)]
        return Conversation((*([Message("system", system)] if system else []), *turns), "sharegpt")

    train = [talk("a b", "c"), talk("A, b!", "c d e f"), talk("a b c", "d", "e", "f g", system="s t")]  # 3, 6, 9 words
    found = statistics({"train": train, "search": [talk("x", "y " * 19)]}, lambda text: len(text.split()), 6, 4)
    assert (found.tokens, found.answers) == (
        {"median": 6, "90 %": 20, "max": 20, "total": 38},
        {"median": 2, "90 %": 19, "max": 19, "total": 26},
    )
    assert found.assistant_share == 27 / 38
    assert found.lines() == [
        "rows: 4 (train 3, search 1); layout: sharegpt 4",
        "turns: 11 (user 5, assistant 5, system 1), 2.8 a row",
        "tokens: median 6, 90 % 20, max 20, total 38; 71% are the assistant's",
        "answers: median 2, 90 % 19, max 19, total 26; 1 are longer than max_new_tokens=4",
        "duplicates: 1 rows ask what an earlier one asked",
        "too long: 2 rows (train 1, search 1) over max_length=6 dropped",
    ]
