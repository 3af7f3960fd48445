"""Manifests with choices left open: filled in with values, or written as templates of a Helm chart.

A manifest is made of dicts, lists and scalars, and of the nodes here where a value decides. Both readings come from
the same tree, so that a chart cannot drift from what `kaji install` applies. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec


class Value(msgspec.Struct, frozen=True):
    """The value at a path such as `envoy.service.type`, whatever it is."""

    path: str


class Namespace(msgspec.Struct, frozen=True):
    """The namespace of the installation."""


class Json(msgspec.Struct, frozen=True):
    """A value as compact JSON text."""

    path: str


class Joined(msgspec.Struct, frozen=True):
    """A list of strings as one, with commas."""

    path: str


class Sum(msgspec.Struct, frozen=True):
    """A number and so much more."""

    path: str
    more: int


class Item(msgspec.Struct, frozen=True):
    """The element at hand inside `Each`."""


Part = Value | Namespace | Json | Joined | Sum | Item


class Text(msgspec.Struct, frozen=True):
    """A string with `%s` for each part."""

    form: str
    parts: tuple[Part, ...]


class If(msgspec.Struct, frozen=True):
    """`then` where the value is true (not false, zero or empty), else nothing: its key or element is left out."""

    path: str
    then: Any
    negated: bool = False


class Each(msgspec.Struct, frozen=True):
    """A document for each element of a list value. Documents only."""

    path: str
    body: Any


class Spliced(msgspec.Struct, frozen=True):
    """The elements of a list value, among those of a list that has others too."""

    path: str


_ABSENT = object()


def lookup(values: Mapping[str, Any], path: str) -> Any:
    """The value at a path."""
    found: Any = values
    for name in path.split("."):
        found = found[name]
    return found


def fill(documents: list[Any], values: Mapping[str, Any], namespace: str) -> list[dict[str, Any]]:
    """The objects for these values."""
    filled: list[dict[str, Any]] = []
    for document in documents:
        if isinstance(document, If):
            if bool(lookup(values, document.path)) != document.negated:
                filled += fill([document.then], values, namespace)
        elif isinstance(document, Each):
            items = lookup(values, document.path)
            filled += [_fill(document.body, values, namespace, item) for item in items]
        else:
            filled.append(_fill(document, values, namespace, None))
    return filled


def _fill(node: Any, values: Mapping[str, Any], namespace: str, item: Any) -> Any:
    if isinstance(node, dict):
        mapping: dict[str, Any] = node
        members = ((key, _fill(child, values, namespace, item)) for key, child in mapping.items())
        return {key: child for key, child in members if child is not _ABSENT}
    if isinstance(node, list):
        elements: list[Any] = node
        children: list[Any] = []
        for child in elements:
            if isinstance(child, Spliced):
                children += lookup(values, child.path)
            else:
                children.append(_fill(child, values, namespace, item))
        return [child for child in children if child is not _ABSENT]
    if isinstance(node, If):
        if bool(lookup(values, node.path)) == node.negated:
            return _ABSENT
        return _fill(node.then, values, namespace, item)
    if isinstance(node, Text):
        return node.form % tuple(_part(part, values, namespace, item) for part in node.parts)
    if isinstance(node, Part):
        return _part(node, values, namespace, item)
    return node


def _part(part: Part, values: Mapping[str, Any], namespace: str, item: Any) -> Any:
    match part:
        case Namespace():
            return namespace
        case Item():
            return item
        case Json(path):
            return json.dumps(lookup(values, path), sort_keys=True, separators=(",", ":"))
        case Joined(path):
            return ",".join(lookup(values, path))
        case Sum(path, more):
            return lookup(values, path) + more
        case Value(path):
            return lookup(values, path)


def chart_template(document: Any) -> str:
    """One document as a Helm template that gives the same object for the same values."""
    if isinstance(document, Each):
        inner = chart_template(document.body)
        return f"{{{{- range $item := $.Values.{document.path} }}}}\n{inner}{{{{- end }}}}\n"
    if isinstance(document, If):
        return f"{_condition(document)}\n{chart_template(document.then)}{{{{- end }}}}\n"
    return f"---\n{_block(document, 0)}"


def _condition(node: If) -> str:
    test = f"not $.Values.{node.path}" if node.negated else f"$.Values.{node.path}"
    return f"{{{{- if {test} }}}}"


def _block(node: Any, indent: int) -> str:
    """A mapping or a list as YAML in block style, every scalar as JSON."""
    pad = " " * indent
    lines: list[str] = []
    if isinstance(node, dict):
        members: dict[str, Any] = node
        for key, child in members.items():
            name = key if _PLAIN.isdisjoint(key) and key.isascii() else json.dumps(key)
            lines.append(_entry(f"{pad}{name}:", child, indent + 2, indent))
    else:
        elements: list[Any] = node
        lines += [_entry(f"{pad}-", child, indent + 2, indent) for child in elements]
    return "".join(lines)


_PLAIN = frozenset(":#{}[]&*!|>'\"%@`, ")


def _entry(head: str, child: Any, deeper: int, indent: int) -> str:
    if isinstance(child, Spliced):
        return f"{{{{- range $item := $.Values.{child.path} }}}}\n{head} {{{{ $item | toJson }}}}\n{{{{- end }}}}\n"
    if isinstance(child, If):
        inner = _entry(head, child.then, deeper, indent)
        return f"{_condition(child)}\n{inner}{{{{- end }}}}\n"
    if isinstance(child, dict | list) and child:
        conditional = all(
            isinstance(each, If) for each in (child.values() if isinstance(child, dict) else child)
        )
        assert not conditional, "in YAML a mapping or list all of whose members may be left out would be null"
        return f"{head}\n{_block(child, deeper)}"
    return f"{head} {_scalar(child)}\n"


def _scalar(node: Any) -> str:
    if isinstance(node, Text):
        arguments = " ".join(f"({_expression(part)})" for part in node.parts)
        form = json.dumps(node.form.replace("%s", "%v"), ensure_ascii=False)
        return f"{{{{ printf {form} {arguments} | toJson }}}}"
    if isinstance(node, Part):
        return f"{{{{ {_expression(node)} | toJson }}}}"
    return json.dumps(node, ensure_ascii=False).replace("{{", '{{ "{{" }}')


def _expression(part: Part) -> str:
    match part:
        case Namespace():
            return "$.Release.Namespace"
        case Item():
            return "$item"
        case Json(path):
            return f"$.Values.{path} | mustToRawJson"
        case Joined(path):
            return f'$.Values.{path} | join ","'
        case Sum(path, more):
            return f"add $.Values.{path} {more}"
        case Value(path):
            return f"$.Values.{path}"
