"""A question of Envoy, from its bytes: HTTP/2 or HTTP/1.1 as Envoy sends it and nothing else, whatever is odd is no question. Pure.

All that such heads say but for one header, the facts of the request, is the same from one to the next: it is read once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, get_args

from kajitori.gateway.accounting.header_blocks import Field, HeaderTable, read_text
from kajitori.gateway.accounting.log_format import WHO_SEPARATOR, Who
from kajitori.gateway.accounting.route_names import GRPC_PREFIX, read_route
from kajitori.gateway.limits.request import Dialect, Request

PREFIX = "/admit"
FACTS_HEADER, _FACTS_SEPARATOR = "x-kajitori-facts", WHO_SEPARATOR
# Route, id of the request, who asks, client, model.
_FACTS_OF_NOBODY, _FACTS = 5, 4 + len(Who._fields)
_FACTS_LINE = f"\r\n{FACTS_HEADER}: ".encode()
# In HTTP/2 the name stands behind its length, and how it stands there is said before.
_FACTS_NAME = bytes((len(FACTS_HEADER),)) + FACTS_HEADER.encode()
_WRITTEN_OUT = (0x00, 0x10, 0x40)
# What stands around a value in HTTP and is none of it. Names of models may end in what else Unicode calls a space.
_SPACE = " \t"
LARGEST_HEAD_BYTES = 64 * 1024
_DIALECTS: dict[str, Dialect] = {each: each for each in get_args(Dialect)}
# Clients choose the headers that limits select by, and addresses.
_MOST_FORMS, _LARGEST_FORM_BYTES = 1_000, 2_048


class Malformed(Exception):
    """What was sent is no question."""


class Form(NamedTuple):
    """A head without its facts. headers: by lower-case name; they are shared, nobody changes them. length: of the body.
    asked: the path of the request that it asks about, None if it is no question.
    """

    method: str
    path: str
    headers: dict[str, str]
    length: int
    asked: str | None


class Forms:
    """Those that have come before."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], Form] = {}

    def read(self, head: bytes) -> tuple[Form, str]:
        """A head without its empty line, and its facts. Raises Malformed."""
        if len(head) > LARGEST_HEAD_BYTES:
            raise Malformed("the head is too long")
        at = head.find(_FACTS_LINE)
        if at < 0:
            form = _form(head, b"")
            return form, form.headers.get(FACTS_HEADER, "")
        begins = at + len(_FACTS_LINE)
        ends = head.find(b"\r\n", begins)
        ends = ends if ends >= 0 else len(head)
        form = self._form(head[:at], head[ends:], _form)
        return form, head[begins:ends].decode("utf-8", "replace")

    def read_block(self, block: bytes, table: HeaderTable) -> tuple[Form, str]:
        """The same of a block of HTTP/2. Raises Malformed, and ValueError where nothing more can be read of its connection."""
        at = block.find(_FACTS_NAME) if not table.capacity else -1
        if at > 0 and block[at - 1] in _WRITTEN_OUT:
            try:
                facts, ends = read_text(block, at + len(_FACTS_NAME))
                form = self._form(block[: at - 1], block[ends:], _form_of_blocks)
                return form, facts.decode("utf-8", "replace")
            except ValueError:
                pass  # it was the value of another header
        fields = table.read(block)
        told = [value for name, value in fields if name == _FACTS_NAME[1:]]
        if len(told) > 1:
            raise Malformed("there are two sets of facts")
        form = _form_of_fields([each for each in fields if each[0] != _FACTS_NAME[1:]])
        return form, told[0].decode("utf-8", "replace") if told else ""

    def _form(self, before: bytes, behind: bytes, read: Callable[[bytes, bytes], Form]) -> Form:
        """Of what stands around the facts."""
        key = before, behind
        form = self._known.get(key)
        if form is None:
            form = read(before, behind)
            if FACTS_HEADER in form.headers:
                raise Malformed("there are two sets of facts")
            if len(before) + len(behind) <= _LARGEST_FORM_BYTES:
                if len(self._known) >= _MOST_FORMS:
                    self._known.clear()
                self._known[key] = form
        return form


def _form(before: bytes, behind: bytes) -> Form:
    return _make_form(*parse_head(before + behind))


def _make_form(method: str, path: str, headers: dict[str, str]) -> Form:
    asked = path[len(PREFIX) :].partition("?")[0] if path.startswith(PREFIX + "/") else None
    return Form(method, path, headers, _length(headers), asked)


def _form_of_blocks(before: bytes, behind: bytes) -> Form:
    """Each is a block of its own, or the facts began elsewhere. Raises ValueError where one is not."""
    table = HeaderTable(0)
    return _form_of_fields([*table.read(before), *table.read(behind)])


def _form_of_fields(fields: list[Field]) -> Form:
    headers = {_text_of(name): _text_of(value) for name, value in fields}
    method = headers.pop(":method", "")
    # A path is what it is, whatever it begins or ends with.
    headers.pop(":path", "")
    path = next((value.decode("utf-8", "replace") for name, value in fields if name == b":path"), "")
    headers.pop(":scheme", None)
    if not path.startswith("/"):
        raise Malformed("this is no request")
    if ":authority" in headers:
        headers["host"] = headers.pop(":authority")
    return _make_form(method, path, headers)


def _text_of(value: bytes) -> str:
    return value.decode("utf-8", "replace").strip(_SPACE)


def parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, path, and headers by lower-case name, of a head without its empty line. Raises Malformed."""
    lines = head.decode("utf-8", "replace").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
        raise Malformed("this is no HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Malformed("a header is malformed")
        headers[name.lower()] = value.strip(_SPACE)
    return words[0], words[1], headers


def _length(headers: dict[str, str]) -> int:
    """Bytes of the body, which nobody reads."""
    if "transfer-encoding" in headers:
        raise Malformed("a body in chunks is not taken")
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise Malformed("content-length is no number")
    return int(text)


def parse_question(form: Form, told: str) -> Request:
    """The request that a question is about. told: its facts. Raises Malformed."""
    facts = told.split(_FACTS_SEPARATOR, _FACTS - 1)
    # Of nobody, as on plain routes: what Envoy does not find is empty in a header. There the client may have named a
    # model of any text.
    if len(facts) > 2 and (facts[2] == "-" or (not facts[2] and facts[0].startswith(("http/", "grpc/")))):
        facts = told.split(_FACTS_SEPARATOR, _FACTS_OF_NOBODY - 1)
        facts[2:3] = Who()
    if form.asked is None or len(facts) != _FACTS:
        raise Malformed(f"{form.path[:100]!r} is no question")
    named, request_id, key, tenant, input_tokens, output_tokens, dialect, _, _, client, model = facts
    route, rule = _route(named)
    return Request(
        id=request_id,
        route=route,
        rule=rule,
        model=model,
        key=key,
        tenant=tenant,
        client=client,
        method=form.method,
        path=form.asked,
        headers=form.headers,
        input_tokens=_count(input_tokens) or 0,
        output_tokens=_count(output_tokens) if output_tokens else None,
        dialect="grpc" if route.startswith(GRPC_PREFIX) else _DIALECTS.get(dialect, "openai"),
    )


@lru_cache(maxsize=2_000)
def _route(named: str) -> tuple[str, str]:
    """namespace/name and the number of the rule, of what Envoy calls a route. Raises Malformed."""
    found = read_route(named)
    if found is None:
        raise Malformed(f"{named[:100]!r} is no route")
    return found


def _count(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    return int(text[:18])
