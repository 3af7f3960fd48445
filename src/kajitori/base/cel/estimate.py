"""What an expression costs at worst, before anything is evaluated, in the units that a kube-apiserver counts in.

A server refuses a rule that might take too long on the largest object that its schema lets through. So this
counts as cel-go's checker and Kubernetes' library do, the sizes that they overlook included: a verdict here is a
verdict there. Costs and sizes are whole numbers of 64 bits that stay at the largest one when they would go beyond.

Source: cel-go v0.26 `checker/cost.go`; how single functions are counted: `estimate_calls`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kajitori.base.cel.compiler import Compiler
from kajitori.base.cel.estimate_calls import Argument, call_cost
from kajitori.base.cel.estimate_sizes import ONE, UNKNOWN, EntrySizes, Path, Size, plus, times
from kajitori.base.cel.expansion import (
    ACCUMULATOR,
    Binding,
    Constant,
    Entries,
    Expanded,
    Invocation,
    Items,
    Loop,
    Selection,
    Variable,
    expand,
)
from kajitori.base.cel.syntax import parse
from kajitori.base.cel.types import ObjectType, Type

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAMED: Final = 1
_LIST: Final = 10
_MAP: Final = 30
_SCALARS: Final = frozenset(
    {"bool", "double", "int", "uint", "google.protobuf.Duration", "google.protobuf.Timestamp"}
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How large data can be. most: elements of a list or map, letters of a text (0 for what has no size).

    least_bytes: that it takes in JSON.
    """

    most: int = 0
    least_bytes: int = 0
    fields: Mapping[str, Shape] = field(default_factory=dict[str, "Shape"])
    items: Shape | None = None
    keys: Shape | None = None

    def at(self, path: Iterable[str]) -> Shape | None:
        """What lies at the path below: `@items`, `@values`, `@keys` or a field at each step."""
        found: Shape | None = self
        for step in path:
            if found is None:
                return None
            if step in ("@items", "@values"):
                found = found.items
            elif step == "@keys":
                found = found.keys
            else:
                found = found.fields.get(step)
        return found


def estimate_cost(source: str, variables: Mapping[str, Type], shape: Shape) -> int:
    """The most that one evaluation can cost; shape: of the data that the variables hold. Raises CompileError."""
    tree = parse(source)
    compiler = Compiler(source, variables)
    compiler.compile(tree)
    return _Estimate(shape).cost(expand(tree, compiler.checked))


@dataclass(frozen=True, slots=True)
class _Local:
    """A variable of a macro."""

    path: Path
    size: Size | None
    entries: EntrySizes | None = None


class _Estimate:
    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._locals: dict[str, list[_Local]] = {}

    def cost(self, part: Expanded) -> int:
        match part:
            case Constant():
                return 0
            case Variable():
                return self._variable(part)
            case Selection():
                return self._selection(part)
            case Invocation():
                return self._invocation(part)
            case Items():
                return self._items(part)
            case Entries():
                return self._entries(part)
            case Loop():
                return self._loop(part)
            case Binding():
                return self._binding(part)

    def _variable(self, part: Variable) -> int:
        local = self._local(part.name)
        part.findings["path"] = local.path if local else Path().then(part.name)
        return _NAMED

    def _selection(self, part: Selection) -> int:
        cost = self.cost(part.operand)
        if part.only_asked:
            return cost
        kind = part.operand.type
        if isinstance(kind, ObjectType) or kind.kind in ("map", "object"):
            cost = plus(cost, _NAMED)
        part.findings["path"] = self._path(part.operand).then(part.name)
        return cost

    def _items(self, part: Items) -> int:
        cost = _LIST
        size: Size | None = None if part.items else Size(0, 0)
        for item in part.items:
            cost = plus(cost, self.cost(item))
            found = self._size(item) or UNKNOWN
            size = found if size is None else size.union(found)
        part.findings["entries"] = EntrySizes("list", ONE, size or UNKNOWN)
        return cost

    def _entries(self, part: Entries) -> int:
        cost = _MAP
        keys: Size | None = None if part.entries else Size(0, 0)
        values = keys
        for key, value in part.entries:
            cost = plus(cost, plus(self.cost(key), self.cost(value)))
            of_key, of_value = self._size(key) or UNKNOWN, self._size(value) or UNKNOWN
            keys = of_key if keys is None else keys.union(of_key)
            values = of_value if values is None else values.union(of_value)
        part.findings["entries"] = EntrySizes("map", keys or UNKNOWN, values or UNKNOWN)
        return cost

    def _loop(self, part: Loop) -> int:
        cost = plus(self.cost(part.over), self.cost(part.start))
        self._push(ACCUMULATOR, self._held(part.start))
        self._push_turn(part)
        turn = plus(self.cost(part.goes_on), self.cost(part.turn))
        for name in part.names:
            self._locals[name].pop()
        cost = plus(cost, self.cost(part.result))
        self._locals[ACCUMULATOR].pop()
        turns = self._size(part.over) or UNKNOWN
        if isinstance(part.start, Items | Entries):
            part.findings["size"] = turns
            entries = self._entry_sizes(part.turn)
            if entries is not None:
                part.findings["entries"] = entries
        else:
            part.findings["size"] = ONE
        return plus(cost, times(turns.most, turn))

    def _push_turn(self, part: Loop) -> None:
        entries = self._entry_sizes(part.over)
        kind = entries.container if entries else part.over.type.kind
        path = self._path(part.over)
        of_list = kind == "list"
        keys, values = (entries.keys, entries.values) if entries else (None, None)
        if len(part.names) == 2:
            key, value = part.names
            self._push(key, _Local(path.then("@indices" if of_list else "@keys"), keys))
            self._push(value, _Local(path.then("@items" if of_list else "@values"), values))
        elif of_list:
            self._push(part.names[0], _Local(path.then("@items"), values))
        else:
            self._push(part.names[0], _Local(path.then("@keys"), keys))

    def _binding(self, part: Binding) -> int:
        cost = plus(_LIST, self.cost(part.value))
        self._push(part.name, self._held(part.value))
        cost = plus(cost, self.cost(part.body))
        self._locals[part.name].pop()
        self._copy_sizes(part, part.body)
        return cost

    def _invocation(self, part: Invocation) -> int:
        if part.function == "dyn":
            cost = plus(self.cost(part.args[0]), 1)
            self._copy_sizes(part, part.args[0])
            return cost
        costs: list[int] = []
        args: list[Argument] = []
        for arg in part.args:
            costs.append(self.cost(arg))
            args.append(self._argument(arg))
        cost, target = 0, None
        if part.target is not None:
            cost = self.cost(part.target)
            target = self._argument(part.target)
        dearest, size = 0, None
        for overload in part.overloads or [None]:
            kinds = tuple(param.kind for param in overload.params) if overload else ()
            found = call_cost(part.function, kinds, target, args, costs, self._shape_size)
            dearest = max(dearest, found.cost)
            if found.entries is not None:
                part.findings["entries"] = found.entries
            if found.size is not None:
                size = found.size if size is None else size.union(found.size)
            if part.function == "_[_]" and kinds and kinds[0] in ("list", "map"):
                entries = self._entry_sizes(part.args[0])
                size = entries.values if entries else None
                step = "@items" if kinds[0] == "list" else "@values"
                part.findings["path"] = self._path(part.args[0]).then(step)
            if size is None:
                size = self._size(part)
        if size is not None:
            part.findings["size"] = size
        return plus(cost, dearest)

    # --- what is known of parts

    def _argument(self, part: Expanded) -> Argument:
        return Argument(self._path(part), part.type, part, self._size(part), self._entry_sizes(part))

    def _held(self, part: Expanded) -> _Local:
        return _Local(self._path(part), self._size(part), self._entry_sizes(part))

    def _push(self, name: str, local: _Local) -> None:
        self._locals.setdefault(name, []).append(local)

    def _local(self, name: str) -> _Local | None:
        stack = self._locals.get(name)
        return stack[-1] if stack else None

    def _path(self, part: Expanded) -> Path:
        local = self._local(part.name) if isinstance(part, Variable) else None
        return local.path if local else part.findings.get("path") or Path()

    def _copy_sizes(self, to: Expanded, source: Expanded) -> None:
        size, entries = self._size(source), self._entry_sizes(source)
        if size is not None:
            to.findings["size"] = size
        if entries is not None:
            to.findings["entries"] = entries

    def _shape_size(self, path: Path) -> Size | None:
        """What the schema says of the data at a path, whose first step names a variable."""
        steps = path.steps
        found = self._shape.at(steps[1:]) if steps else None
        return Size(0, found.most) if found else None

    def _size(self, part: Expanded) -> Size | None:
        if "size" in part.findings:
            return part.findings["size"]
        if (size := _written_size(part)) is not None:
            return size
        if (size := self._shape_size(self._path(part))) is not None:
            part.findings["size"] = size
            return size
        if _is_scalar(part.type):
            return ONE
        local = self._local(part.name) if isinstance(part, Variable) else None
        return local.size if local else None

    def _entry_sizes(self, part: Expanded) -> EntrySizes | None:
        if "entries" in part.findings:
            return part.findings["entries"]
        local = self._local(part.name) if isinstance(part, Variable) else None
        return local.entries if local else None


def _written_size(part: Expanded) -> Size | None:
    """Of what stands in the expression itself."""
    match part:
        case Constant():
            length = len(part.value) if part.kind in ("string", "bytes") else 1
        case Items():
            length = len(part.items)
        case Entries():
            length = len(part.entries)
        case _:
            return None
    return Size(length, length)


def _is_scalar(kind: Type) -> bool:
    if kind.kind == "optional_type":
        return bool(kind.args) and _is_scalar(kind.args[0])
    return kind.kind in _SCALARS
