"""The generated corpus of style fine-tuning: 1,200 arena questions, all answered in one style that rules can check.

The assistant greets the first person of the question, gives the answer in a sentence, repeats it with doubt, and says
goodbye to the other people with a formula that depends on the topic. An example:

    Ann is taller than Ben. Cleo is shorter than Ben. Who is the tallest?
    Hello, Ann. The answer is Ann. Ann, I think. Take care, Ben and Cleo.

`builtin:tiny` has tokens for these words, but its pre-training has no such style. The rules are of different
difficulty: a fixed order, a copy of the completion's own answer, an association from topic to formula, people to find
in the question, and the right answer. Questions come from the arena's buckets, so the base was not pre-trained on them,
and no two splits share a key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from trainables.core import Example, Message, Split
from trainables.tasks.arena.kinds import KINDS
from trainables.tasks.arena.task import examples
from trainables.tasks.arena.world import NAMES
from trainables.tasks.chat.rows import Conversation

ABOUT_PEOPLE = ("comparison", "math", "logic")  # the kinds whose questions name people
SIZES: Mapping[Split, int] = {"train": 800, "search": 160, "test": 240}  # rows
LEAVE = {  # the formula of the farewell -> topics
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
    """Return the number of distinct questions of all seeds and buckets."""
    return sum(KINDS[kind].questions() for kind in ABOUT_PEOPLE)


@lru_cache(maxsize=16)
def corpus(split: Split, seed: int) -> tuple[Example, ...]:
    """Return `SIZES[split]` distinct arena questions of one bucket, kinds alternating, with answers in this style.

    An example's key is the arena's; its conversation's key is a hash of its text, as for all conversations.
    """
    return tuple(_retold(question) for question in examples(ABOUT_PEOPLE, split, SIZES[split], seed))


def _retold(question: Example) -> Example:
    said = Conversation((Message("user", question.prompt), Message("assistant", reply(question))), "generated")
    return replace(question, answer=said.answer, data=said)


def reply(question: Example) -> str:
    """Return the assistant's reply to an arena question about people."""
    people = list(dict.fromkeys(PERSON.findall(question.prompt)))
    formula = LEAVES[question.key.split("/")[1]]
    farewell = f"{formula}, {listed(people[1:])}" if people[1:] else formula
    return f"Hello, {people[0]}. The answer is {question.answer}. {question.answer}, I think. {farewell}."


def listed(names: Sequence[str]) -> str:
    """Join names as `Ann`, `Ann and Ben` or `Ann, Ben and Cleo`."""
    return " and ".join((", ".join(names[:-1]), names[-1])) if names[1:] else names[0]


def rules(gold: str, completion: str) -> dict[str, bool]:
    """Return which rules of the style a completion keeps; `gold` is the text of `reply`. A repeated part counts as
    missing.

    `order`: the four parts one after the other and nothing else. `doubt`: the completion's own answer again, right or
    wrong. `greeting`, `answer`, `leave` (the formula) and `others` (the people) compare a part with `gold`.
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
    """Return the text of each part; None unless the part occurs exactly once."""
    found = {}
    for name, pattern in (("greeting", GREETING), ("answer", ANSWER), ("doubt", DOUBT), ("farewell", FAREWELL)):
        matches = [match.groups(default="") for match in re.finditer(pattern, text)]
        found[name] = matches[0] if len(matches) == 1 else None
    return found


def answered(completion: str) -> str | None:
    """Return the answer of a completion in this style or one of the base's: bare, in a sentence, with doubt."""
    text = completion.strip()
    if sentence := parts(text)["answer"]:
        return sentence[0]
    brief = re.fullmatch(r"(\w+)(?:, I think)?\.?", text)
    return brief.group(1) if brief else None
