"""The report of `espalier judge` as markdown: conclusions in words, then tables with the numbers behind them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from sweeps.commands.judging.agreement import agreement
from sweeps.commands.judging.verdicts import Verdict
from sweeps.commands.judging.win_rates import Strength, WinRate, bradley_terry, position_bias, win_rate

LEVEL = 0.95
Pair = tuple[str, str, str]  # judge, first checkpoint, second checkpoint


def markdown_report(verdicts: Sequence[Verdict], names: Mapping[str, str] | None = None) -> str:
    """Return a report of all verdicts. `names`: hash of a checkpoint -> the name that the report shows beside it.

    The report calls a checkpoint better only if the interval excludes 50 % and the exact sign test agrees, both
    corrected for all comparisons of the report (Bonferroni). Raise ValueError if there is no verdict, or if an item was
    judged twice on different replies.
    """
    names = {key: f"{name} ({key})" for key, name in (names or {}).items()}
    pairs = _pairs(verdicts)
    parts = [
        "\n\n".join(_words(pair, own, len(pairs), names) for pair, own in pairs.items()),
        _table(
            ("judge", "checkpoint", "against", "win rate", "95 %", "wins / ties / losses", "unparsed"),
            (_row(pair, win_rate(own, pair[1], LEVEL), names) for pair, own in pairs.items()),
        ),
        _table(
            ("judge", "items", "first shown won twice", "second shown won twice", "consistent"),
            ((judge, *_position(own)) for judge, own in _grouped(verdicts)),
        ),
        _agreement(verdicts),
    ]
    if len({checkpoint for _, *both in pairs for checkpoint in both}) > 2:
        strengths = bradley_terry(verdicts)
        parts.append(
            "Bradley-Terry strengths, all judges together (log-odds against the average checkpoint):\n\n"
            + _table(("checkpoint", "strength", "95 %"), (_strength(one, names) for one in strengths))
        )
    return "\n\n".join(parts) + "\n"


def in_words(first: str, second: str, found: WinRate, corrected: WinRate, comparisons: int = 1) -> str:
    """Return one sentence on two checkpoints. `corrected` is the win rate at the Bonferroni-corrected level.

    The score interval is an approximation that is too narrow with many ties, so the exact sign test must agree.
    """
    if not found.n:
        return f"{first} and {second} cannot be compared: {found.warning()}"
    low, high = corrected.interval
    verdict = "better than" if low > 0.5 else "worse than" if high < 0.5 else "indistinguishable from"
    if found.p > (1 - LEVEL) / comparisons:
        verdict = "indistinguishable from"
    numbers = f"{_percent(found.rate)} {_interval(found.interval)} of {found.n} items"
    sentence = f"{first} is {verdict} {second}: {numbers}"
    a, b = found.interval
    if verdict == "indistinguishable from" and not a <= 0.5 <= b:
        exact = f": the exact sign test has p = {found.p:.2g}"
        sentence += f", which may be chance{f' among {comparisons} comparisons' if found.p <= 1 - LEVEL else exact}"
    return sentence + (f" ({found.warning()})" if found.warning() else "")


def _words(pair: Pair, own: Sequence[Verdict], comparisons: int, names: Mapping[str, str]) -> str:
    judge, first, second = pair
    found, corrected = win_rate(own, first, LEVEL), win_rate(own, first, 1 - (1 - LEVEL) / comparisons)
    return f"{judge}: {in_words(_name(first, names), _name(second, names), found, corrected, comparisons)}."


def _pairs(verdicts: Sequence[Verdict]) -> dict[Pair, list[Verdict]]:
    """Group verdicts by judge and pair. A pair is named in the order in which it was first judged."""
    order: dict[frozenset[str], tuple[str, str]] = {}
    found: dict[Pair, list[Verdict]] = {}
    for v in verdicts:
        both = order.setdefault(frozenset((v.first, v.second)), (v.first, v.second))
        found.setdefault((v.judge, *both), []).append(v)
    return found


def _grouped(verdicts: Sequence[Verdict]) -> list[tuple[str, list[Verdict]]]:
    by = sorted(verdicts, key=lambda v: v.judge)
    return [(judge, list(own)) for judge, own in groupby(by, key=lambda v: v.judge)]


def _agreement(verdicts: Sequence[Verdict]) -> str:
    ordinal, nominal = agreement(verdicts, "ordinal"), agreement(verdicts, "nominal", resamples=0)
    if ordinal.judges < 2:
        return "There is only one judge, so agreement between judges cannot be measured."
    if math.isnan(ordinal.alpha):
        return (
            f"Agreement of the {ordinal.judges} judges is undefined: they share no item, or all their verdicts are the"
            " same."
        )
    return (
        f"Agreement of the {ordinal.judges} judges on {ordinal.items} verdicts: Krippendorff's alpha"
        f" {ordinal.alpha:.2f} [{ordinal.low:.2f}, {ordinal.high:.2f}] (loss < tie < win), {nominal.alpha:.2f} nominal;"
        " 1 is perfect, 0 is chance; draw no conclusion below 0.67."
    )


def _row(pair: Pair, found: WinRate, names: Mapping[str, str]) -> tuple[str, ...]:
    judge, first, second = pair
    return (
        judge,
        _name(first, names),
        _name(second, names),
        _percent(found.rate),
        _interval(found.interval),
        f"{found.wins} / {found.ties} / {found.losses}",
        str(found.unparsed),
    )


def _position(own: Sequence[Verdict]) -> tuple[str, ...]:
    found = position_bias(own)
    return str(found.n), *(_percent(share) for share in (found.first_shown, found.second_shown, found.consistent))


def _strength(one: Strength, names: Mapping[str, str]) -> tuple[str, ...]:
    return _name(one.checkpoint, names), f"{one.strength:+.2f}", f"[{one.low:+.2f}, {one.high:+.2f}]"


def _name(checkpoint: str, names: Mapping[str, str]) -> str:
    return names.get(checkpoint, checkpoint)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"


def _interval(interval: tuple[float, float]) -> str:
    return "-" if math.isnan(interval[0]) else f"[{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
