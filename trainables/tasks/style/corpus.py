"""The offline default of style fine-tuning: 1,200 arena questions, each answered in one manner that can be checked.

A polite and doubtful assistant: it greets the first person of the question, gives the answer in a sentence, says it
again in doubt, and takes its leave of the other people with a formula that depends on the topic. An example:

    Ann is taller than Ben. Cleo is shorter than Ben. Who is the tallest?
    Hello, Ann. The answer is Ann. Ann, I think. Take care, Ben and Cleo.

Its words are those `builtin:tiny` has tokens for, but no speaker of its pre-training talks like this. The rules ask for
more and more: a fixed order, a copy of its own words, an association to remember, people to find in the question, and
the right answer. Questions come from the arena's buckets, so none was pre-trained on and no two splits share a key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from trainables.core import Example, Split
from trainables.tasks.arena.kinds import KINDS
from trainables.tasks.arena.task import examples
from trainables.tasks.arena.world import NAMES
from trainables.tasks.chat.rows import Conversation, Message

ABOUT_PEOPLE = ("comparison", "math", "logic")  # the kinds whose questions name somebody to greet
SIZES: Mapping[Split, int] = {"train": 800, "search": 160, "test": 240}  # rows; together about what seed data sets have
LEAVE = {  # how the assistant takes its leave -> of which topics
    "Take care": ("height", "weight", "gain", "share", "pet"),
    "Think well": ("age", "wealth", "lose", "drink"),
    "Be right": ("speed", "strength", "boxes", "tool", "fruit"),
}
LEAVES = {topic: formula for formula, topics in LEAVE.items() for topic in topics}
PERSON = re.compile(rf"\b(?:{'|'.join(NAMES)})\b")

GREETING, ANSWER, DOUBT = r"Hello, (\w+)\.", r"The answer is (\w+)\.", r"(\w+), I think\."
FAREWELL = rf"({'|'.join(LEAVE)})(?:, ([\w, ]+))?\."
WHOLE = re.compile(" ".join((GREETING, ANSWER, DOUBT, FAREWELL)))


def count() -> int:
    """Distinct questions that a corpus of any seed can ask, over all buckets."""
    return sum(KINDS[kind].questions() for kind in ABOUT_PEOPLE)


@lru_cache(maxsize=16)
def corpus(split: Split, seed: int) -> tuple[Example, ...]:
    """`SIZES[split]` distinct arena questions of one bucket, kinds taking turns, with the manner's answers to them.

    An example's key is the arena's; its conversation's key is, as everywhere, that of its very words.
    """
    return tuple(_retold(question) for question in examples(ABOUT_PEOPLE, split, SIZES[split], seed))


def _retold(question: Example) -> Example:
    said = Conversation((Message("user", question.prompt), Message("assistant", reply(question))), "generated")
    return replace(question, answer=said.answer, data=said)


def reply(question: Example) -> str:
    """What the assistant says to an arena question about people."""
    people = list(dict.fromkeys(PERSON.findall(question.prompt)))
    formula = LEAVES[question.key.split("/")[1]]
    farewell = f"{formula}, {listed(people[1:])}" if people[1:] else formula
    return f"Hello, {people[0]}. The answer is {question.answer}. {question.answer}, I think. {farewell}."


def listed(names: Sequence[str]) -> str:
    """`Ann`, `Ann and Ben`, `Ann, Ben and Cleo`."""
    return " and ".join((", ".join(names[:-1]), names[-1])) if names[1:] else names[0]


def rules(gold: str, completion: str) -> dict[str, bool]:
    """Which rules of the manner a completion keeps, beside what `reply` would say. A part said twice counts as missing.

    `order`: the four parts one after the other, nothing else. `doubt`: the completion's own answer again, right or not.
    The others compare a part with `gold`: who is greeted, the answer, the formula of leave, and of whom it is taken.
    """
    text = completion.strip()
    said, wanted = parts(text), parts(gold)
    leave, leave_wanted = said["farewell"], wanted["farewell"]
    return {
        "order": WHOLE.fullmatch(text) is not None,
        "greeting": said["greeting"] == wanted["greeting"],
        "answer": said["answer"] == wanted["answer"],
        "doubt": said["answer"] is not None and said["doubt"] == said["answer"],
        "leave": leave is not None and leave_wanted is not None and leave[0] == leave_wanted[0],
        "others": leave is not None and leave_wanted is not None and leave[1] == leave_wanted[1],
    }


def parts(text: str) -> dict[str, tuple[str, ...] | None]:
    """Part -> what it says, None unless it is said exactly once."""
    found = {}
    for name, pattern in (("greeting", GREETING), ("answer", ANSWER), ("doubt", DOUBT), ("farewell", FAREWELL)):
        matches = [match.groups(default="") for match in re.finditer(pattern, text)]
        found[name] = matches[0] if len(matches) == 1 else None
    return found


def answered(completion: str) -> str | None:
    """The answer that a completion gives in this manner or another of the base's: bare, in a sentence, in doubt."""
    text = completion.strip()
    if sentence := parts(text)["answer"]:
        return sentence[0]
    brief = re.fullmatch(r"(\w+)(?:, I think)?\.?", text)
    return brief.group(1) if brief else None
