"""One object in full, with what happened to it.

kaji describe pod web          kaji describe lws/deepseek-r1-inference
"""

from __future__ import annotations

import argparse
from typing import Any

from kajitori.base.errors import UsageError
from kajitori.cli.connection import cluster_arguments, open_cluster, split_names
from kajitori.cli.events import events_of, print_events


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", help="a resource, or RESOURCE/NAME")
    parser.add_argument("names", nargs="*")
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    cluster = open_cluster(options)
    word, names = split_names(options.what, options.names, "describe")
    resource = cluster.find(word).resource
    if not names:
        names = [item["metadata"]["name"] for item in cluster.objects(resource)]
        if not names:
            raise UsageError(f"no {resource.plural} in namespace {cluster.namespace}")
    for index, name in enumerate(names):
        if index:
            print()
        obj = cluster.get(resource, name)
        print_object({"kind": resource.kind, **obj})
        print_events(events_of(cluster, resource.kind, name, obj["metadata"].get("namespace")))
    return 0


def print_object(obj: dict[str, Any]) -> None:
    """The object's fields and conditions, by indentation."""
    metadata = dict(obj.get("metadata") or {})
    metadata.pop("managedFields", None)
    print(f"{obj.pop('kind')} {metadata.pop('name')}")
    obj.pop("apiVersion", None)
    obj["metadata"] = metadata
    conditions = (
        (obj.get("status") or {}).pop("conditions", None) if isinstance(obj.get("status"), dict) else None
    )
    _print_value(obj, 1)
    if conditions:
        print("  conditions:")
        for each in conditions:
            text = " ".join(str(each.get(key, "")) for key in ("type", "status", "reason")).rstrip()
            print(f"    {text}{': ' + each['message'].strip() if each.get('message') else ''}")


def _print_value(value: Any, depth: int) -> None:
    """Nested values by indentation; empty ones are left out, short lists stand on one line."""
    space = "  " * depth
    for key, inner in value.items():
        if inner in (None, {}, [], ""):
            continue
        if isinstance(inner, dict):
            print(f"{space}{key}:")
            _print_value(inner, depth + 1)
        elif isinstance(inner, list):
            _print_list(key, inner, depth)
        else:
            print(f"{space}{key}: {_plain(inner)}")


def _print_list(key: str, items: list[Any], depth: int) -> None:
    space = "  " * depth
    if all(not isinstance(item, (dict, list)) for item in items):
        print(f"{space}{key}: {', '.join(_plain(item) for item in items)}")
        return
    print(f"{space}{key}:")
    for item in items:
        if isinstance(item, dict):
            title = next((name for name in ("name", "type") if isinstance(item.get(name), str)), "")
            # What has a name is known by it alone; of what has none a type by itself says little.
            label = "type: " if title == "type" else ""
            print(f"{space}  - {label}{item.get(title, '')}".rstrip())
            _print_value({name: inner for name, inner in item.items() if name != title}, depth + 2)
        else:
            print(f"{space}  - {_plain(item)}")


def _plain(value: Any) -> str:
    """A single value as YAML writes it: true and false in small letters."""
    return str(value).lower() if isinstance(value, bool) else str(value)
