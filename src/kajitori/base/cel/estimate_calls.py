"""What single functions cost at worst, and how large what they give can be.

Source: cel-go v0.26 (`checker/cost.go`, `ext/lists.go`, `ext/sets.go`) and Kubernetes 1.36
(`apiserver/pkg/cel/library/cost.go`). Functions are told apart by name, and by the types of their parameters only
where that matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from kajitori.base.cel.estimate_sizes import MOST, ONE, UNKNOWN, EntrySizes, Path, Size, plus, scaled, times
from kajitori.base.cel.expansion import Constant, Expanded
from kajitori.base.cel.types import CIDR, IP, QUANTITY, URL, Type

_PER_LETTER: Final = 0.1
_PER_PATTERN_LETTER: Final = 0.25
_LIST: Final = 10
_STRUCT: Final = 40
_CHECK: Final = 350_000
_LETTERS_OF_A_FORMAT: Final = 128
_BYTES_OF_AN_ADDRESS: Final = 16

SizeAt = Callable[[Path], "Size | None"]


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a call, or what it is called on. size, entries: None where nothing is known."""

    path: Path
    type: Type
    part: Expanded | None
    size: Size | None
    entries: EntrySizes | None = None

    @property
    def known(self) -> Size:
        return self.size or UNKNOWN


class Found(NamedTuple):
    """size, entries: of the result."""

    cost: int
    size: Size | None = None
    entries: EntrySizes | None = None


class _Call(NamedTuple):
    function: str
    kinds: tuple[str, ...]
    target: Argument | None
    args: Sequence[Argument]
    size_at: SizeAt

    @property
    def on(self) -> Argument:
        assert self.target is not None, "only looked up for methods"
        return self.target


_Rule = Callable[[_Call], "Found | None"]


def call_cost(
    function: str,
    kinds: tuple[str, ...],
    target: Argument | None,
    args: Sequence[Argument],
    costs: Sequence[int],
    size_at: SizeAt,
) -> Found:
    """The cost of one overload, that of its arguments (costs) included. kinds: of its parameters."""
    if function in ("_&&_", "_||_"):
        return Found(plus(costs[0], costs[1]))
    if function == "_?_:_":
        return _conditional(args, costs)
    call = _Call(function, kinds, target, args, size_at)
    rule = (_METHODS if target is not None else _FUNCTIONS).get(function)
    found = rule(call) if rule else None
    found = found or Found(1)
    cost = found.cost
    for of_argument in costs:
        cost = plus(cost, of_argument)
    return found._replace(cost=cost)


def _conditional(args: Sequence[Argument], costs: Sequence[int]) -> Found:
    _, chosen, otherwise = args
    entries = chosen.entries.union(otherwise.entries) if chosen.entries and otherwise.entries else None
    return Found(plus(costs[0], max(costs[1:])), chosen.known.union(otherwise.known), entries)


# --- operators


def _sum(call: _Call) -> Found | None:
    left, right = call.args
    if call.kinds[:1] not in (("string",), ("bytes",), ("list",)) and call.kinds:
        return None
    if not call.kinds and left.type.kind not in ("string", "bytes", "list"):
        return None
    size = left.known.add(right.known)
    entries = left.entries.union(right.entries) if left.entries and right.entries else None
    of_list = (call.kinds[0] if call.kinds else left.type.kind) == "list"
    return Found(1 if of_list else scaled(size.most, _PER_LETTER), size, entries)


def _compared(call: _Call) -> Found:
    left, right = call.args
    return Found(scaled(min(left.known.most, right.known.most), _PER_LETTER))


def _equality(call: _Call) -> Found:
    left, right = call.args
    if left.type == right.type and left.type in (IP, CIDR, QUANTITY):
        return Found(1)
    if left.type == right.type == URL:
        return Found(scaled(max((right.size or ONE).most, 1), _PER_LETTER))
    return _compared(call)


def _ordered(call: _Call) -> Found | None:
    return _compared(call) if call.kinds[:1] in (("string",), ("bytes",)) else None


def _membership(call: _Call) -> Found | None:
    return Found(call.args[1].known.most) if call.kinds[1:] == ("list",) else None


# --- conversions


def _to_bytes(call: _Call) -> Found | None:
    if call.kinds != ("string",):
        return None
    size = call.args[0].known
    return Found(scaled(size.most, _PER_LETTER), Size(size.least, size.most * 4 & MOST))


def _to_string(call: _Call) -> Found | None:
    if call.kinds != ("bytes",):
        return None
    size = call.args[0].known
    return Found(scaled(size.most, _PER_LETTER), Size(size.least // 4, size.most))


def _quoted(call: _Call) -> Found:
    size = call.args[0].known
    return Found(scaled(size.most, _PER_LETTER), Size(size.least + 2 & MOST, size.most * 2 + 2 & MOST))


# --- texts


def _affix(call: _Call) -> Found:
    return Found(scaled(call.args[0].known.most, _PER_LETTER))


def _contained(call: _Call) -> Found:
    text, part = (scaled(size.most, _PER_LETTER) for size in (call.on.known, call.args[0].known))
    return Found(times(text, part))


def _pattern_cost(call: _Call) -> int:
    text = scaled(plus(call.on.known.most, 1), _PER_LETTER)
    return times(text, scaled(call.args[0].known.most, _PER_PATTERN_LETTER))


def _matched(call: _Call) -> Found:
    return Found(_pattern_cost(call))


def _found(call: _Call) -> Found:
    return Found(_pattern_cost(call), Size(0, call.on.known.most))


def _formatted(call: _Call) -> Found:
    return Found(scaled(call.on.known.most, _PER_LETTER))


def _rewritten(call: _Call) -> Found:
    size = call.on.known
    return Found(scaled(size.most, _PER_LETTER), size)


def _read(call: _Call) -> Found:
    """A text that is parsed."""
    return Found(scaled(call.args[0].known.most, _PER_LETTER))


def _read_twice(call: _Call) -> Found:
    return Found(scaled(call.args[0].known.most, 2 * _PER_LETTER))


def _read_as_url(call: _Call) -> Found | None:
    if len(call.args) != 1:
        return None
    size = call.args[0].known
    return Found(scaled(size.most, _PER_LETTER), size)


def _replaced(call: _Call) -> Found:
    size, old, new = call.on.known, call.args[0].known, call.args[1].known
    # The longest result: as many as fit of the shortest parts give way to the longest replacement.
    if old.least == 0:
        most, kept = min(size.most + 1, MOST), size.most
    elif new.most <= old.least:
        most, kept = 0, size.most
    else:
        most, kept = min(-int(-float(size.most) / old.least // 1), MOST), 0
    if old.most == 0:
        least, kept_least = min(size.least + 1, MOST), size.least
    elif old.most <= new.least:
        least, kept_least = 0, size.least
    else:
        least, kept_least = min(-int(-float(size.least) / old.most // 1), MOST), 0
    result = Size(least, most).multiply(new).add(Size(kept_least, kept))
    return Found(scaled(size.most, 2 * _PER_LETTER), result)


def _split(call: _Call) -> Found:
    size = call.on.known
    most = size.most
    if len(call.args) > 1 and isinstance(limit := call.args[1].part, Constant) and limit.kind == "int":
        most = limit.value & MOST
    return Found(scaled(size.most, 2 * _PER_LETTER), Size(0, most))


def _joined(call: _Call) -> Found:
    items = call.on.known
    item = _item(call)
    size = items.multiply(item.known) if item else Size(0, 0)
    if call.args:
        gaps = Size(max(items.least - 1, 0), max(items.most - 1, 0))
        size = size.add(call.args[0].known.multiply(gaps))
    return Found(scaled(size.most, _PER_LETTER), size)


# --- lists


def _item(call: _Call) -> Argument | None:
    """An item of the list that a method is called on."""
    if not call.on.type.args:
        return None
    kind = call.on.type.args[0]
    steps = call.on.path.steps
    path = Path()
    for step in [*steps, "@items"] if steps else []:
        path = path.then(step)
    return Argument(path, kind, None, call.size_at(path))


def _traversed(call: _Call) -> Found:
    item = _item(call)
    size = call.on.known
    if item is None:
        return Found(scaled(size.most, _PER_LETTER))
    each = 1
    if item.type.kind in ("string", "bytes"):
        each = plus(1, scaled(item.known.most, _PER_LETTER))
    return Found(times(size.most, each))


def _allocated(factor: float, size: Size) -> Found:
    return Found(plus(scaled(size.most, factor), 1 + _LIST), size)


def _number(argument: Argument, otherwise: int) -> int:
    part = argument.part
    if not isinstance(part, Constant) or part.kind != "int":
        return otherwise
    return max(part.value, 0)


def _sliced(call: _Call) -> Found:
    start, end = _number(call.args[0], 0), _number(call.args[1], call.on.known.most)
    size = end - start & MOST
    return _allocated(1, Size(size, size))


def _range(call: _Call) -> Found:
    size = _number(call.args[0], MOST)
    return _allocated(1, Size(size, size))


def _reversed(call: _Call) -> Found | None:
    return _allocated(1, call.on.known) if call.kinds[:1] == ("list",) else None


def _flattened(call: _Call) -> Found:
    depth = _number(call.args[0], MOST) if call.args else 1
    return _allocated(float(depth), call.on.known)


def _each_with_each(call: _Call) -> Found:
    size = call.on.known
    return _allocated(2, size.multiply(size))


def _sorted(call: _Call) -> Found:
    return _sorted_like(call.on)


def _sorted_by(call: _Call) -> Found:
    return _sorted_like(call.args[0])


def _sorted_like(keys: Argument) -> Found:
    size = keys.known
    of_texts = bool(keys.type.args) and keys.type.args[0].kind in ("string", "bytes")
    return _allocated(2 + _PER_LETTER if of_texts else 2, size.multiply(size))


def _sets(factor: float) -> _Rule:
    def rule(call: _Call) -> Found:
        product = times(call.args[0].known.most, call.args[1].known.most)
        return Found(plus(scaled(product, factor), 1))

    return rule


# --- Kubernetes' own libraries


def _selector(call: _Call) -> Found:
    size = call.args[0].known.most
    requirements = scaled(scaled(size, 0.5), _LIST + _STRUCT)
    return Found(plus(plus(_LIST, scaled(size, _PER_LETTER)), requirements))


def _address(call: _Call) -> Found:
    return _read(call) if call.args else Found(1)


def _contains_address(call: _Call) -> Found:
    cost = scaled(2 * _BYTES_OF_AN_ADDRESS, _PER_LETTER)
    return Found(plus(cost, _of_text(call)))


def _contains_network(call: _Call) -> Found:
    cost = scaled(2 * _BYTES_OF_AN_ADDRESS, _PER_LETTER) + scaled(_BYTES_OF_AN_ADDRESS, _PER_LETTER) + 1
    return Found(plus(cost, _of_text(call)))


def _of_text(call: _Call) -> int:
    return scaled(call.args[0].known.most, _PER_LETTER) if call.kinds[1:] == ("string",) else 0


def _validated(call: _Call) -> Found:
    return Found(
        scaled(scaled(call.args[0].known.most, _PER_LETTER), _LETTERS_OF_A_FORMAT * _PER_PATTERN_LETTER)
    )


_FUNCTIONS: Final[dict[str, _Rule]] = {
    "_+_": _sum,
    "_==_": _equality,
    "_!=_": _compared,
    **dict.fromkeys(("_<_", "_<=_", "_>_", "_>=_"), _ordered),
    "@in": _membership,
    "bytes": _to_bytes,
    "string": _to_string,
    "strings.quote": _quoted,
    "url": _read_as_url,
    **dict.fromkeys(("cidr", "isIP", "isCIDR", "ip", "quantity", "isQuantity", "semver", "isSemver"), _read),
    "ip.isCanonical": _read_twice,
    "lists.range": _range,
    "sets.contains": _sets(1),
    "sets.intersects": _sets(1),
    "sets.equivalent": _sets(2),
}
_METHODS: Final[dict[str, _Rule]] = {
    "startsWith": _affix,
    "endsWith": _affix,
    "contains": _contained,
    "matches": _matched,
    "find": _found,
    "findAll": _found,
    "format": _formatted,
    **dict.fromkeys(("lowerAscii", "upperAscii", "substring", "trim"), _rewritten),
    "replace": _replaced,
    "split": _split,
    "join": _joined,
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _traversed),
    "slice": _sliced,
    "reverse": _reversed,
    "flatten": _flattened,
    "distinct": _each_with_each,
    "sort": _sorted,
    "@sortByAssociatedKeys": _sorted_by,
    "ip": _address,
    "containsIP": _contains_address,
    "containsCIDR": _contains_network,
    "validate": _validated,
    "check": lambda call: Found(_CHECK),
    "fieldSelector": _selector,
    "labelSelector": _selector,
}
