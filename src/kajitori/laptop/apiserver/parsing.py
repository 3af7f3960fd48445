"""JSON and YAML texts: what they say, where they stop making sense, which keys they give twice.

YAML is read as JSON would be: no dates, no numbers in base 60, keys are strings, aliases are copies. Messages have
line and column.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from kajitori.laptop.apiserver.kinds.shape import spelled
from kajitori.laptop.apiserver.status import unsupported_media_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.laptop.apiserver.kinds.shape import Path

Object = dict[str, Any]

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"

# A YAML document may repeat nodes by alias; beyond this many values it is an attack or a mistake.
_MAXIMUM_YAML_VALUES = 1_000_000

# What comes after parsing copies and checks objects by recursion, a few calls a level, and Python versions differ in how
# deep their decoders go. The deepest that people write, a pod template in the schema of a CRD, has some thirty levels.
_MAXIMUM_DEPTH = 200


class Unreadable(Exception):
    """The body is not the text that its Content-Type promises; the message says where."""


def media_type_of(content_type: str) -> str:
    """`application/json` of `application/json; charset=utf-8`; JSON where there is none."""
    return content_type.partition(";")[0].strip().lower() or JSON


def parse(body: bytes, media_type: str) -> Any:
    """What a JSON or YAML body says. Raises Unreadable, and StatusError 415 for another media type."""
    if media_type in (YAML, "application/apply-patch+yaml", "text/yaml", "application/x-yaml"):
        if body.lstrip()[:1] == b"{":
            try:
                return _not_too_deep(_parse_json(body))
            except Unreadable:
                pass  # YAML in flow style, perhaps
        return _not_too_deep(_parse_yaml(body))
    if media_type.endswith("json"):
        return _not_too_deep(_parse_json(body))
    raise unsupported_media_type()


def _not_too_deep(value: Any) -> Any:
    """The value itself, walked level by level. Raises Unreadable beyond _MAXIMUM_DEPTH levels."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(_MAXIMUM_DEPTH):
        if not level:
            return value
        level = [
            item
            for parent in level
            for item in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(item, (dict, list))
        ]
    raise Unreadable("exceeded max depth")


def _parse_json(body: bytes) -> Any:
    if not body:
        raise Unreadable("unexpected end of JSON input")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(_json_message(body, error)) from None
    except RecursionError:
        raise Unreadable("exceeded max depth") from None


def _json_message(body: bytes, error: Exception) -> str:
    """The decoder's complaint with line and column, which it gives as a byte position."""
    text = str(error)
    if "truncated" in text:
        return "unexpected end of JSON input"
    match = re.search(r"byte (\d+)", text)
    if match is None:
        return text
    position = int(match.group(1))
    line = body.count(b"\n", 0, position) + 1
    column = position - (body.rfind(b"\n", 0, position) + 1) + 1
    found = body[position : position + 1].decode(errors="replace")
    what = f"invalid character {found!r}" if found else "unexpected end of JSON input"
    return f"{what} at line {line}, column {column}: {text.partition(' (byte')[0]}"


# JSON: keys that an object has twice. msgspec keeps the last and says nothing.

_KEY_END = re.compile(rb'"\s*:')


def _count_keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_count_keys, value.values()))
    if isinstance(value, list):
        return sum(map(_count_keys, value))
    return 0


def json_duplicates(body: bytes, obj: Object) -> list[str]:
    """`duplicate field "data.a"` for each key that an object has more than once."""
    # An upper bound of the keys in the text; where it equals the keys that were read, none was lost.
    if len(_KEY_END.findall(body)) == _count_keys(obj):
        return []
    root = json.loads(body, object_pairs_hook=_Pairs)
    found: list[str] = []
    _find_duplicates(root, None, found)
    return found


class _Pairs:
    """The members of a JSON object, in order, duplicates and all."""

    __slots__ = ("members",)

    def __init__(self, members: list[tuple[str, Any]]) -> None:
        self.members = members


def _find_duplicates(value: Any, path: Path, found: list[str]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, item in value.members:
            here = (path, key)
            if key in seen:
                found.append(f'duplicate field "{spelled(here)}"')
            seen.add(key)
            _find_duplicates(item, here, found)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _find_duplicates(item, (path, index), found)


# YAML.


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag not in ("tag:yaml.org,2002:timestamp",)]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
for _letter in "ynYN":  # as YAML 1.1 has it, and as a real server reads it
    _Loader.yaml_implicit_resolvers[_letter] = [
        *_Loader.yaml_implicit_resolvers.get(_letter, ()),
        ("tag:yaml.org,2002:bool", re.compile("[ynYN]$")),
    ]
_Loader.bool_values = {**yaml.CSafeLoader.bool_values, "y": True, "n": False}
_SEXAGESIMAL = re.compile(r"[-+]?\d[\d_]*(:[0-5]?\d)+(\.[\d_]*)?")


def _number(base: Callable[[Any, yaml.ScalarNode], Any]) -> Callable[[Any, yaml.ScalarNode], Any]:
    def construct(loader: Any, node: yaml.ScalarNode) -> Any:
        return node.value if _SEXAGESIMAL.fullmatch(node.value) else base(loader, node)

    return construct


_Loader.add_constructor("tag:yaml.org,2002:int", _number(yaml.CSafeLoader.construct_yaml_int))
_Loader.add_constructor("tag:yaml.org,2002:float", _number(yaml.CSafeLoader.construct_yaml_float))


def _parse_yaml(body: bytes) -> Any:
    loader = None
    try:
        loader = _Loader(body)
        return _plain(loader.get_data(), [_MAXIMUM_YAML_VALUES])
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise Unreadable(f"error converting YAML to JSON: yaml: {where}{problem}") from None
    except RecursionError:
        raise Unreadable("error converting YAML to JSON: yaml: exceeded max depth") from None
    except (ValueError, TypeError) as error:
        raise Unreadable(f"error converting YAML to JSON: yaml: {error}") from None
    finally:
        if loader is not None:
            loader.dispose()


def _plain(value: Any, budget: list[int]) -> Any:
    """The same without shared parts and with string keys; budget: how many values it may have."""
    budget[0] -= 1
    if budget[0] < 0:
        raise ValueError("document contains excessive aliasing")
    if isinstance(value, dict):
        return {_key(key): _plain(item, budget) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, budget) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    raise ValueError(f"a {type(value).__name__} has no form in JSON")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, (int, float)):
        return str(key)
    raise ValueError(f"{key!r} cannot be a key")


def yaml_duplicates(body: bytes) -> list[str]:
    """The same for YAML."""
    found: list[str] = []
    root = yaml.compose(body, Loader=_Loader)

    def walk(node: yaml.Node | None, path: Path, inside: tuple[int, ...]) -> None:
        if node is None or id(node) in inside:
            return
        inside = (*inside, id(node))
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                here = (path, str(key.value))
                if key.value in seen:
                    found.append(f'duplicate field "{spelled(here)}"')
                seen.add(key.value)
                walk(value, here, inside)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                walk(item, (path, index), inside)

    walk(root, None, ())
    return found
