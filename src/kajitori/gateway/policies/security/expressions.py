"""`cel` of authorization: an expression over the request, checked here and handed to Envoy as a tree. Pure.

Envoy takes no text of CEL. What it reads has CEL's operators and plain functions, and nothing that loops over lists or
makes texts. Something else would hold for nobody, or be refused, without a word of where: so it is told with its place.
"""

from __future__ import annotations

import base64
import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from kajitori.base.cel import syntax
from kajitori.base.cel.compiler import Compiler
from kajitori.base.cel.errors import CompileError, EvaluationError
from kajitori.base.cel.program import compile_expression
from kajitori.base.cel.types import (
    BOOL,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    UINT,
    ObjectType,
    Type,
    map_of,
)
from kajitori.gateway.patterns import check_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL_HEADERS: Final = ("x-ai-eg-",)
"""Headers that are known once the model is."""
MOST_SEARCHES: Final = 32
"""How often an expression may look through a text. Nothing loops in it, so what it costs is this times 60 KiB of headers."""
_REQUEST: dict[str, Type] = {
    **dict.fromkeys(("path", "url_path", "host", "scheme", "method", "query"), STRING),
    **dict.fromkeys(("referer", "useragent", "id", "protocol"), STRING),
    "headers": map_of(STRING, STRING),
    "time": TIMESTAMP,
    "size": INT,
    "total_size": INT,
}
_PLACE: dict[str, Type] = {"address": STRING, "port": INT}
_CONNECTION: dict[str, Type] = {
    **dict.fromkeys(("requested_server_name", "tls_version"), STRING),
    **{
        f"{what}_{of}_certificate": STRING
        for of in ("local", "peer")
        for what in ("subject", "dns_san", "uri_san")
    },
    "sha256_peer_certificate_digest": STRING,
    "id": UINT,
    "mtls": BOOL,
}
# fmt: off
_FUNCTIONS = frozenset((
    "size", "contains", "startsWith", "endsWith", "matches", "has", "int", "uint", "double", "bool", "bytes", "type", "dyn",
    "timestamp", "duration", "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear",
    "getHours", "getMinutes", "getSeconds", "getMilliseconds",
))
_OPERATORS = frozenset((
    "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "_&&_", "_||_", "!_", "_?_:_", "@in", "_[_]", "_+_", "_-_", "_*_", "_/_",
    "_%_", "-_",
))
# fmt: on
# Each is two of the hundred levels that a message can have.
_DEEPEST = 40
_SEARCHES = ("matches", "contains")
_JOINED = ("string", "bytes", "list")
_CONSTANTS = {
    "int": "int64_value",
    "uint": "uint64_value",
    "double": "double_value",
    "string": "string_value",
    "bytes": "bytes_value",
    "bool": "bool_value",
    "null": "null_value",
}


def _object(name: str, fields: dict[str, Type]) -> ObjectType:
    def find(field: str) -> tuple[str, Type] | None:
        return (field, fields[field]) if field in fields else None

    return ObjectType("object", name=name, find=find)


_VARIABLES: dict[str, Type] = {
    "request": _object("request", _REQUEST),
    "source": _object("source", _PLACE),
    "destination": _object("destination", _PLACE),
    "connection": _object("connection", _CONNECTION),
    "metadata": DYN,
    "filter_state": DYN,
}


@dataclass(frozen=True, slots=True)
class RequestExpression:
    """tree: the message `cel.expr.ParsedExpr`. by_model: whether it looks at what is known only once the model is."""

    tree: dict[str, Any]
    by_model: bool


# Each plan asks for all of them: of more than it holds none would be there the next time.
@lru_cache(maxsize=8_192)
def compile_request_expression(text: str) -> RequestExpression:
    """Raises CompileError, with the place: no CEL, no truth value, unknown to Envoy, or too dear."""
    result = compile_expression(text, _VARIABLES, alike=False).result
    if result.kind not in ("bool", "dyn"):
        raise CompileError(f"a rule must evaluate to a bool, not to {result}", text, 0)
    tree = syntax.parse(text)
    compiler = Compiler(text, _VARIABLES, alike=False)
    compiler.compile(tree)
    for node in _nodes(tree):
        problem = _problem(node, compiler)
        if problem:
            raise CompileError(problem, text, node.at)
    searches = sum(isinstance(node, syntax.Call) and node.function in _SEARCHES for node in _nodes(tree))
    if searches > MOST_SEARCHES:
        problem = f"a rule may look through {MOST_SEARCHES} texts; this one looks through {searches}"
        raise CompileError(problem, text, 0)
    return RequestExpression({"expr": _Tree(text).message(tree), "source_info": {}}, _by_model(tree))


def _nodes(node: syntax.Node) -> Iterator[syntax.Node]:
    yield node
    for part in _parts(node):
        yield from _nodes(part)


def _parts(node: syntax.Node) -> tuple[syntax.Node, ...]:
    match node:
        case syntax.Select():
            return (node.operand,)
        case syntax.Call():
            return (node.target, *node.args) if node.target is not None else node.args
        case syntax.ListOf():
            return node.items
        case syntax.MapOf():
            return tuple(part for entry in node.entries for part in entry)
        case _:
            return ()


def _problem(node: syntax.Node, compiler: Compiler) -> str:
    """Why Envoy cannot evaluate this very part, or nothing."""
    match node:
        case syntax.MapOf():
            return "Envoy makes no maps"
        case syntax.Select(optional=True):
            return "Envoy has no optional values"
        case syntax.ListOf() if node.optional:
            return "Envoy has no optional values"
        case syntax.Call():
            return _problem_of_call(node, compiler)
        case _:
            return ""


def _problem_of_call(node: syntax.Call, compiler: Compiler) -> str:
    name = node.function
    if name not in _FUNCTIONS | _OPERATORS:
        return f"Envoy has no {name}() in rules; functions are {', '.join(sorted(_FUNCTIONS))}"
    if name == "_+_" and compiler.checked.types[id(node)].kind in _JOINED:
        return "Envoy joins no texts or lists in rules"
    if name == "matches":
        pattern = node.args[-1]
        if not isinstance(pattern, syntax.Literal):
            return "a regular expression must be written out"
        try:
            check_pattern(str(pattern.value))
        except EvaluationError as error:
            return str(error)
    return ""


class _Tree:
    """Makes the messages `cel.expr.Expr` of an expression."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._numbers = itertools.count(1)

    def message(self, node: syntax.Node, depth: int = 1) -> dict[str, Any]:
        """The part with all that is in it. Raises CompileError where it is nested too deeply."""
        if depth > _DEEPEST:
            raise CompileError(f"Envoy reads no more than {_DEEPEST} levels", self._text, node.at)
        made: dict[str, Any] = {"id": next(self._numbers)}
        match node:
            case syntax.Literal():
                value = base64.b64encode(node.value).decode() if node.kind == "bytes" else node.value
                made["const_expr"] = {_CONSTANTS[node.kind]: "NULL_VALUE" if node.kind == "null" else value}
            case syntax.Name():
                made["ident_expr"] = {"name": node.name}
            case syntax.Select():
                made["select_expr"] = {"operand": self.message(node.operand, depth + 1), "field": node.field}
            case syntax.Call(function="has", args=(syntax.Select() as asked,)):
                operand = self.message(asked.operand, depth + 1)
                made["select_expr"] = {"operand": operand, "field": asked.field, "test_only": True}
            case syntax.Call():
                made["call_expr"] = self._call(_balanced(node), depth + 1)
            case syntax.ListOf():
                made["list_expr"] = {"elements": [self.message(part, depth + 1) for part in node.items]}
            case syntax.MapOf():
                raise AssertionError("refused before")
        return made

    def _call(self, node: syntax.Call, depth: int) -> dict[str, Any]:
        call: dict[str, Any] = {"function": node.function}
        if node.target is not None:
            call["target"] = self.message(node.target, depth)
        return {**call, "args": [self.message(part, depth) for part in node.args]}


def _balanced(node: syntax.Call) -> syntax.Call:
    """A chain of `&&` or `||` is as deep as it is long; the same can be said with half of it on each side."""
    if node.function not in ("_&&_", "_||_"):
        return node
    terms = list(_terms(node, node.function))
    return cast("syntax.Call", _joined(node, terms))


def _terms(node: syntax.Node, function: str) -> Iterator[syntax.Node]:
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, syntax.Call) and part.function == function:
            waiting += reversed(part.args)
        else:
            yield part


def _joined(node: syntax.Call, terms: list[syntax.Node]) -> syntax.Node:
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    args = (_joined(node, terms[:half]), _joined(node, terms[half:]))
    return syntax.Call(node.at, None, node.function, args)


def _by_model(node: syntax.Node) -> bool:
    """Whether a part looks at metadata, at a header of the model, or at a header that is not written out."""
    match node:
        case syntax.Name():
            # The whole request has its headers, by whatever way they are looked up then.
            return node.name in ("metadata", "filter_state", "request")
        case syntax.Select(operand=operand, field=name) if _is_headers(operand):
            return _of_model(name)
        case syntax.Call(target=None, function="_[_]", args=(operand, syntax.Literal(value=name))) if (
            _is_headers(operand)
        ):
            return _of_model(name)
        case syntax.Call(function="@in", args=(syntax.Literal(value=name), operand)) if _is_headers(operand):
            return _of_model(name)
        case syntax.Select(operand=syntax.Name(name="request"), field=name):
            return name == "headers"
        case _:
            return any(_by_model(part) for part in _parts(node))


def _is_headers(node: syntax.Node) -> bool:
    return (
        isinstance(node, syntax.Select)
        and node.field == "headers"
        and isinstance(node.operand, syntax.Name)
        and node.operand.name == "request"
    )


def _of_model(name: Any) -> bool:
    return str(name).lower().startswith(MODEL_HEADERS)
