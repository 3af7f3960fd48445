"""Sets of fields, in the very form in which `managedFields` stores them.

A node is a dict from path elements to nodes: `f:NAME` for a field or map key, `k:{"name":"c"}` for an item of a
list with keys, `v:"x"` for an item of a set. A node is a member of the set itself if it is empty or holds `.`;
otherwise only what lies below it is. None stands for the empty set. Since the stored form is the working form,
reading an object's managers costs nothing, and unchanged parts are shared. Nodes are never changed in place.

Source of the form: the API reference, "FieldsV1".
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.schema import Schema

Node: TypeAlias = "dict[str, Any]"
SELF: Final = "."
LEAF: Final[Node] = {}

_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=16384, typed=True)
def _key_element(names: tuple[str, ...], *values: Any) -> str:
    present = {name: value for name, value in sorted(zip(names, values, strict=True)) if value is not None}
    return "k:" + _encode(present).decode()


@lru_cache(maxsize=4096, typed=True)
def _value_element(value: Any) -> str:
    return "v:" + _encode(value).decode()


def element_of_item(item: Any, schema: Schema) -> str | None:
    """The path element of an item in a list whose type is `map` or `set`; None: the item has no key."""
    if schema.list_type == "set":
        return "v:" + _encode(item).decode() if isinstance(item, dict | list) else _value_element(item)
    if not isinstance(item, dict):
        return None
    keys = schema.list_map_keys
    values = [item.get(key) for key in keys]
    if None in values:
        defaults = schema.key_defaults
        values = [
            defaults.get(key) if value is None else value for key, value in zip(keys, values, strict=True)
        ]
        if all(value is None for value in values):
            return None
    if any(isinstance(value, dict | list) for value in values):
        return None
    return _key_element(keys, *values)


def is_member(node: Node) -> bool:
    """Whether the place that `node` stands for is itself in the set."""
    return not node or SELF in node


def node_of(children: Node, *, member: bool) -> Node | None:
    """A node in its one form; None if nothing is in it."""
    if not children:
        return LEAF if member else None
    if member:
        children[SELF] = LEAF
    return children


def union(left: Node | None, right: Node | None) -> Node | None:
    """What is in either; `left` itself where `right` adds nothing."""
    if left is None or right is None:
        return right if left is None else left
    if left is right:
        return left
    result = left
    if not left and right:
        return right if SELF in right else {SELF: LEAF, **right}
    if not right:
        return left if is_member(left) else {SELF: LEAF, **left}
    for element, theirs in right.items():
        ours = left.get(element)
        joined = theirs if ours is None else union(ours, theirs)
        if joined is not ours:
            result = dict(left) if result is left else result
            result[element] = joined
    return result


def subtract(node: Node, gone: Node) -> Node | None:
    """`node` without what is in `gone`, where an empty node takes all that lies below it along."""
    if not gone:
        return None
    if not any(element in node for element in gone) and not (SELF in gone and not node):
        return node
    member = is_member(node) and SELF not in gone
    children: Node = {}
    for element, ours in node.items():
        if element == SELF:
            continue
        theirs = gone.get(element)
        left = ours if theirs is None else subtract(ours, theirs)
        if left is not None:
            children[element] = left
    return node_of(children, member=member)


def overlap(owner: Node, changed: Node) -> Node | None:
    """What of `changed` belongs to `owner`.

    A changed leaf is owned too if the owner has something below it: the schema may have become atomic since.
    """
    if not changed:
        return LEAF
    children: Node = {}
    for element, theirs in changed.items():
        if element != SELF and element in owner:
            common = overlap(owner[element], theirs)
            if common is not None:
                children[element] = common
    return node_of(children, member=SELF in changed and is_member(owner))


def paths(node: Node, prefix: str = "") -> list[str]:
    """The members, as conflicts name them: `.spec.containers[name="c"].image`, in order of the text."""
    found = [prefix] if is_member(node) and prefix else []
    for element, child in node.items():
        if element != SELF:
            found += paths(child, prefix + element_text(element))
    return sorted(found) if not prefix else found


def element_text(element: str) -> str:
    """One path element as messages show it: `.image`, `[name="c"]`, `["x"]`."""
    kind, text = element[:2], element[2:]
    if kind == "f:":
        return f".{text}"
    if kind == "k:":
        keys: dict[str, Any] = msgspec.json.decode(text)
        return "[" + ",".join(f"{name}={_encode(value).decode()}" for name, value in keys.items()) + "]"
    return f"[={text}]" if kind == "v:" else f"[{text}]"


def canonical(node: Any) -> Node:
    """A field set that a client wrote, checked and in its one form. Raises ValueError with what is wrong."""
    if not isinstance(node, dict):
        raise ValueError("a field set must be a JSON object")
    result: Node = {}
    for element, child in node.items():
        if element == SELF:
            result[SELF] = LEAF
        elif element[:2] == "f:":
            result[element] = canonical(child)
        elif element[:2] in ("k:", "v:"):
            result[_canonical_element(element)] = canonical(child)
        elif element[:2] != "i:":
            raise ValueError(f"unknown path element {element!r}")
    return LEAF if result.keys() == {SELF} else result


def _canonical_element(element: str) -> str:
    try:
        value: Any = msgspec.json.decode(element[2:])
    except msgspec.DecodeError as error:
        raise ValueError(f"path element {element!r} is not JSON: {error}") from error
    if element[0] == "k":
        if not isinstance(value, dict):
            raise ValueError(f"path element {element!r} must hold an object")
        value = dict(sorted(value.items()))
    return element[:2] + _encode(value).decode()
