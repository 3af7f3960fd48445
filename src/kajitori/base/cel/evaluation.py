"""What the parts of a compiled expression do when it runs: functions of the environment.

The compiler has checked all that can be known of types before; what is left to the values is chosen here.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from kajitori.base.cel.conversions import FROM_JSON
from kajitori.base.cel.errors import EvaluationError
from kajitori.base.cel.functions import Overload, as_int, divide, quotient, remainder
from kajitori.base.cel.macros import Code, Environment
from kajitori.base.cel.types import TYPE, Type
from kajitori.base.cel.values import KINDS, NOTHING, Optional, TypeValue

MIXED_ARITHMETIC: Final[dict[str, tuple[Callable[..., Any], Callable[..., Any]]]] = {
    "_+_": (lambda a, b: as_int(a + b), lambda a, b: a + b),
    "_-_": (lambda a, b: as_int(a - b), lambda a, b: a - b),
    "_*_": (lambda a, b: as_int(a * b), lambda a, b: a * b),
    "_/_": (quotient, lambda a, b: divide(Decimal(a), Decimal(b))),
    "_%_": (remainder, lambda a, b: Decimal(a) % Decimal(b)),
}
"""Arithmetic between number types: of whole numbers, and where a decimal takes part."""


def typed(code: Code) -> Code:
    """The code with data turned into a value where the type is one that JSON lacks (a time, a double)."""
    convert = _conversion(code.type)
    if convert is None:
        return code
    get = code.run
    return Code(code.type, lambda env: convert(get(env)))


def _conversion(kind: Type) -> Callable[[Any], Any] | None:
    """From data to a value; None: the data is the value. Lists of numbers are left alone, whole or not."""
    if kind.kind not in ("list", "map"):
        return FROM_JSON.get(kind.kind)
    inner = None if kind.args[-1].kind == "double" else _conversion(kind.args[-1])
    if inner is None:
        return None
    if kind.kind == "list":
        return lambda items: [inner(item) for item in items] if isinstance(items, list) else items
    return lambda entries: (
        {key: inner(value) for key, value in entries.items()} if isinstance(entries, dict) else entries
    )


def select_dynamic(value: Any, key: str) -> Any:
    """A field of what may be a map or an optional one. Raises EvaluationError."""
    if isinstance(value, dict):
        if key in value:
            return value[key]
        raise EvaluationError(f"no such key: {key}")
    if isinstance(value, Optional):
        found = value.value if value.present else None
        return Optional(True, found[key]) if isinstance(found, dict) and key in found else NOTHING
    raise EvaluationError(f"no such overload: {key} of a value that is no map")


def type_of(code: Code) -> Code:
    """`type(x)`."""
    get, kind = code.run, code.type.kind
    if kind == "dyn":
        return Code(TYPE, lambda env: TypeValue(KINDS.get(type(get(env)), "dyn")))

    def run(env: Environment) -> TypeValue:
        get(env)
        return TypeValue(kind)

    return Code(TYPE, run)


def direct(run: Callable[..., Any], codes: list[Code]) -> Callable[[Environment], Any]:
    """Call the one overload that the types leave possible."""
    if len(codes) == 1:
        only = codes[0].run
        return lambda env: run(only(env))
    if len(codes) == 2:
        left, right = codes[0].run, codes[1].run
        return lambda env: run(left(env), right(env))
    runs = [code.run for code in codes]
    return lambda env: run(*[get(env) for get in runs])


def dispatch(name: str, overloads: list[Overload], codes: list[Code]) -> Callable[[Environment], Any]:
    """Choose the overload by the values, where types were not known before."""
    known = [code.type.kind for code in codes]
    runs = [code.run for code in codes]
    choices = [(overload.run, [param.kind for param in overload.params]) for overload in overloads]

    def run(env: Environment) -> Any:
        args = [get(env) for get in runs]
        kinds = [
            KINDS.get(type(value), "dyn") if kind == "dyn" else kind
            for value, kind in zip(args, known, strict=True)
        ]
        for function, wanted in choices:
            if all(
                want in (kind, "dyn", "parameter") or (want == "map" and kind == "object")
                for want, kind in zip(wanted, kinds, strict=True)
            ):
                return function(*args)
        raise EvaluationError(f"no such overload: {name}({', '.join(kinds)})")

    return run


def absorbing(
    left: Callable[[Environment], Any], right: Callable[[Environment], Any], *, decisive: bool
) -> Callable[[Environment], bool]:
    """`||` (decisive: true) and `&&` (false): a side that decides makes an error of the other not matter."""

    def run(env: Environment) -> bool:
        try:
            first = left(env)
        except EvaluationError:
            if right(env) is decisive:
                return decisive
            raise
        if first is decisive:
            return decisive
        second = right(env)
        if second is decisive:
            return decisive
        if isinstance(first, bool) and isinstance(second, bool):
            return not decisive
        raise EvaluationError("no such overload")

    return run
