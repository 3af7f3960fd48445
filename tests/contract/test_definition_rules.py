"""Schemas and rules of definitions: what a real server answered once, and both answer now.

`recorded/` holds what kube-apiserver 1.36.3 said: to definitions that are made in a dry run, and to objects of two
definitions. Causes are compared as sets: a real server visits fields in no order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from tests.servers import Server
from tests.waiting import eventually
from tests.wire import Answer

RECORDED = Path(__file__).parent / "recorded"
GROUP = "rules.example.com"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def definition(plural: str, schema: dict[str, Any] | None, group: str = GROUP) -> dict[str, Any]:
    version: dict[str, Any] = {"name": "v1", "served": True, "storage": True}
    if schema is not None:
        version["schema"] = {"openAPIV3Schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": plural.capitalize()},
            "versions": [version],
        },
    }


def causes(answer: Answer) -> list[tuple[str, ...]]:
    found = (answer.json.get("details") or {}).get("causes") or [] if answer.code >= 300 else []
    return sorted((cause["reason"], cause.get("field", ""), cause["message"]) for cause in found)


async def test_each_schema_is_taken_or_refused_with_the_same_causes(server: Server) -> None:
    recorded = msgspec.json.decode((RECORDED / "definitions.json").read_bytes())
    found: dict[str, Any] = {}
    for name, case in recorded.items():
        answer = await server.http.create(DEFINITIONS, definition("ws", case["schema"]), dryRun="All")
        assert answer.code == (422 if case["causes"] else 201), (name, answer.body)
        found[name] = sorted([field, message] for _, field, message in causes(answer))
    assert found == {name: sorted(case["causes"]) for name, case in recorded.items()}


async def test_each_object_is_completed_or_refused_with_the_same_causes(
    server: Server, namespace: str
) -> None:
    recorded = msgspec.json.decode((RECORDED / "objects.json").read_bytes())
    for plural, case in recorded.items():
        made = (await server.http.create(DEFINITIONS, definition(plural, case["schema"]))).ok()
        path = f"/apis/{GROUP}/v1/namespaces/{namespace}/{plural}"
        try:
            await eventually(lambda path=path: _served(server, path), f"{plural} is served")
            differences = await _differences(server, path, plural, case["objects"])
        finally:
            await server.http.delete(f"{DEFINITIONS}/{made['metadata']['name']}")
        assert differences == []


async def _served(server: Server, path: str) -> bool:
    return (await server.http.get(path)).code == 200


async def _differences(server: Server, path: str, plural: str, objects: list[Any]) -> list[Any]:
    found: list[Any] = []
    for spec, expected in objects:
        obj = {
            "apiVersion": f"{GROUP}/v1",
            "kind": plural.capitalize(),
            "metadata": {"name": "x"},
            "spec": spec,
        }
        answer = await server.http.create(path, obj, dryRun="All")
        if isinstance(expected, dict):
            if answer.code != 201 or answer.json["spec"] != expected:
                found.append((spec, expected, answer.body))
        elif causes(answer) != sorted(tuple(cause) for cause in expected):
            found.append((spec, expected, causes(answer)))
    return found


async def test_a_definition_that_is_too_deep_or_too_large_is_answered(server: Server) -> None:
    """A hostile definition is taken or refused: the server serves on."""
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(90):
        deep = {"type": "object", "properties": {"a": deep}}
    large = {"type": "string", "enum": [f"v{number}" for number in range(20_000)]}
    for inner in (deep, large):
        schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": inner}}}}
        answer = await server.http.create(DEFINITIONS, definition("hs", schema), dryRun="All")
        assert answer.code in (201, 400, 422)
    assert (await server.http.get("/readyz")).code == 200
