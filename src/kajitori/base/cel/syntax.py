"""From the text of a CEL expression to its tree.

The grammar is that of the CEL specification with the extensions that Kubernetes switches on: optional selection
(`a.?b`, `a[?b]`, `[?a]`, `{?k: v}`), quoted field names (`` a.`b-c` ``). Macros stay calls here; the compiler
expands them. Positions are offsets into the text, for errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from kajitori.base.cel.errors import CompileError

_DEEPEST = 200
"""Nesting of expressions; deeper ones are refused before Python's own stack is."""


@dataclass(frozen=True, slots=True)
class Literal:
    """kind: `int`, `uint`, `double`, `string`, `bytes`, `bool` or `null`. text: as written, for numbers."""

    at: int
    kind: str
    value: Any
    text: str = ""


@dataclass(frozen=True, slots=True)
class Name:
    at: int
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`; optional: `operand.?field`."""

    at: int
    operand: Node
    field: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """`target.function(args)`, or a global function, or an operator such as `_+_`."""

    at: int
    target: Node | None
    function: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    """optional: positions of items that are left out if they have no value."""

    at: int
    items: tuple[Node, ...]
    optional: frozenset[int]


@dataclass(frozen=True, slots=True)
class MapOf:
    at: int
    entries: tuple[tuple[Node, Node], ...]
    optional: frozenset[int]


Node: TypeAlias = "Literal | Name | Select | Call | ListOf | MapOf"

_TOKEN: Final = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*)
  | (?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)
  | (?P<int>0[xX][0-9a-fA-F]+[uU]?|\d+[uU]?)
  | (?P<string>(?:[rR][bB]?|[bB][rR]?)?(?:\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}
        |\"(?:[^\\"\n]|\\.)*\"|'(?:[^\\'\n]|\\.)*'))
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<quoted>`[A-Za-z0-9_.\-/ ]+`)
  | (?P<operator>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)
_RAW_STRING: Final = re.compile(r"([rRbB]*)(\"{3}|'{3}|\"|')(.*)\2", re.DOTALL)
_ESCAPE: Final = re.compile(
    r"\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.DOTALL
)
_SIMPLE_ESCAPES: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    **{c: c for c in "\\?\"'`"},
}
RESERVED: Final = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_AN_EXPRESSION: Final = (
    "expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, "
    "IDENTIFIER}"
)
_RELATIONS: Final = ("==", "!=", "<=", ">=", "<", ">")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str) -> Node:
    """The tree of an expression. Raises CompileError."""
    parser = _Parser(text, _tokens(text))
    tree = parser.expression()
    parser.expect_end()
    return tree


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise CompileError(f"Syntax error: token recognition error at: {text[at]!r}", text, at)
        kind = match.lastgroup or ""
        if kind != "space":
            found.append(_Token(kind, match.group(), at))
        at = match.end()
    found.append(_Token("end", "", len(text)))
    return found


class _Parser:
    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._position = 0
        self._depth = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._position]

    def _take(self) -> _Token:
        token = self._tokens[self._position]
        self._position += 1
        return token

    @property
    def _taken_at(self) -> int:
        """Where the token is that was taken last."""
        return self._tokens[self._position - 1].at

    def _accept(self, *texts: str) -> _Token | None:
        token = self._next
        if token.kind in ("operator", "name") and token.text in texts:
            return self._take()
        return None

    def _expect(self, text: str) -> _Token:
        token = self._accept(text)
        if token is None:
            raise self._unexpected(f"expecting '{text}'")
        return token

    def _unexpected(self, what: str) -> CompileError:
        token = self._next
        shown = token.text or "<EOF>"
        return CompileError(f"Syntax error: mismatched input '{shown}' {what}", self._text, token.at)

    def expect_end(self) -> None:
        if self._next.kind != "end":
            raise self._unexpected("expecting the end of the expression")

    def expression(self) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise CompileError("expression is nested too deeply", self._text, self._next.at)
        node = self._logical("||", "_||_", lambda: self._logical("&&", "_&&_", self._relation))
        question = self._accept("?")
        if question is not None:
            chosen = self._logical("||", "_||_", lambda: self._logical("&&", "_&&_", self._relation))
            self._expect(":")
            node = Call(question.at, None, "_?_:_", (node, chosen, self.expression()))
        self._depth -= 1
        return node

    def _logical(self, operator: str, function: str, operand: Any) -> Node:
        node: Node = operand()
        while token := self._accept(operator):
            node = Call(token.at, None, function, (node, operand()))
        return node

    def _relation(self) -> Node:
        node = self._addition()
        while token := self._accept(*_RELATIONS, "in"):
            name = "@in" if token.text == "in" else f"_{token.text}_"
            node = Call(token.at, None, name, (node, self._addition()))
        return node

    def _addition(self) -> Node:
        node = self._multiplication()
        while token := self._accept("+", "-"):
            node = Call(token.at, None, f"_{token.text}_", (node, self._multiplication()))
        return node

    def _multiplication(self) -> Node:
        node = self._unary()
        while token := self._accept("*", "/", "%"):
            node = Call(token.at, None, f"_{token.text}_", (node, self._unary()))
        return node

    def _unary(self) -> Node:
        token = self._accept("!", "-")
        if token is None:
            return self._member()
        number = self._next
        if token.text == "-" and number.kind in ("int", "float") and number.text[-1] not in "uU":
            self._take()
            return self._selectors(self._number(number, "-"))
        self._depth += 1
        if self._depth > _DEEPEST:
            raise CompileError("expression is nested too deeply", self._text, token.at)
        node = Call(token.at, None, "!_" if token.text == "!" else "-_", (self._unary(),))
        self._depth -= 1
        return node

    def _member(self) -> Node:
        return self._selectors(self._primary())

    def _selectors(self, node: Node) -> Node:
        while True:
            if token := self._accept("."):
                optional = self._accept("?") is not None
                name = self._field_name()
                if not optional and self._accept("("):
                    node = Call(self._taken_at, node, name, self._arguments(")"))
                else:
                    node = Select(token.at, node, name, optional)
            elif token := self._accept("["):
                optional = self._accept("?") is not None
                index = self.expression()
                self._expect("]")
                node = Call(token.at, None, "_[?_]" if optional else "_[_]", (node, index))
            elif self._next.text == "{" and isinstance(node, Name | Select):
                raise CompileError("messages cannot be constructed here", self._text, self._next.at)
            else:
                return node

    def _field_name(self) -> str:
        token = self._take()
        if token.kind == "quoted":
            return token.text[1:-1]
        if token.kind != "name":
            self._position -= 1
            raise self._unexpected("expecting a field name")
        return token.text

    def _arguments(self, close: str) -> tuple[Node, ...]:
        found: list[Node] = []
        while not self._accept(close):
            if found:
                self._expect(",")
            found.append(self.expression())
        return tuple(found)

    def _primary(self) -> Node:
        token = self._take()
        if token.kind in ("int", "float"):
            return self._number(token)
        if token.kind == "string":
            return self._string(token)
        if token.text == "(":
            node = self.expression()
            self._expect(")")
            return node
        if token.text == "[":
            return self._list(token)
        if token.text == "{":
            return self._map(token)
        if token.text == "." and self._next.kind == "name":
            token = self._take()
        if token.kind == "name":
            return self._named(token)
        self._position -= 1
        raise self._unexpected(_AN_EXPRESSION)

    def _named(self, token: _Token) -> Node:
        if token.text in ("true", "false"):
            return Literal(token.at, "bool", token.text == "true")
        if token.text == "null":
            return Literal(token.at, "null", None)
        if token.text in RESERVED or token.text == "in":
            raise CompileError(f"reserved identifier: {token.text}", self._text, token.at)
        if self._accept("("):
            # A call is where its parenthesis opens.
            return Call(self._taken_at, None, token.text, self._arguments(")"))
        return Name(token.at, token.text)

    def _list(self, token: _Token) -> Node:
        items: list[Node] = []
        optional: set[int] = set()
        while not self._accept("]"):
            if self._accept("?"):
                optional.add(len(items))
            items.append(self.expression())
            if not self._accept(","):
                self._expect("]")
                break
        return ListOf(token.at, tuple(items), frozenset(optional))

    def _map(self, token: _Token) -> Node:
        entries: list[tuple[Node, Node]] = []
        optional: set[int] = set()
        while not self._accept("}"):
            if self._accept("?"):
                optional.add(len(entries))
            key = self.expression()
            self._expect(":")
            entries.append((key, self.expression()))
            if not self._accept(","):
                self._expect("}")
                break
        return MapOf(token.at, tuple(entries), frozenset(optional))

    def _number(self, token: _Token, sign: str = "") -> Node:
        text = sign + token.text
        if token.kind == "float":
            return Literal(token.at, "double", float(text), text)
        unsigned = text[-1] in "uU"
        value = int(text.rstrip("uU"), 0 if "x" in text.lower() else 10)
        if not (0 <= value < 2**64 if unsigned else -(2**63) <= value < 2**63):
            raise CompileError(f"invalid {'u' if unsigned else ''}int literal", self._text, token.at)
        return Literal(token.at, "uint" if unsigned else "int", value, text)

    def _string(self, token: _Token) -> Node:
        match = _RAW_STRING.fullmatch(token.text)
        assert match is not None, "the tokenizer only passes whole strings"
        prefix, body = match[1].lower(), match[3]
        is_bytes = "b" in prefix
        if "r" not in prefix:
            body = _ESCAPE.sub(lambda found: self._escape(found, token, is_bytes=is_bytes), body)
        if not is_bytes:
            return Literal(token.at, "string", body)
        # Escapes above \x7f stand for single bytes: they were kept as surrogates on the way here.
        return Literal(token.at, "bytes", body.encode("utf-8", "surrogateescape"))

    def _escape(self, found: re.Match[str], token: _Token, *, is_bytes: bool) -> str:
        two, four, eight, octal, simple = found.groups()
        if simple is not None:
            if simple not in _SIMPLE_ESCAPES:
                raise CompileError(f"Syntax error: bad escape \\{simple}", self._text, token.at)
            return _SIMPLE_ESCAPES[simple]
        value = int(octal, 8) if octal else int(two or four or eight, 16)
        if is_bytes and (two or octal):
            return chr(value) if value < 0x80 else chr(0xDC00 + value)
        if value > 0x10FFFF or 0xD800 <= value < 0xE000:
            raise CompileError("Syntax error: bad code point", self._text, token.at)
        return chr(value)
