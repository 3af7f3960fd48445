"""Manifests from files, folders and standard input, with the line on which each field stands.

A document that YAML cannot read is refused with file, line and what was expected; a field path that the
API server names (`spec.template.spec.containers[0].image`) is found again as a line of the file.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kajitori.base.errors import InvalidManifest, UsageError

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # PyYAML built without its C part
    from yaml import SafeLoader as Loader

_SUFFIXES = (".yaml", ".yml", ".json")
_SEGMENT = re.compile(r"([^.\[\]]+)|\[(\d+|\"[^\"]*\")\]")


@dataclass(frozen=True)
class Manifest:
    """One object of a file. node: its YAML tree, which knows lines."""

    source: str
    object: dict[str, Any]
    node: yaml.Node

    @property
    def title(self) -> str:
        """As messages name it: `Pod default/web`, without the namespace where none is given."""
        metadata = self.object.get("metadata") or {}
        name = metadata.get("name") or metadata.get("generateName") or "?"
        namespace = metadata.get("namespace")
        return f"{self.object.get('kind')} {namespace + '/' if namespace else ''}{name}"

    def line_of(self, field_path: str) -> int | None:
        """The line (from 1) of the field, or of the nearest part of its path that exists; None if nothing does."""
        node: yaml.Node | None = self.node
        line = None
        for name, index in _SEGMENT.findall(field_path):
            if isinstance(node, yaml.MappingNode):
                found = [(key, value) for key, value in node.value if key.value in (name, index.strip('"'))]
                if not found:
                    break
                line = found[0][0].start_mark.line + 1
                node = found[0][1]
            elif isinstance(node, yaml.SequenceNode) and index.isdigit() and int(index) < len(node.value):
                item: yaml.Node = node.value[int(index)]
                line, node = item.start_mark.line + 1, item
            else:
                break
        return line

    def place(self, field_path: str) -> str:
        """`file:line` of a field, or just the file."""
        line = self.line_of(field_path)
        return f"{self.source}:{line}" if line else self.source


def read_manifests(
    paths: list[str], transform: Callable[[str, str], str] = lambda source, text: text
) -> list[Manifest]:
    """All objects of the files, folders (their YAML and JSON files in order) and `-` for standard input.

    transform: makes of a source's name and text the text that is read. Raises InvalidManifest with file and line,
    UsageError for what is not there.
    """
    found: list[Manifest] = []
    for path in paths:
        if path == "-":
            found += _documents("standard input", transform("standard input", sys.stdin.read()))
            continue
        for file in _files(Path(path)):
            try:
                text = file.read_text()
            except UnicodeDecodeError as error:
                raise InvalidManifest(f"not a text file: {error.reason}", where=str(file)) from None
            found += _documents(str(file), transform(str(file), text))
    if not found:
        sources = ["standard input" if path == "-" else path for path in paths]
        raise UsageError(f"no object in {', '.join(sources)}")
    return found


def manifest_of(source: str, value: dict[str, Any]) -> Manifest:
    """An object that stands in no file."""
    node = yaml.compose(yaml.safe_dump(value))
    assert node is not None
    return Manifest(source, value, node)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
        if not files:
            raise UsageError(
                f"no manifest in {path}", hint=f"expected files that end in {', '.join(_SUFFIXES)}"
            )
        return files
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    return [path]


def _documents(source: str, text: str) -> Iterator[Manifest]:
    loader = Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                continue
            value = loader.construct_document(node)
            if value is None:
                continue
            yield from _objects(source, value, node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise InvalidManifest(
            f"malformed YAML: {error.problem or error.context}",
            where=place,
            hint=f"{error.context}" if error.context and error.problem else "",
        ) from None
    except yaml.YAMLError as error:
        raise InvalidManifest(f"malformed YAML: {error}", where=source) from None
    finally:
        loader.dispose()


def _objects(source: str, value: Any, node: yaml.Node) -> Iterator[Manifest]:
    place = f"{source}:{node.start_mark.line + 1}"
    if not isinstance(value, dict):
        raise InvalidManifest(
            f"expected an object with apiVersion, kind and metadata, found {type(value).__name__}",
            where=place,
        )
    for key in ("apiVersion", "kind"):
        if not isinstance(value.get(key), str):
            raise InvalidManifest(f"{key} is missing", where=place, hint=f"every object names its {key}")
    if not isinstance(value.get("metadata") or {}, dict):
        raise InvalidManifest(
            f"metadata: expected an object, found {type(value['metadata']).__name__}", where=place
        )
    if (
        value["kind"].endswith("List")
        and isinstance(value.get("items"), list)
        and isinstance(node, yaml.MappingNode)
    ):
        items = next(child for key, child in node.value if key.value == "items")
        for item, item_node in zip(value["items"], items.value, strict=True):
            yield from _objects(source, item, item_node)
        return
    yield Manifest(source, value, node)
