"""Resources inside custom resources: both servers read, prune and judge their kinds and metadata alike."""

from __future__ import annotations

import re
from typing import Any

from tests.contract.test_definition_rules import DEFINITIONS, causes, definition
from tests.servers import Server
from tests.waiting import eventually
from tests.wire import Answer

GROUP = "embedded.example.com"
PLURAL = "boxes"
ANY = {
    "type": "object",
    "x-kubernetes-embedded-resource": True,
    "x-kubernetes-preserve-unknown-fields": True,
}
DECLARED = {
    "type": "object",
    "x-kubernetes-embedded-resource": True,
    "properties": {
        "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}},
        "spec": {"type": "object", "properties": {"x": {"type": "integer"}}},
    },
}
SPEC = {
    "type": "object",
    "properties": {
        "one": ANY,
        "list": {"type": "array", "items": ANY},
        "map": {"type": "object", "additionalProperties": ANY},
        "declared": DECLARED,
    },
}
OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "u"}
POD = {"apiVersion": "v1", "kind": "Pod"}
METADATA: tuple[Any, ...] = (
    {},
    {"name": "a" * 300, "namespace": "b"},
    {"name": "Not/OK"},
    {"name": ".."},
    {"generateName": "x/"},
    {"namespace": "a b"},
    {"labels": {"a": "b"}, "annotations": {"ok": "anything at all"}},
    {"labels": {"a b": "c"}},
    {"labels": {"a": "b c"}},
    {"annotations": {"A B": "x"}},
    {"nothing": "x", "Name": "y"},
    {"name": 3},
    {"labels": {"a": 1}},
    {"labels": []},
    "text",
    None,
    [],
    {"creationTimestamp": None},
    {"creationTimestamp": "2026-01-01T00:00:00Z"},
    {"creationTimestamp": "yesterday"},
    {"uid": "u", "resourceVersion": "1", "generation": 3, "selfLink": "x"},
    {"generation": -1},
    {"finalizers": ["a"]},
    {"finalizers": ["a/b", "bad one"]},
    {"finalizers": ["orphan", "foregroundDeletion"]},
    {"ownerReferences": [OWNER]},
    {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod"}]},
    {"ownerReferences": [{**OWNER, "controller": True}, {**OWNER, "uid": "v", "controller": True}]},
    {"ownerReferences": [{**OWNER, "apiVersion": "a/b/c", "extra": 1}]},
    {"managedFields": [{"manager": "a", "operation": "Bad"}]},
    {"managedFields": "x"},
    {"deletionTimestamp": "2026-01-01T00:00:00Z"},
    {"name": "", "labels": {}},
    {"labels": None, "name": "x"},
)
SPECS: tuple[dict[str, Any], ...] = (
    *({"one": {**POD, "metadata": metadata}} for metadata in METADATA),
    *({"one": {**POD, "apiVersion": text}} for text in ("", 3, "a/b/c", None)),
    *({"one": {**POD, "kind": text}} for text in ("", 3, "a b", "lower", "9Pod")),
    {"one": {}},
    {"one": {**POD, "spec": {"metadata": {"any": 3}}}},
    {"list": [POD, {**POD, "metadata": {"labels": {"a b": "c"}, "nope": 1}}]},
    {"map": {"k": {**POD, "metadata": {"name": "A/b"}}}},
    {"declared": {**POD, "metadata": {"name": "toolong"}}},
    {"declared": {**POD, "metadata": {"name": "ok", "labels": {"a": "b"}}, "spec": {"x": 1, "y": 2}}},
    {"declared": {**POD, "more": 1}},
)


def told(answer: Answer) -> Any:
    """Warnings without the guess of what was meant, which is ours alone."""
    warnings = sorted(
        re.sub(r" \(did you mean.*", '"', text) for text in answer.headers.getall("Warning", [])
    )
    if answer.code == 201:
        return 201, answer.json["spec"], warnings
    return answer.code, causes(answer) or answer.json["message"], warnings


async def test_embedded_resources_are_read_and_judged_alike(
    servers: tuple[Server, Server], shared_namespace: str
) -> None:
    path = f"/apis/{GROUP}/v1/namespaces/{shared_namespace}/{PLURAL}"
    schema = {"type": "object", "properties": {"spec": SPEC}}
    for server in servers:
        (await server.http.create(DEFINITIONS, definition(PLURAL, schema, GROUP))).ok()
        await eventually(lambda server=server: _takes(server, path), f"{path} is served")
    for spec in SPECS:
        body = {"apiVersion": f"{GROUP}/v1", "kind": "Boxes", "metadata": {"name": "x"}, "spec": spec}
        found, wanted = [told(await server.http.create(path, body, dryRun="All")) for server in servers]
        assert found == wanted, spec


async def _takes(server: Server, path: str) -> bool:
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Boxes", "metadata": {"name": "x"}}
    return (await server.http.create(path, body, dryRun="All")).code == 201
