"""Whether a limit holds for a request, and under which name it is counted. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from hashlib import blake2b
from typing import Literal
from urllib.parse import unquote

import msgspec

from kajitori.base.errors import UserError
from kajitori.gateway.accounting.accountant_policy import TargetFacts
from kajitori.gateway.internal_headers import problem_of_reading
from kajitori.gateway.limits.limit import BACKEND_FACTS, FACTS, QUERY_FACT, QUERY_HEADER, Selector
from kajitori.gateway.limits.regular import linear_pattern
from kajitori.gateway.limits.request import Request

_LONGEST_NAME = 120
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/@")
_Read = Callable[[Request, TargetFacts | None], str | None]


class Condition(msgspec.Struct, frozen=True, gc=False):
    """A compiled selector. kind: whether it compares, counts apart, or only asks for presence."""

    read: _Read
    test: Callable[[str], bool] | None
    kind: Literal["compare", "distinct", "present"]
    invert: bool
    of_backend: bool


class Conditions:
    """The selectors of one limit. Raises UserError for one that makes no sense."""

    __slots__ = ("_all", "of_backend")

    def __init__(self, selectors: tuple[Selector, ...]) -> None:
        self._all = tuple(compile_selector(selector) for selector in selectors)
        self.of_backend = any(condition.of_backend for condition in self._all)

    def holds(self, request: Request, target: TargetFacts | None) -> tuple[str, ...] | None:
        """The values that are counted apart; None if the limit does not hold."""
        distinct: tuple[str, ...] = ()
        for condition in self._all:
            value = condition.read(request, target)
            if condition.kind == "distinct":
                if value is None:
                    return None
                distinct = (*distinct, value)
                continue
            good = value is not None and (condition.test is None or condition.test(value))
            if good is condition.invert:
                return None
        return distinct


def compile_selector(selector: Selector) -> Condition:
    """Raises UserError."""
    of_backend = selector.fact in BACKEND_FACTS
    kind: Literal["compare", "distinct", "present"] = "compare"
    test: Callable[[str], bool] | None = None
    value = selector.value
    match selector.kind:
        case "Distinct":
            kind = "distinct"
        case "Present":
            kind = "present"
        case "Exact":
            test = value.__eq__
        case "OneOf":
            test = frozenset(value.split(",")).__contains__
        case "Regex":
            test = linear_pattern(value).matches
        case "Prefix":
            test = _prefix(value)
        case "Cidr":
            test = _cidr(value)
    return Condition(_reader(selector.fact), test, kind, selector.invert, of_backend)


def _reader(fact: str) -> _Read:
    if fact.startswith("header:"):
        name = fact.removeprefix("header:").lower()
        if problem := problem_of_reading(name):
            raise UserError(problem)
        # Envoy sends an empty text for a header that is not there.
        return lambda request, target: request.headers.get(name) or None
    if fact.startswith(QUERY_FACT):
        parameter = fact.removeprefix(QUERY_FACT)
        return lambda request, target: _parameter(request.headers.get(QUERY_HEADER, ""), parameter)
    if fact not in FACTS:
        raise UserError(
            f"limits cannot select by {fact!r}", hint=f"by {', '.join(FACTS)}, header:NAME or query:NAME"
        )
    if fact == "backend":
        return lambda request, target: target.backend if target else None
    if fact == "backend_model":
        return lambda request, target: (target.model or request.model) if target else None
    return lambda request, target: getattr(request, fact) or None


def _parameter(told: str, name: str) -> str | None:
    """The first of its name, as Envoy has it; None if it is missing or empty."""
    path, _, taken_away = told.partition(" ")
    for query in (taken_away, path.partition("?")[2]):
        for pair in query.split("&"):
            key, _, value = pair.partition("=")
            if unquote(key) == name:
                return unquote(value) or None
    return None


def _prefix(value: str) -> Callable[[str], bool]:
    bare = value.rstrip("/")

    def test(path: str) -> bool:
        path = path.partition("?")[0]
        return path == bare or path.startswith(bare + "/")

    return test


def _cidr(value: str) -> Callable[[str], bool]:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise UserError(f"{value!r} is no range of addresses: {error}") from error

    def test(address: str) -> bool:
        try:
            return ipaddress.ip_address(address) in network
        except ValueError:
            return False

    return test


def counter_name(limit: str, distinct: tuple[str, ...]) -> str:
    """The name under which a limit counts; values that are long or odd stand as a hash."""
    if not distinct:
        return limit
    text = "|".join(distinct)
    if len(text) <= _LONGEST_NAME and all(map(is_plain, distinct)):
        return f"{limit}|{text}"
    digest = blake2b(msgspec.msgpack.encode(distinct), digest_size=16).hexdigest()
    return f"{limit}|#{digest}"


def is_plain(value: str) -> bool:
    """Whether a value stands in names of counters, and in lists, as it is."""
    return _PLAIN.issuperset(value)
