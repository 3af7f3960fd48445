"""Macros: calls whose arguments are evaluated once an item, or only looked at.

`has`, `all`, `exists`, `exists_one`, `map`, `filter`, `sortBy`, their forms with two variables, `transformList`,
`transformMap`, `optMap`, `optFlatMap` and `cel.bind`. Each turn costs one of the steps that an evaluation may
take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kajitori.base.cel.conversions import FROM_JSON
from kajitori.base.cel.errors import BudgetExceeded, EvaluationError
from kajitori.base.cel.syntax import Call, Name, Node, Select
from kajitori.base.cel.types import BOOL, DYN, INT, Type, list_of, map_of, optional_of
from kajitori.base.cel.values import NOTHING, Optional

if TYPE_CHECKING:
    from kajitori.base.cel.compiler import Compiler

Environment = list[Any]
_ORDERED: Final = frozenset(
    {
        "bool",
        "bytes",
        "double",
        "dyn",
        "google.protobuf.Duration",
        "google.protobuf.Timestamp",
        "int",
        "string",
        "uint",
    }
)
"""Kinds of the keys that a list can be sorted by."""


class Code(NamedTuple):
    """A compiled node: its type, and what evaluates it."""

    type: Type
    run: Callable[[Environment], Any]


class _Loop(NamedTuple):
    """A loop over a list or map: `turns` binds the variables for each turn and yields what it is at."""

    turns: Callable[[Environment], Iterable[Any]]
    bodies: list[Code]
    item: Type
    key: Type


def spend_step(env: Environment) -> None:
    env[0] -= 1
    if env[0] < 0:
        raise BudgetExceeded("operation cancelled: actual cost limit exceeded")


def _name(compiler: Compiler, node: Node) -> str:
    if not isinstance(node, Name):
        raise compiler.error("argument must be a simple name", node.at)
    return node.name


def _range(compiler: Compiler, node: Call) -> tuple[Code, Type, Type]:
    """What a macro runs over, with the types of key (index) and value."""
    assert node.target is not None
    source = compiler.compile(node.target)
    kind = source.type
    if kind.kind == "list":
        return source, INT, kind.args[0]
    if kind.kind == "map":
        return source, kind.args[0], kind.args[1]
    if kind.kind == "dyn":
        return source, DYN, DYN
    raise compiler.error(
        f"expression of type '{kind}' cannot be range of a comprehension (must be list, map, or dynamic)",
        node.target.at,
    )


def _loop(compiler: Compiler, node: Call, variables: int) -> _Loop:
    """The loop of a macro whose first arguments name variables and whose others are evaluated each turn."""
    source, key, value = _range(compiler, node)
    names = [_name(compiler, arg) for arg in node.args[:variables]]
    of_map = source.type.kind == "map"
    kinds = [key, value] if variables == 2 else [key if of_map else value]
    bound = [compiler.bind(name, kind) for name, kind in zip(names, kinds, strict=True)]
    bodies = [compiler.compile(arg) for arg in node.args[variables:]]
    for _, unbind in reversed(bound):
        unbind()
    slots = [slot for slot, _ in bound]
    turns = _pairs(source, slots, value) if variables == 2 else _singles(source, slots[0], kinds[0])
    return _Loop(turns, bodies, kinds[-1], key)


def _singles(source: Code, slot: int, kind: Type) -> Callable[[Environment], Iterable[Any]]:
    get = source.run
    convert = FROM_JSON.get(kind.kind)

    def turns(env: Environment) -> Iterable[Any]:
        items = get(env)
        if not isinstance(items, list | dict):
            raise EvaluationError("no such overload: a macro runs over lists and maps")
        for item in items:
            spend_step(env)
            value = convert(item) if convert else item
            env[slot] = value
            yield value

    return turns


def _pairs(source: Code, slots: list[int], kind: Type) -> Callable[[Environment], Iterable[Any]]:
    get = source.run
    first, second = slots
    convert = FROM_JSON.get(kind.kind)

    def turns(env: Environment) -> Iterable[Any]:
        items = get(env)
        if not isinstance(items, list | dict):
            raise EvaluationError("no such overload: a macro runs over lists and maps")
        for key, item in items.items() if isinstance(items, dict) else enumerate(items):
            spend_step(env)
            env[first] = key
            env[second] = convert(item) if convert else item
            yield key

    return turns


def _has(compiler: Compiler, node: Call) -> Code | None:
    if node.target is not None:
        return None
    (arg,) = node.args
    if not isinstance(arg, Select) or arg.optional:
        raise compiler.error("invalid argument to has() macro", node.at)
    # A field that is not known is shown where the macro is.
    return compiler.has(replace(arg, at=node.at))


def _quantifier(variables: int, *, decisive: bool) -> Callable[[Compiler, Call], Code]:
    """`exists` (decisive: true) and `all` (false): one turn that decides makes errors of others not matter."""

    def expand(compiler: Compiler, node: Call) -> Code:
        loop = _loop(compiler, node, variables)
        compiler.expect(loop.bodies[0], BOOL, node)
        turns, test = loop.turns, loop.bodies[0].run

        def run(env: Environment) -> bool:
            failed: EvaluationError | None = None
            for _ in turns(env):
                try:
                    result = test(env)
                except BudgetExceeded:
                    raise
                except EvaluationError as error:
                    failed = error
                    continue
                if result is decisive:
                    return decisive
                if not isinstance(result, bool):
                    failed = EvaluationError("no such overload")
            if failed is not None:
                raise failed
            return not decisive

        return Code(BOOL, run)

    return expand


def _exactly_one(variables: int) -> Callable[[Compiler, Call], Code]:
    def expand(compiler: Compiler, node: Call) -> Code:
        loop = _loop(compiler, node, variables)
        compiler.expect(loop.bodies[0], BOOL, node)
        turns, test = loop.turns, loop.bodies[0].run
        return Code(BOOL, lambda env: sum(1 for _ in turns(env) if test(env) is True) == 1)

    return expand


def _mapped(compiler: Compiler, node: Call) -> Code:
    loop = _loop(compiler, node, 1)
    turns = loop.turns
    if len(loop.bodies) == 1:
        change = loop.bodies[0].run
        return Code(list_of(loop.bodies[0].type), lambda env: [change(env) for _ in turns(env)])
    compiler.expect(loop.bodies[0], BOOL, node)
    test, change = loop.bodies[0].run, loop.bodies[1].run
    return Code(
        list_of(loop.bodies[1].type), lambda env: [change(env) for _ in turns(env) if test(env) is True]
    )


def _filtered(compiler: Compiler, node: Call) -> Code:
    loop = _loop(compiler, node, 1)
    compiler.expect(loop.bodies[0], BOOL, node)
    turns, test = loop.turns, loop.bodies[0].run
    return Code(list_of(loop.item), lambda env: [item for item in turns(env) if test(env) is True])


def _sorted_by(compiler: Compiler, node: Call) -> Code:
    loop = _loop(compiler, node, 1)
    key = loop.bodies[0]
    if key.type.kind not in _ORDERED:
        raise compiler.error(
            f"found no matching overload for '@sortByAssociatedKeys' applied to 'list({loop.item}).(list({key.type}))'",
            node.at,
        )
    turns, of_item = loop.turns, key.run

    def run(env: Environment) -> list[Any]:
        pairs = [(of_item(env), item) for item in turns(env)]
        return [item for _, item in sorted(pairs, key=lambda pair: pair[0])]

    return Code(list_of(loop.item), run)


def _transformed_list(compiler: Compiler, node: Call) -> Code:
    loop = _loop(compiler, node, 2)
    turns, change = loop.turns, loop.bodies[-1].run
    test = _test_of(compiler, node, loop)
    return Code(
        list_of(loop.bodies[-1].type),
        lambda env: [change(env) for _ in turns(env) if test is None or test(env) is True],
    )


def _transformed_map(compiler: Compiler, node: Call) -> Code:
    loop = _loop(compiler, node, 2)
    turns, change = loop.turns, loop.bodies[-1].run
    test = _test_of(compiler, node, loop)
    return Code(
        map_of(loop.key, loop.bodies[-1].type),
        lambda env: {key: change(env) for key in turns(env) if test is None or test(env) is True},
    )


def _test_of(compiler: Compiler, node: Call, loop: _Loop) -> Callable[[Environment], Any] | None:
    if len(loop.bodies) == 1:
        return None
    compiler.expect(loop.bodies[0], BOOL, node)
    return loop.bodies[0].run


def _optional_map(*, flat: bool) -> Callable[[Compiler, Call], Code]:
    def expand(compiler: Compiler, node: Call) -> Code:
        assert node.target is not None
        source = compiler.compile(node.target)
        if source.type.kind not in ("optional_type", "dyn"):
            raise compiler.error(f"expected type 'optional_type' but found '{source.type}'", node.at)
        inner = source.type.args[0] if source.type.args else DYN
        slot, unbind = compiler.bind(_name(compiler, node.args[0]), inner)
        body = compiler.compile(node.args[1])
        unbind()
        get, change = source.run, body.run

        def run(env: Environment) -> Optional:
            optional = get(env)
            if not optional.present:
                return NOTHING
            env[slot] = optional.value
            return change(env) if flat else Optional(True, change(env))

        return Code(body.type if flat else optional_of(body.type), run)

    return expand


def _bind(compiler: Compiler, node: Call) -> Code | None:
    if not isinstance(node.target, Name) or node.target.name != "cel":
        return None
    value = compiler.compile(node.args[1])
    slot, unbind = compiler.bind(_name(compiler, node.args[0]), value.type)
    body = compiler.compile(node.args[2])
    unbind()
    get, run_body = value.run, body.run

    def run(env: Environment) -> Any:
        env[slot] = get(env)
        return run_body(env)

    return Code(body.type, run)


Expand = Callable[["Compiler", Call], "Code | None"]

MACROS: Final[dict[tuple[str, bool, int], Expand]] = {
    ("has", False, 1): _has,
    ("all", True, 2): _quantifier(1, decisive=False),
    ("all", True, 3): _quantifier(2, decisive=False),
    ("exists", True, 2): _quantifier(1, decisive=True),
    ("exists", True, 3): _quantifier(2, decisive=True),
    ("exists_one", True, 2): _exactly_one(1),
    ("exists_one", True, 3): _exactly_one(2),
    ("existsOne", True, 3): _exactly_one(2),
    ("map", True, 2): _mapped,
    ("map", True, 3): _mapped,
    ("filter", True, 2): _filtered,
    ("sortBy", True, 2): _sorted_by,
    ("transformList", True, 3): _transformed_list,
    ("transformList", True, 4): _transformed_list,
    ("transformMap", True, 3): _transformed_map,
    ("transformMap", True, 4): _transformed_map,
    ("optMap", True, 2): _optional_map(flat=False),
    ("optFlatMap", True, 2): _optional_map(flat=True),
    ("bind", True, 3): _bind,
}
"""By name, whether it is called as a method, and the number of arguments."""
