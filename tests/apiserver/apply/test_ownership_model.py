"""Random interleavings of appliers, updates and removals against a flat model of ownership.

The model knows leaves only: path -> value, path -> owners. It is slow and obvious, the product is neither.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.laptop.apiserver.apply import ApplyConflict, server_side_apply, track_update
from kajitori.laptop.apiserver.schema import Schema

SCHEMA = Schema.structural(
    {
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "size": {"type": "integer"},
                    "options": {"type": "object", "additionalProperties": {"type": "string"}},
                    "nested": {
                        "type": "object",
                        "properties": {"left": {"type": "string"}, "right": {"type": "string"}},
                    },
                    "parts": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"],
                        "items": {
                            "type": "object",
                            "properties": {
                                "name": {"type": "string"},
                                "image": {"type": "string"},
                                "env": {"type": "object", "additionalProperties": {"type": "string"}},
                            },
                        },
                    },
                    "tags": {
                        "type": "array",
                        "x-kubernetes-list-type": "set",
                        "items": {"type": "string"},
                    },
                    "args": {"type": "array", "items": {"type": "string"}},
                },
            }
        }
    }
)

# Leaves are tuples; `parts` leaves start with ("parts", NAME), tags are ("tags", TAG).
Leaves = dict[tuple[str, ...], Any]
values = st.sampled_from(["1", "2"])
plain = st.fixed_dictionaries(
    {},
    optional={
        ("size",): st.integers(0, 1),
        ("options", "a"): values,
        ("options", "b"): values,
        ("nested", "left"): values,
        ("nested", "right"): values,
        ("tags", "x"): st.just("x"),
        ("tags", "y"): st.just("y"),
        ("args",): st.lists(values, min_size=1, max_size=2),
    },
)
part = st.fixed_dictionaries(
    {("name",): st.just("")},
    optional={("image",): values, ("env", "e"): values, ("env", "f"): values},
)


@st.composite
def leaves(draw: st.DrawFn) -> Leaves:
    found: Leaves = dict(draw(plain))
    for name in draw(st.sets(st.sampled_from("pq"))):
        found[("parts", name)] = None
        for path, value in draw(part).items():
            found[("parts", name, *path)] = name if path == ("name",) else value
    return found


steps = st.lists(
    st.tuples(st.sampled_from(["apply", "force", "update"]), st.sampled_from(["m1", "m2", "m3"]), leaves()),
    max_size=8,
)


def build(found: Leaves) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for path, value in found.items():
        if path[0] == "parts":
            target = parts.setdefault(path[1], {})
            rest = path[2:]
        elif path[0] == "tags":
            spec.setdefault("tags", []).append(path[1])
            continue
        else:
            target, rest = spec, path
        for name in rest[:-1]:
            target = target.setdefault(name, {})
        if rest:
            target[rest[-1]] = value
    if parts:
        spec["parts"] = list(parts.values())
    obj: dict[str, Any] = {"apiVersion": "t/v1", "kind": "T", "metadata": {"name": "n"}}
    return {**obj, "spec": spec} if spec else obj


def flatten(obj: dict[str, Any]) -> Leaves:
    found: Leaves = {}

    def walk(value: Any, path: tuple[str, ...]) -> None:
        if path == ("parts",):
            for item in value:
                found[("parts", item["name"])] = None
                for name, inner in item.items():
                    walk(inner, ("parts", item["name"], name))
        elif path == ("tags",):
            found.update({("tags", tag): tag for tag in value})
        elif isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, (*path, name))
        else:
            found[path] = value

    walk(obj.get("spec", {}), ())
    return found


def owners_in(obj: dict[str, Any]) -> dict[tuple[str, ...], set[tuple[str, str]]]:
    found: dict[tuple[str, ...], set[tuple[str, str]]] = {}

    def walk(node: dict[str, Any], path: tuple[str, ...], who: tuple[str, str]) -> None:
        if not node or "." in node:
            found.setdefault(path, set()).add(who)
        for element, child in node.items():
            if element == ".":
                continue
            text = element[2:]
            name = json.loads(text)["name"] if element[0] == "k" else text
            walk(child, (*path, json.loads(text) if element[0] == "v" else name), who)

    for entry in obj["metadata"].get("managedFields", []):
        walk(entry["fieldsV1"].get("f:spec", {"f:none": {}}), (), (entry["manager"], entry["operation"]))
    return found


class Model:
    def __init__(self) -> None:
        self.values: Leaves = {}
        self.owners: dict[tuple[str, ...], set[tuple[str, str]]] = {}

    def conflicts(self, who: tuple[str, str], wanted: Leaves) -> set[tuple[str, ...]]:
        return {
            path
            for path, value in wanted.items()
            if self.owners.get(path, set()) - {who}
            and (path not in self.values or self.values[path] != value)
        }

    def apply(self, who: tuple[str, str], wanted: Leaves) -> None:
        for path in [path for path, owners in self.owners.items() if who in owners and path not in wanted]:
            if path not in self.owners:
                continue  # went with its item
            self.owners[path].discard(who)
            if not self.owners[path]:
                self.drop(path)
        self.write(who, wanted, share=True)

    def update(self, who: tuple[str, str], wanted: Leaves) -> None:
        for path in [path for path in self.values if path not in wanted]:
            self.drop(path)
        self.write(who, wanted, share=False)

    def write(self, who: tuple[str, str], wanted: Leaves, *, share: bool) -> None:
        for path, value in wanted.items():
            if path in self.values and self.values[path] == value:
                if share:
                    self.owners[path].add(who)
            else:
                self.owners[path] = {who}
            self.values[path] = value

    def drop(self, path: tuple[str, ...]) -> None:
        item = path[0] == "parts" and len(path) == 2
        for gone in [other for other in self.values if other == path or (item and other[:2] == path)]:
            del self.values[gone]
            del self.owners[gone]


def readable(path: tuple[str, ...]) -> str:
    if path[0] == "parts":
        return f'.spec.parts[name="{path[1]}"]' + "".join(f".{name}" for name in path[2:])
    return f'.spec.tags[="{path[1]}"]' if path[0] == "tags" else ".spec." + ".".join(path)


def apply(live: dict[str, Any] | None, wanted: Leaves, manager: str, *, force: bool) -> dict[str, Any]:
    return server_side_apply(
        live,
        build(wanted),
        manager=manager,
        api_version="t/v1",
        subresource="",
        force=force,
        schema=SCHEMA,
        now="2026-01-01T00:00:00Z",
    )


def update(live: dict[str, Any] | None, wanted: Leaves, manager: str) -> dict[str, Any]:
    new = build(wanted)
    entries = track_update(
        live,
        new,
        manager=manager,
        api_version="t/v1",
        subresource="",
        schema=SCHEMA,
        now="2026-01-01T00:00:00Z",
    )
    return {**new, "metadata": {**new["metadata"], "managedFields": entries}}


@settings(max_examples=300, deadline=None)
@given(steps)
def test_every_interleaving_keeps_values_and_ownership_as_the_model_has_them(
    history: list[tuple[str, str, Leaves]],
) -> None:
    live = update(None, {("size",): 0}, "creator")
    model = Model()
    model.update(("creator", "Update"), {("size",): 0})
    for action, manager, wanted in history:
        if action == "update":
            live = update(live, wanted, manager)
            model.update((manager, "Update"), wanted)
        else:
            who = (manager, "Apply")
            expected = model.conflicts(who, wanted)
            if expected and action == "apply":
                with pytest.raises(ApplyConflict) as refusal:
                    apply(live, wanted, manager, force=False)
                assert {conflict.path for conflict in refusal.value.conflicts} == {
                    readable(path) for path in expected
                }
                continue
            live = apply(live, wanted, manager, force=action == "force")
            model.apply(who, wanted)
            assert apply(live, wanted, manager, force=False) is live
        assert flatten(live) == model.values
        found = owners_in(live)
        assert {path: found.get(path, set()) for path in model.owners} == model.owners


@given(leaves(), leaves())
def test_an_applier_that_applies_nothing_leaves_the_object_as_it_was(first: Leaves, second: Leaves) -> None:
    live = update(None, {("size",): 0, **first}, "creator")
    after = apply(apply(live, second, "m1", force=True), {}, "m1", force=False)
    changed = {path for path, value in second.items() if flatten(live).get(path, ...) != value}
    kept = {path: value for path, value in flatten(live).items() if path not in changed}
    assert flatten(after) == kept
    assert all(entry["manager"] != "m1" for entry in after["metadata"]["managedFields"])


@given(leaves(), leaves())
def test_force_always_wins_and_then_nobody_else_conflicts_with_it(first: Leaves, second: Leaves) -> None:
    live = apply(None, first, "m1", force=False)
    after = apply(live, second, "m2", force=True)
    assert second.items() <= flatten(after).items()
    assert apply(after, second, "m2", force=False) is after
