"""From a tree to a function: types are checked once, then evaluation is a chain of closures.

Each node becomes `Code`: its type, and a function of the environment. The environment is a list: the steps left
at 0, the variables from 1 on, the variables of macros after them. Data is read as it is, never converted as a
whole, so a rule costs what it looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

from kajitori.base.cel.conversions import FROM_JSON
from kajitori.base.cel.errors import CompileError, EvaluationError
from kajitori.base.cel.evaluation import (
    MIXED_ARITHMETIC,
    absorbing,
    direct,
    dispatch,
    select_dynamic,
    type_of,
    typed,
)
from kajitori.base.cel.functions import FUNCTIONS, Overload
from kajitori.base.cel.macros import MACROS, Code, Environment
from kajitori.base.cel.syntax import Call, ListOf, Literal, MapOf, Name, Node, Select
from kajitori.base.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    INT,
    NULL,
    NUMBERS,
    STRING,
    TYPE,
    UINT,
    ObjectType,
    Type,
    accepts,
    join,
    list_of,
    map_of,
    optional_of,
    substitute,
)
from kajitori.base.cel.values import NOTHING, Optional, TypeValue, equal

_LITERALS: Final = {
    "int": INT,
    "uint": UINT,
    "double": DOUBLE,
    "string": STRING,
    "bytes": BYTES,
    "bool": BOOL,
    "null": NULL,
}
_TYPE_NAMES: Final = frozenset(
    {"int", "uint", "double", "string", "bytes", "bool", "null_type", "list", "map", "type"}
)
_NOT_SUPPORTED: Final = frozenset({"semver", "isSemver", "jsonpatch", "math", "base64", "proto"})
_EQUALITY: Final = ("_==_", "_!=_")
_BY_VALUE: Final = frozenset({"int", "uint", "string", "bool"})


class _Variable(NamedTuple):
    slot: int
    type: Type


class ResolvedCall(NamedTuple):
    """A call that is no macro: the function's whole name, and its overloads that the types leave possible.

    There are none where a function has but one way, as operators on truth values have.
    """

    name: str
    overloads: list[Overload]


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found out about the nodes of a tree, by their identity."""

    types: dict[int, Type] = field(default_factory=dict[int, Type])
    calls: dict[int, ResolvedCall] = field(default_factory=dict[int, ResolvedCall])


class Compiler:
    """Compiles one expression.

    mixed: allow arithmetic between int, uint and double, computed in decimals; not CEL, see `cost`. alike: what a
    list or map literal holds must be of one kind, as Kubernetes has it.
    """

    def __init__(
        self, text: str, variables: Mapping[str, Type], *, mixed: bool = False, alike: bool = True
    ) -> None:
        self.text = text
        self._alike = alike
        self._mixed = mixed
        self._scope: dict[str, _Variable] = {
            name: _Variable(slot, kind) for slot, (name, kind) in enumerate(variables.items(), start=1)
        }
        self.slots = len(variables) + 1
        """How long the environment must be."""
        self.used: set[str] = set()
        """Names of the variables that the expression reads."""
        self.checked = Checked()
        self._formats = 0
        """How many calls of `format` what is compiled now is inside of."""

    def error(self, problem: str, at: int) -> CompileError:
        return CompileError(problem, self.text, at)

    def compile(self, node: Node) -> Code:
        code = self._compile(node)
        self.checked.types[id(node)] = code.type
        return code

    def _compile(self, node: Node) -> Code:
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, Select):
            return self._select(node)
        if isinstance(node, Name):
            return self._name(node)
        if isinstance(node, Literal):
            return self._literal(node)
        if isinstance(node, ListOf):
            return self._list(node)
        return self._map(node)

    def bind(self, name: str, kind: Type) -> tuple[int, Callable[[], None]]:
        """A variable of a macro: its slot, and what takes it out of sight again."""
        hidden = self._scope.get(name)
        slot = self.slots
        self.slots += 1
        self._scope[name] = _Variable(slot, kind)

        def unbind() -> None:
            if hidden is None:
                del self._scope[name]
            else:
                self._scope[name] = hidden

        return slot, unbind

    def _literal(self, node: Literal) -> Code:
        value = node.value
        if self._mixed and node.kind == "double":
            value = Decimal(node.text)
        return Code(_LITERALS[node.kind], lambda env: value)

    def _name(self, node: Name) -> Code:
        found = self._scope.get(node.name)
        if found is None:
            if node.name in _TYPE_NAMES:
                value = TypeValue(node.name)
                return Code(TYPE, lambda env: value)
            raise self._undeclared(node.name, node.at)
        self.used.add(node.name)
        slot = found.slot
        return typed(Code(found.type, lambda env: env[slot]))

    def _undeclared(self, name: str, at: int) -> CompileError:
        if name.partition(".")[0] in _NOT_SUPPORTED:
            return self.error(f"'{name}' is not supported by this implementation of CEL", at)
        return self.error(f"undeclared reference to '{name}' (in container '')", at)

    # --- selection

    def _select(self, node: Select) -> Code:
        operand = self.compile(node.operand)
        if node.optional or operand.type.kind == "optional_type":
            return self._optional_select(node, operand)
        key, kind = self._field(node, operand.type)
        get = operand.run
        if operand.type.kind == "dyn":
            return Code(DYN, lambda env: select_dynamic(get(env), key))

        def run(env: Environment) -> Any:
            try:
                return get(env)[key]
            except KeyError:
                raise EvaluationError(f"no such key: {key}") from None
            except TypeError:
                raise EvaluationError(f"no such overload: {key} of a value that is no map") from None

        return typed(Code(kind, run))

    def has(self, node: Select) -> Code:
        """`has(a.b)`."""
        operand = self.compile(node.operand)
        get = operand.run
        if operand.type.kind == "optional_type":
            optional = self._optional_select(node, operand).run
            return Code(BOOL, lambda env: optional(env).present)
        key, _ = self._field(node, operand.type)

        def run(env: Environment) -> bool:
            value = get(env)
            if not isinstance(value, dict):
                raise EvaluationError("no such overload: has() of a value that is no map")
            return key in value

        return Code(BOOL, run)

    def _field(self, node: Select, kind: Type) -> tuple[str, Type]:
        if isinstance(kind, ObjectType):
            found = kind.find(node.field)
            if found is None:
                raise self.error(f"undefined field '{node.field}'", node.at)
            return found
        if kind.kind == "map" and kind.args[0].kind in ("string", "dyn"):
            return node.field, kind.args[1]
        if kind.kind == "dyn":
            return node.field, DYN
        raise self.error(f"type '{kind}' does not support field selection", node.at)

    def _optional_select(self, node: Select, operand: Code) -> Code:
        wrapped = operand.type.kind == "optional_type"
        inner = operand.type.args[0] if wrapped else operand.type
        key, kind = self._field(node, inner)
        get = operand.run
        convert = FROM_JSON.get(kind.kind)

        def run(env: Environment) -> Optional:
            value = get(env)
            if wrapped:
                if not value.present:
                    return NOTHING
                value = value.value
            if not isinstance(value, dict) or key not in value:
                return NOTHING
            found = value[key]
            return Optional(True, convert(found) if convert else found)

        return Code(optional_of(kind), run)

    # --- literals with parts

    def _list(self, node: ListOf) -> Code:
        parts = [self.compile(item) for item in node.items]
        kinds = [
            self._inside_optional(part.type, node.at) if index in node.optional else part.type
            for index, part in enumerate(parts)
        ]
        self._expect_alike(kinds, [item.at for item in node.items])
        kind = _joined(kinds)
        runs = [part.run for part in parts]
        if not node.optional:
            return Code(list_of(kind), lambda env: [run(env) for run in runs])
        optional = node.optional

        def run_optional(env: Environment) -> list[Any]:
            found: list[Any] = []
            for index, run in enumerate(runs):
                value = run(env)
                if index not in optional:
                    found.append(value)
                elif value.present:
                    found.append(value.value)
            return found

        return Code(list_of(kind), run_optional)

    def _map(self, node: MapOf) -> Code:
        entries = [(self.compile(key), self.compile(value)) for key, value in node.entries]
        keys = [key.type for key, _ in entries]
        values = [
            self._inside_optional(value.type, node.at) if index in node.optional else value.type
            for index, (_, value) in enumerate(entries)
        ]
        for kind in keys:
            if kind.kind not in ("int", "uint", "string", "bool", "dyn"):
                raise self.error(f"unsupported key type: {kind}", node.at)
        self._expect_alike(keys, [key.at for key, _ in node.entries])
        self._expect_alike(values, [value.at for _, value in node.entries])
        key_type = _joined(keys)
        value_type = _joined(values)
        runs = [(key.run, value.run) for key, value in entries]
        optional = node.optional

        def run(env: Environment) -> dict[Any, Any]:
            found: dict[Any, Any] = {}
            for index, (key, value) in enumerate(runs):
                name, entry = key(env), value(env)
                if index in optional:
                    if not entry.present:
                        continue
                    entry = entry.value
                if name in found:
                    raise EvaluationError(f"Failed with repeated key: {name}")
                found[name] = entry
            return found

        return Code(map_of(key_type, value_type), run)

    def _expect_alike(self, kinds: list[Type], places: list[int]) -> None:
        """What a literal holds is of one kind, except where it is only shown."""
        if self._formats or not self._alike:
            return
        for kind, at in zip(kinds, places, strict=True):
            if kind.kind != kinds[0].kind:
                raise self.error(f"expected type '{kinds[0]}' but found '{kind}'", at)

    def _inside_optional(self, kind: Type, at: int) -> Type:
        if kind.kind == "dyn":
            return DYN
        if kind.kind != "optional_type":
            raise self.error(f"expected type 'optional_type' but found '{kind}'", at)
        return kind.args[0]

    # --- calls

    def _call(self, node: Call) -> Code:
        special = MACROS.get((node.function, node.target is not None, len(node.args)))
        if special is not None:
            expanded = special(self, node)
            if expanded is not None:
                return expanded
        name, args = self._resolve(node)
        self.checked.calls[id(node)] = ResolvedCall(name, [])
        self._formats += name == "format"
        codes = [self.compile(arg) for arg in args]
        self._formats -= name == "format"
        if name in _EQUALITY:
            return self._equality(node, codes)
        if name == "_?_:_":
            return self._conditional(node, codes)
        if name in ("_&&_", "_||_"):
            return self._logic(node, codes)
        if name == "type" and len(codes) == 1:
            return type_of(codes[0])
        if (name in ("_[?_]", "_[_]") and codes[0].type.kind == "optional_type") or name == "_[?_]":
            return self._optional_index(node, codes)
        return self._overloaded(node, name, codes)

    def _resolve(self, node: Call) -> tuple[str, tuple[Node, ...]]:
        """The function's whole name and all arguments: `math.abs(x)` is no method of `math`."""
        if node.target is None:
            return node.function, node.args
        if isinstance(node.target, Name) and node.target.name not in self._scope:
            name = f"{node.target.name}.{node.function}"
            if name in FUNCTIONS:
                return name, node.args
            if node.target.name in _NOT_SUPPORTED:
                raise self._undeclared(name, node.at)
        return node.function, (node.target, *node.args)

    def _overloaded(self, node: Call, name: str, codes: list[Code]) -> Code:
        overloads = FUNCTIONS.get(name)
        if overloads is None:
            raise self._undeclared(name, node.at)
        member = node.target is not None and "." not in name
        fitting: list[tuple[Overload, Type]] = []
        for overload in overloads:
            if overload.member is not member or len(overload.params) != len(codes):
                continue
            bound: dict[str, Type] = {}
            if all(
                accepts(param, code.type, bound) for param, code in zip(overload.params, codes, strict=True)
            ):
                fitting.append((overload, substitute(overload.result, bound)))
        if not fitting:
            mixed = self._mixed_arithmetic(name, codes)
            if mixed is not None:
                return mixed
            raise self._no_overload(node, name, codes)
        self.checked.calls[id(node)].overloads.extend(overload for overload, _ in fitting)
        result = fitting[0][1] if all(kind == fitting[0][1] for _, kind in fitting) else DYN
        dynamic = any(code.type.kind == "dyn" for code in codes)
        if not dynamic or _takes_anything(fitting):
            return typed(Code(result, direct(fitting[0][0].run, codes)))
        return Code(result, dispatch(name, [overload for overload, _ in fitting], codes))

    def _no_overload(self, node: Call, name: str, codes: list[Code]) -> CompileError:
        if node.target is not None and "." not in name:
            applied = f"{codes[0].type}.({', '.join(str(code.type) for code in codes[1:])})"
        else:
            applied = f"({', '.join(str(code.type) for code in codes)})"
        return self.error(f"found no matching overload for '{name}' applied to '{applied}'", node.at)

    def _mixed_arithmetic(self, name: str, codes: list[Code]) -> Code | None:
        run = MIXED_ARITHMETIC.get(name)
        if not self._mixed or run is None or not all(code.type.kind in NUMBERS for code in codes):
            return None
        whole = all(code.type.kind != "double" for code in codes)
        of_whole, of_any = run
        return Code(INT if whole else DOUBLE, direct(of_whole if whole else of_any, codes))

    def _equality(self, node: Call, codes: list[Code]) -> Code:
        left, right = codes
        if not (accepts(left.type, right.type, {}) or accepts(right.type, left.type, {})) and not (
            NULL in (left.type, right.type)
            and not {left.type.kind, right.type.kind} & (NUMBERS | {"bool", "string"})
        ):
            raise self._no_overload(node, node.function, codes)
        one, other = left.run, right.run
        negated = node.function == "_!=_"
        if left.type == right.type and left.type.kind in _BY_VALUE:
            if negated:
                return Code(BOOL, lambda env: one(env) != other(env))
            return Code(BOOL, lambda env: one(env) == other(env))
        return Code(BOOL, lambda env: equal(one(env), other(env)) is not negated)

    def _conditional(self, node: Call, codes: list[Code]) -> Code:
        condition, chosen, otherwise = codes
        self.expect(condition, BOOL, node)
        if not (
            accepts(chosen.type, otherwise.type, {})
            or accepts(otherwise.type, chosen.type, {})
            or join(chosen.type, otherwise.type).kind != "dyn"
            or self._mixed
        ):
            raise self._no_overload(node, "_?_:_", codes)
        test, then, other = condition.run, chosen.run, otherwise.run

        def run(env: Environment) -> Any:
            decision = test(env)
            if decision is True:
                return then(env)
            if decision is False:
                return other(env)
            raise EvaluationError("no such overload")

        return Code(join(chosen.type, otherwise.type), run)

    def _logic(self, node: Call, codes: list[Code]) -> Code:
        for code in codes:
            self.expect(code, BOOL, node)
        left, right = codes[0].run, codes[1].run
        return Code(BOOL, absorbing(left, right, decisive=node.function == "_||_"))

    def expect(self, code: Code, wanted: Type, node: Call) -> None:
        if not accepts(wanted, code.type, {}):
            raise self.error(f"expected type '{wanted}' but found '{code.type}'", node.at)

    def _optional_index(self, node: Call, codes: list[Code]) -> Code:
        operand, index = codes
        wrapped = operand.type.kind == "optional_type"
        inner = operand.type.args[0] if wrapped else operand.type
        kind = inner.args[-1] if inner.kind in ("list", "map") else DYN
        if inner.kind not in ("list", "map", "dyn"):
            raise self._no_overload(node, node.function, codes)
        get, at = operand.run, index.run

        def run(env: Environment) -> Optional:
            value = get(env)
            if wrapped:
                if not value.present:
                    return NOTHING
                value = value.value
            key = at(env)
            if isinstance(value, dict):
                return Optional(True, value[key]) if key in value else NOTHING
            if isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value):
                return Optional(True, value[key])
            return NOTHING

        return Code(optional_of(kind), run)


def _joined(kinds: list[Type]) -> Type:
    kind = kinds[0] if kinds else DYN
    for other in kinds[1:]:
        kind = join(kind, other)
    return kind


def _takes_anything(fitting: list[tuple[Overload, Type]]) -> bool:
    return len(fitting) == 1 and all(param.kind in ("dyn", "parameter") for param in fitting[0][0].params)
