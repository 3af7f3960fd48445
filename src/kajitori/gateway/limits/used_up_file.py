"""What Envoy is told of limits that are used up: the text of a file that lua/used_up_limits.lua reads. Pure.

Limits that nobody is asked about close by that file. Where the script can tell by itself whom a count concerns,
it refuses; where it cannot (expressions, ranges of addresses, quotas of backends, counts that did not find room here), it has
the accountant asked, whose answer is exact.

A line a thing, its fields parted by tabs: `L`imits with the facts by which they select, `C`ounts with until when and in
which words, `U`npriced models of a limit, of which it has the accountant asked, `R`outes and `K`eys with the numbers of
their limits; `A` alone has everybody asked about.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from kajitori.gateway.accounting.accountant_policy import AccountantPolicy
from kajitori.gateway.limits.limit import REQUESTS, TOKENS, USD, Limit, Selector
from kajitori.gateway.limits.matching import OTHERS, CompiledLimit
from kajitori.gateway.limits.selectors import is_plain
from kajitori.gateway.limits.windows import Span
from kajitori.gateway.limits.wording import amount_text, frees_text, unit_text

HEAD = "kajitori-used-up-1"
# Each worker of Envoy reads the file anew when it changes: a thousand lines take it 2 ms.
MOST_COUNTS, MOST_PLACES = 1_000, 4_000
_FACTS = ("route", "rule", "model", "key", "tenant", "client", "method", "path")
WAIT = "{}"
# Clients choose the names of models.
_MOST_UNPRICED = 100
_COMPARED = ("Exact", "OneOf", "Present")


class UsedUp(msgspec.Struct, frozen=True):
    """A count that has reached its limit. values: that it is apart by, between bars, as in its name.

    since, until: seconds since 1970; until then nobody that it concerns passes. resets: when all of it is free.
    """

    compiled: CompiledLimit
    values: str
    used: int
    since: float
    until: float
    resets: float
    window_seconds: int


def used_up(
    compiled: CompiledLimit, values: str, span: Span, slots: Mapping[int, int], since: float
) -> UsedUp | None:
    """A count by its slots; None if there is room."""
    used = span.used(slots)
    if used < compiled.capacity:
        return None
    over = used + 1 - compiled.capacity
    until = span.frees(span.slot)
    for slot in sorted(slot for slot in slots if span.oldest <= slot <= span.newest):
        over -= slots[slot]
        if over <= 0:
            until = span.frees(slot)
            break
    sliding = span.reach > 1
    width = span.width_seconds * (span.reach - 1) if sliding else span.width_seconds
    resets = span.frees(span.slot)
    return UsedUp(compiled, values, used, since, until, resets, round(width) or 1)


class Concerned:
    """Whom the limits of a policy concern: routes and keys by the number of a limit, and ids of keys by their name."""

    def __init__(self, policy: AccountantPolicy) -> None:
        # One that holds for some rules of a route shares its name and its counts with that for others.
        self.numbers: dict[str, list[int]] = {}
        for number, limit in enumerate(policy.limits):
            self.numbers.setdefault(limit.name, []).append(number)
        self.limits = policy.limits
        self._routes: dict[int, list[str]] = {}
        self._keys: dict[int, list[str]] = {}
        self._ids: dict[str, list[str]] = {}
        for name, facts in policy.routes.items():
            for number in facts.limits:
                # As the matcher has it: a plain route takes neither tokens nor money.
                if facts.targets or policy.limits[number].counts == REQUESTS:
                    self._routes.setdefault(number, []).append(name)
        for key, facts in policy.keys.items():
            self._ids.setdefault(facts.name, []).append(key)
            for budget in facts.budgets:
                if budget in policy.budgets:
                    self._keys.setdefault(policy.budgets[budget], []).append(key)

    def routes(self, number: int) -> Sequence[str]:
        return self._routes.get(number, ())

    def keys(self, number: int) -> Sequence[str]:
        return self._keys.get(number, ())

    def ids(self, key: str) -> Sequence[str]:
        """Of a key by its name."""
        return self._ids.get(key, ())


def render(
    concerned: Concerned,
    counts: Iterable[UsedUp],
    asked: Iterable[CompiledLimit],
    unpriced: Iterable[tuple[CompiledLimit, Collection[str]]] = (),
) -> str:
    """The file without its first line; empty if nobody is kept back. asked: limits of which all requests are asked
    about; unpriced: those of some models.
    """
    lines = _Lines(concerned)
    for compiled in asked:
        lines.ask(compiled)
    for compiled, models in unpriced:
        lines.ask_of(compiled, models)
    for count in counts:
        lines.add(count)
    return lines.text()


class _Lines:
    def __init__(self, concerned: Concerned) -> None:
        self._concerned = concerned
        self._limits: dict[int, Limit] = {}
        self._asked: set[int] = set()
        self._counts: list[str] = []
        self._models: list[str] = []

    def ask(self, compiled: CompiledLimit) -> None:
        self._asked.update(self._known(compiled))

    def ask_of(self, compiled: CompiledLimit, models: Collection[str]) -> None:
        if len(models) > _MOST_UNPRICED or not all(map(is_plain, models)):
            self.ask(compiled)
            return
        for number in self._known(compiled):
            self._models += [f"U\t{number}\t{model}\n" for model in sorted(models)]

    def add(self, count: UsedUp) -> None:
        for number in self._known(count.compiled):
            names = self._names(count, self._limits[number])
            if names is None or len(self._counts) + len(names) > MOST_COUNTS:
                self._asked.add(number)
            else:
                self._counts += [_count_line(number, name, count) for name in names]

    def text(self) -> str:
        if not self._limits:
            return ""
        routes: dict[str, list[int]] = {}
        keys: dict[str, list[int]] = {}
        for number in self._limits:
            for name in self._concerned.routes(number):
                routes.setdefault(name, []).append(number)
            for name in self._concerned.keys(number):
                keys.setdefault(name, []).append(number)
        if len(routes) + len(keys) > MOST_PLACES:
            return "A\n"
        lines = [self._limit_line(number, limit) for number, limit in self._limits.items()]
        for kind, places in (("R", routes), ("K", keys)):
            lines += [f"{kind}\t{name}\t{','.join(map(str, numbers))}\n" for name, numbers in places.items()]
        return "".join((*lines, *self._counts, *self._models))

    def _known(self, compiled: CompiledLimit) -> list[int]:
        numbers = self._concerned.numbers.get(compiled.limit.name, [])
        self._limits |= {number: self._concerned.limits[number] for number in numbers}
        return numbers

    def _names(self, count: UsedUp, limit: Limit) -> list[str] | None:
        """The count as the script names it, by the ids of keys; None if the script cannot tell whom it concerns."""
        distinct = [each.fact for each in limit.selectors if each.kind == "Distinct"]
        values = count.values.split("|") if count.values else []
        if count.compiled.capacity == 0 or count.values == OTHERS or len(values) != len(distinct):
            return None
        if not _tells(limit) or not all(map(is_plain, values)):
            return None
        names = [""]
        for fact, value in zip(distinct, values, strict=True):
            # A text that is no key's name stands for itself.
            found = (self._concerned.ids(value) or (value,)) if fact == "key" else (value,)
            names = [f"{name}|{each}" if name else each for name in names for each in found]
        return names

    def _limit_line(self, number: int, limit: Limit) -> str:
        distinct = ",".join(each.fact for each in limit.selectors if each.kind == "Distinct")
        conditions = [each for each in limit.selectors if each.kind != "Distinct" and _compares(each)]
        told = ";".join(self._condition(each) for each in conditions)
        if limit.counts == USD:  # what names no model takes no money
            told = ";".join(filter(None, (told, "model 0 P")))
        return f"L\t{number}\t{int(number in self._asked)}\t{distinct}\t{told}\t{limit.name}\n"

    def _condition(self, selector: Selector) -> str:
        values = selector.value.split(",") if selector.kind == "OneOf" else [selector.value]
        if selector.fact == "key":
            values = [id for value in values for id in (self._concerned.ids(value) or (value,))]
        kind = "P" if selector.kind == "Present" else "V"
        return f"{selector.fact} {int(selector.invert)} {kind} {','.join(values)}".rstrip()


def _tells(limit: Limit) -> bool:
    """Whether the script can tell by itself whether a limit holds."""
    return not limit.group and all(
        each.fact in _FACTS if each.kind == "Distinct" else _compares(each) for each in limit.selectors
    )


def _compares(selector: Selector) -> bool:
    values = selector.value.split(",") if selector.kind == "OneOf" else [selector.value]
    return (
        selector.fact in _FACTS
        and selector.kind in _COMPARED
        and (selector.kind == "Present" or all(map(is_plain, values)))
    )


def _count_line(number: int, name: str, count: UsedUp) -> str:
    """In the words of admission; the script puts in how long it is to the end."""
    limit, capacity = count.compiled.limit, count.compiled.capacity
    unit = ""
    if limit.headers and limit.counts != USD:
        unit = REQUESTS if limit.counts == REQUESTS else TOKENS
    left = f"{amount_text(limit, 0)} of {amount_text(limit, capacity)}{unit_text(limit)} are left"
    message = " ".join(f"{limit.name}: {left}; {frees_text(WAIT, count.until)}".split())
    fields = (number, name, f"{count.until:.3f}", f"{count.resets:.3f}", capacity, count.window_seconds, unit)
    return "\t".join(("C", *map(str, fields), message)) + "\n"
