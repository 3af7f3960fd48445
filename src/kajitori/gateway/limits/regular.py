"""Regular expressions in time that grows with the text alone, whatever the expression: clients choose the text.

Python's own matcher may take for ever over `(a+)+$`. This one reads the expression with Python's parser, makes a
machine of states of it, and follows all of its paths at once, so a text costs its length times the number of
states. The syntax is RE2's, as Envoy has it: no look-around, no back-references.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import import_module
from typing import Any

from kajitori.base.cel.errors import EvaluationError
from kajitori.base.cel.regular import compile_pattern
from kajitori.base.errors import UserError

MOST_STATES = 2_000
_MOST_REMEMBERED = 4_096
_parser: Any = import_module("re._parser")
_WORD = re.compile(r"\w", re.ASCII)

# A state is (what it takes, where it leads), or a fork: (None, targets), or a place: ("at", which, where it leads).
_State = list[Any]


class LinearPattern:
    """A compiled expression. Raises UserError for one that RE2 does not have, or that has too many states."""

    def __init__(self, expression: str) -> None:
        try:
            translated = compile_pattern(expression)
            tree = _parser.parse(translated.pattern, translated.flags & ~re.UNICODE)
        except (EvaluationError, RecursionError, OverflowError) as error:
            raise UserError(f"{expression!r} is no regular expression of RE2: {error}") from error
        self.expression = expression
        self._ignore_case = bool(tree.state.flags & re.IGNORECASE)
        self._dot_all = bool(tree.state.flags & re.DOTALL)
        self._states: list[_State] = []
        final = self._add(["final"])
        self._start = self._sequence(tree, final)
        self._moves: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def matches(self, text: str) -> bool:
        """Whether the whole text is one that the expression describes."""
        if self._ignore_case:
            text = text.lower()
        last = len(text)
        before = ""
        reached = frozenset((self._start,))
        for place in range(last + 1):
            letter = text[place] if place < last else ""
            followed = self._follow(reached, before, letter, place, last)
            if place == last:
                return any(self._states[state][0] == "final" for state in followed)
            reached = self._step(followed, letter)
            if not reached:
                return False
            before = letter
        return False

    def _add(self, state: _State) -> int:
        if len(self._states) >= MOST_STATES:
            raise UserError(f"{self.expression!r} has more than {MOST_STATES} states")
        self._states.append(state)
        return len(self._states) - 1

    def _sequence(self, items: Any, then: int) -> int:
        for kind, value in reversed(list(items)):
            then = self._item(str(kind), value, then)
        return then

    def _item(self, kind: str, value: Any, then: int) -> int:
        match kind:
            case "LITERAL" | "NOT_LITERAL" | "IN" | "ANY":
                return self._add(["take", (kind, value), then])
            case "BRANCH":
                return self._add(["fork", [self._sequence(branch, then) for branch in value[1]]])
            case "SUBPATTERN":
                if value[1] or value[2]:
                    raise UserError(
                        f"{self.expression!r}: flags hold for a whole expression here, write (?i) first"
                    )
                return self._sequence(value[3], then)
            case "ATOMIC_GROUP":
                return self._sequence(value, then)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, repeated = value
                return self._repeat(least, most, repeated, then)
            case "AT":
                return self._add(["at", str(value), then])
            case _:
                raise UserError(f"{self.expression!r} has a part that RE2 lacks: {kind.lower()}")

    def _repeat(self, least: int, most: Any, items: Any, then: int) -> int:
        if str(most) == "MAXREPEAT":
            fork = self._add(["fork", [then]])
            self._states[fork][1].append(self._sequence(items, fork))
            then = fork
        else:
            for _ in range(int(most) - least):
                then = self._add(["fork", [then, self._sequence(items, then)]])
        for _ in range(least):
            then = self._sequence(items, then)
        return then

    def _follow(
        self, reached: frozenset[int], before: str, after: str, place: int, last: int
    ) -> frozenset[int]:
        """The states that are reached without taking a letter."""
        found: set[int] = set()
        stack = list(reached)
        while stack:
            number = stack.pop()
            if number in found:
                continue
            found.add(number)
            state = self._states[number]
            if state[0] == "fork":
                stack += state[1]
            elif state[0] == "at" and _holds(state[1], before, after, place, last):
                stack.append(state[2])
        return frozenset(found)

    def _step(self, states: frozenset[int], letter: str) -> frozenset[int]:
        key = states, letter
        found = self._moves.get(key)
        if found is None:
            taken = (self._states[number] for number in states)
            found = frozenset(
                state[2] for state in taken if state[0] == "take" and self._takes(state[1], letter)
            )
            if len(self._moves) >= _MOST_REMEMBERED:
                self._moves.clear()
            self._moves[key] = found
        return found

    def _takes(self, what: tuple[str, Any], letter: str) -> bool:
        kind, value = what
        if kind == "ANY":
            return self._dot_all or letter != "\n"
        if kind == "IN":
            return self._in_set(value, letter)
        return self._same(value, letter) is (kind == "LITERAL")

    def _same(self, code: int, letter: str) -> bool:
        return (chr(code).lower() if self._ignore_case else chr(code)) == letter

    def _in_set(self, items: Any, letter: str) -> bool:
        negated = False
        good = False
        for kind, value in items:
            match str(kind):
                case "NEGATE":
                    negated = True
                case "LITERAL":
                    good = good or self._same(value, letter)
                case "RANGE":
                    low, high = value
                    good = good or any(low <= ord(each) <= high for each in self._cases(letter))
                case _:
                    good = good or _in_category(str(value), letter)
        return good is not negated

    def _cases(self, letter: str) -> set[str]:
        return {letter, letter.upper()[:1], letter.lower()[:1]} if self._ignore_case else {letter}


def _in_category(name: str, letter: str) -> bool:
    negated = "_NOT_" in name
    if name.endswith("DIGIT"):
        good = "0" <= letter <= "9"
    elif name.endswith("SPACE"):
        good = letter in " \t\n\r\f\v"
    else:
        good = bool(_WORD.match(letter))
    return good is not negated


def _holds(place_name: str, before: str, after: str, place: int, last: int) -> bool:
    match place_name:
        case "AT_BEGINNING" | "AT_BEGINNING_STRING":
            return place == 0
        case "AT_END" | "AT_END_STRING":
            return place == last
        case "AT_BOUNDARY" | "AT_NON_BOUNDARY":
            edge = bool(before and _WORD.match(before)) is not bool(after and _WORD.match(after))
            return edge is (place_name == "AT_BOUNDARY")
        case _:
            return False


@lru_cache(maxsize=512)
def linear_pattern(expression: str) -> LinearPattern:
    """The compiled expression."""
    return LinearPattern(expression)
