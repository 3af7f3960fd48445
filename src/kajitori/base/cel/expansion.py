"""A checked expression with its macros written out, as the loops, lists and conditions that they stand for.

What an expression costs at worst is counted on this form, since that is what other servers count on. Each part
carries its type, and room for what the estimate finds out about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from kajitori.base.cel import syntax
from kajitori.base.cel.types import BOOL, DYN, INT, Type, list_of, map_of, optional_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.base.cel.compiler import Checked
    from kajitori.base.cel.functions import Overload

ACCUMULATOR: Final = "@result"


@dataclass(eq=False, slots=True)
class Part:
    """findings: what the estimate has found out about this very part; parts are told apart by identity."""

    type: Type
    findings: dict[str, Any] = field(default_factory=dict[str, Any], init=False)


@dataclass(eq=False, slots=True)
class Constant(Part):
    """kind: as of the literal in the text."""

    value: Any
    kind: str


@dataclass(eq=False, slots=True)
class Variable(Part):
    name: str


@dataclass(eq=False, slots=True)
class Selection(Part):
    """`operand.name`; only_asked: `has(operand.name)`."""

    operand: Expanded
    name: str
    only_asked: bool = False


@dataclass(eq=False, slots=True)
class Invocation(Part):
    """A call. overloads: those that the types leave possible; empty where there is but one way."""

    function: str
    target: Expanded | None
    args: list[Expanded]
    overloads: list[Overload] = field(default_factory=list["Overload"])


@dataclass(eq=False, slots=True)
class Items(Part):
    items: list[Expanded]


@dataclass(eq=False, slots=True)
class Entries(Part):
    entries: list[tuple[Expanded, Expanded]]


@dataclass(eq=False, slots=True)
class Loop(Part):
    """names: of the variables that each turn sets, one or two. start, turn: the accumulator before, and after a turn."""

    over: Expanded
    names: tuple[str, ...]
    start: Expanded
    goes_on: Expanded
    turn: Expanded
    result: Expanded


@dataclass(eq=False, slots=True)
class Binding(Part):
    """A value under a name inside `body`."""

    name: str
    value: Expanded
    body: Expanded


Expanded: TypeAlias = "Constant | Variable | Selection | Invocation | Items | Entries | Loop | Binding"


def expand(node: syntax.Node, checked: Checked) -> Expanded:
    """The written-out form of an expression that was checked."""
    return _Expansion(checked).expand(node)


def _true() -> Constant:
    return Constant(BOOL, True, "bool")


def _call(function: str, kind: Type, *args: Expanded) -> Invocation:
    return Invocation(kind, function, None, list(args))


class _Expansion:
    def __init__(self, checked: Checked) -> None:
        self._checked = checked

    def expand(self, node: syntax.Node) -> Expanded:
        kind = self._type(node)
        match node:
            case syntax.Literal():
                return Constant(kind, node.value, node.kind)
            case syntax.Name():
                return Variable(kind, node.name)
            case syntax.Select():
                operand = self.expand(node.operand)
                if node.optional:
                    return _call("_?._", kind, operand, Constant(kind, node.field, "string"))
                return Selection(kind, operand, node.field)
            case syntax.ListOf():
                return Items(kind, [self.expand(item) for item in node.items])
            case syntax.MapOf():
                return Entries(kind, [(self.expand(key), self.expand(value)) for key, value in node.entries])
            case syntax.Call():
                return self._call(node, kind)

    def _type(self, node: syntax.Node) -> Type:
        return self._checked.types.get(id(node), DYN)

    def _call(self, node: syntax.Call, kind: Type) -> Expanded:
        resolved = self._checked.calls.get(id(node))
        if resolved is None:
            return self._macro(node, kind)
        args = [self.expand(arg) for arg in node.args]
        member = node.target is not None and resolved.name == node.function
        target = self.expand(node.target) if member and node.target is not None else None
        return Invocation(kind, resolved.name, target, args, resolved.overloads)

    def _macro(self, node: syntax.Call, kind: Type) -> Expanded:
        name = node.function
        if name == "has":
            (arg,) = node.args
            assert isinstance(arg, syntax.Select), "checked before"
            return Selection(BOOL, self.expand(arg.operand), arg.field, only_asked=True)
        if name == "bind":
            value, body = self.expand(node.args[1]), self.expand(node.args[2])
            return Binding(kind, _name(node.args[0]), value, body)
        if name == "sortBy":
            return self._sorted(node, kind)
        if name in ("optMap", "optFlatMap"):
            return self._optional_map(node, kind)
        return _LOOPS[name](self, node, kind)

    def _sorted(self, node: syntax.Call, kind: Type) -> Expanded:
        """The list under the name of its items, sorted by the list of the keys."""
        assert node.target is not None
        over, name = self.expand(node.target), _name(node.args[0])
        keys = self.listed(node, list_of(self._type(node.args[1])))
        assert isinstance(keys, Loop)
        keys.over = Variable(over.type, name)
        made = Invocation(kind, "@sortByAssociatedKeys", Variable(over.type, name), [keys])
        return Binding(kind, name, over, made)

    def _optional_map(self, node: syntax.Call, kind: Type) -> Expanded:
        assert node.target is not None
        inner = self._type(node.target)
        inner = inner.args[0] if inner.args else DYN
        has = Invocation(BOOL, "hasValue", self.expand(node.target), [])
        value = Invocation(inner, "value", self.expand(node.target), [])
        body = self.expand(node.args[1])
        bound: Expanded = Binding(body.type, _name(node.args[0]), value, body)
        if node.function == "optMap":
            bound = _call("optional.of", optional_of(body.type), bound)
        return _call("_?_:_", kind, has, bound, _call("optional.none", kind))

    def _loop(
        self, node: syntax.Call, kind: Type, names: int, start: Expanded, goes_on: Expanded, turn: Expanded
    ) -> Loop:
        assert node.target is not None
        over = self.expand(node.target)
        found = tuple(_name(arg) for arg in node.args[:names])
        return Loop(kind, over, found, start, goes_on, turn, Variable(start.type, ACCUMULATOR))

    def quantified(self, node: syntax.Call, kind: Type) -> Expanded:
        every = node.function == "all"
        test = self.expand(node.args[-1])
        unless: Expanded = Variable(BOOL, ACCUMULATOR)
        if not every:
            unless = _call("!_", BOOL, unless)
        goes_on = _call("@not_strictly_false", BOOL, unless)
        operator = "_&&_" if every else "_||_"
        turn = _call(operator, BOOL, Variable(BOOL, ACCUMULATOR), test)
        return self._loop(node, kind, len(node.args) - 1, Constant(BOOL, every, "bool"), goes_on, turn)

    def exactly_one(self, node: syntax.Call, kind: Type) -> Expanded:
        more = _call("_+_", INT, Variable(INT, ACCUMULATOR), Constant(INT, 1, "int"))
        turn = _call("_?_:_", INT, self.expand(node.args[-1]), more, Variable(INT, ACCUMULATOR))
        loop = self._loop(node, kind, len(node.args) - 1, Constant(INT, 0, "int"), _true(), turn)
        loop.result = _call("_==_", BOOL, loop.result, Constant(INT, 1, "int"))
        return loop

    def listed(self, node: syntax.Call, kind: Type) -> Expanded:
        """`map`, `filter` and `transformList`: lists put together item by item."""
        names = 2 if node.function == "transformList" else 1
        tests, made = list(node.args[names:-1]), self._made(node)
        if node.function == "filter":
            tests = [node.args[1]]
        extended: Expanded = _call("_+_", kind, Variable(kind, ACCUMULATOR), made)
        extended = self._if(tests, kind, extended)
        return self._loop(node, kind, names, Items(list_of(DYN), []), _true(), extended)

    def _made(self, node: syntax.Call) -> Expanded:
        if node.function != "filter":
            item = self.expand(node.args[-1])
        else:
            assert node.target is not None
            of = self._type(node.target)
            item = Variable(of.args[0] if of.args else DYN, _name(node.args[0]))
        return Items(list_of(item.type), [item])

    def mapped(self, node: syntax.Call, kind: Type) -> Expanded:
        """`transformMap`: a map put together entry by entry."""
        key = kind.args[0] if kind.args else DYN
        change = self.expand(node.args[-1])
        made = _call(
            "cel.@mapInsert", kind, Variable(kind, ACCUMULATOR), Variable(key, _name(node.args[0])), change
        )
        turn = self._if(list(node.args[2:-1]), kind, made)
        return self._loop(node, kind, 2, Entries(map_of(DYN, DYN), []), _true(), turn)

    def _if(self, tests: list[syntax.Node], kind: Type, made: Expanded) -> Expanded:
        for test in tests:
            made = _call("_?_:_", kind, self.expand(test), made, Variable(kind, ACCUMULATOR))
        return made


def _name(node: syntax.Node) -> str:
    assert isinstance(node, syntax.Name), "checked before"
    return node.name


_LOOPS: Final[dict[str, Callable[[_Expansion, syntax.Call, Type], Expanded]]] = {
    "all": _Expansion.quantified,
    "exists": _Expansion.quantified,
    "exists_one": _Expansion.exactly_one,
    "existsOne": _Expansion.exactly_one,
    "map": _Expansion.listed,
    "filter": _Expansion.listed,
    "transformList": _Expansion.listed,
    "transformMap": _Expansion.mapped,
}
