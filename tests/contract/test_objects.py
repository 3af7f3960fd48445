"""Each built-in kind, small and full, on both servers at once: defaults, owners, tables, protobuf."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.contract.comparison import collection_of, comparable, differences, sample_objects
from tests.servers import Server
from tests.wire import Answer, Object

from kajitori.laptop.apiserver.kinds.builtin import definition_of
from kajitori.laptop.apiserver.protobuf import read_envelope, read_message

Pair = tuple[Server, Server]
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
PROTOBUF = {"Accept": "application/vnd.kubernetes.protobuf"}

# Fields of a new object that differ, and why: docs/reference/embedded-cluster.md.
KNOWN = (
    '.metadata.finalizers: ours "nothing", real ["kubernetes.io/pv',
    '.metadata.finalizers: ours "nothing", real ["kubernetes.io/vac',
    '.metadata.managedFields[0].fieldsV1.f:endpoints: ours "nothing"',
    '.metadata.managedFields[0].fieldsV1.f:spec.f:dataSourceRef.f:apiGroup: ours "nothing"',
    ".spec.limits: ours []",
    '.spec.storageClassName: ours "folder", real "nothing"',
    ".spec.extra.authentication.kubernetes.io/credential-id[0]: ours",
)


# A controller of the real cluster writes the status that ours has in the first answer.
_JUDGED_AT_ONCE = ("CustomResourceDefinition", "ValidatingAdmissionPolicy")


async def on_both(
    servers: Pair, method: str, path: str, body: Any = None, **more: Any
) -> tuple[Answer, Answer]:
    ours, theirs = await asyncio.gather(
        *(server.http.request(method, path, body, **more) for server in servers)
    )
    return ours, theirs


def _told_apart(obj: Object, lines: list[str]) -> list[str]:
    unknown = [line for line in lines if not line.startswith(KNOWN)]
    return [f"{obj['kind']} {obj['metadata']['name']}{line}" for line in unknown]


async def test_a_new_object_has_the_same_defaults_and_owners(servers: Pair, shared_namespace: str) -> None:
    found: list[str] = []
    for obj in sample_objects(shared_namespace):
        ours, theirs = await on_both(
            servers, "POST", collection_of(obj, shared_namespace), obj, fieldManager="tests"
        )
        assert theirs.code == 201, (obj, theirs.body)
        left, right = comparable(ours.json), comparable(theirs.json)
        if obj["kind"] in _JUDGED_AT_ONCE:
            left.pop("status", None)
            right.pop("status", None)
        found += _told_apart(obj, differences(left, right))
    assert not found, "\n".join(found)


async def test_a_refused_dry_run_stores_nothing_and_an_accepted_one_neither(
    servers: Pair, shared_namespace: str
) -> None:
    for obj in sample_objects(shared_namespace)[:40]:
        collection = collection_of(obj, shared_namespace)
        ours, theirs = await on_both(servers, "POST", collection, obj, dryRun="All", fieldManager="tests")
        assert ours.code == theirs.code == 201
        assert "resourceVersion" not in theirs.json["metadata"]
        assert "resourceVersion" not in ours.json["metadata"], obj
        ours, theirs = await on_both(servers, "GET", f"{collection}/{obj['metadata']['name']}")
        assert ours.code == theirs.code == 404


def _columns(table: Object) -> list[Object]:
    return [
        {key: column[key] for key in ("name", "type", "format", "priority")}
        for column in table["columnDefinitions"]
    ]


def _cells(table: Object, hidden: frozenset[str]) -> list[Any]:
    names = [column["name"] for column in table["columnDefinitions"]]
    return [
        {name: cell for name, cell in zip(names, row["cells"], strict=True) if name not in hidden}
        for row in table["rows"]
    ]


# Times, what was handed out, and what controllers may have written meanwhile.
_HIDDEN = frozenset(
    {
        "Age",
        "Created At",
        "Last Seen",
        "First Seen",
        "Cluster-IP",
        "Port(s)",
        "Status",
        "Targets",
        "Duration",
        "Condition",
    }
)

_SOON_CHANGED = ("PersistentVolumeClaim", "PersistentVolume", "ResourceQuota")


async def test_every_kind_has_the_same_table(servers: Pair, shared_namespace: str) -> None:
    found: list[str] = []
    for obj in sample_objects(shared_namespace):
        collection = collection_of(obj, shared_namespace)
        await on_both(servers, "POST", collection, obj)
        ours, theirs = await on_both(servers, "GET", f"{collection}/{obj['metadata']['name']}", headers=TABLE)
        left, right = ours.ok(), theirs.ok()
        lines = differences(
            [item for item in _columns(left) if item["name"] != "Simulated"], _columns(right), ".columns"
        )
        hidden = _HIDDEN | {"Simulated"}
        if obj["kind"] not in _SOON_CHANGED:
            cells = (comparable(_cells(table, hidden)) for table in (left, right))
            lines += differences(*cells, ".cells")
        found += _told_apart(obj, lines)
    assert not found, "\n".join(found)


def _without_zeros(value: Any) -> Any:
    """Zero values are left out by the one form and written by the other."""
    if isinstance(value, dict):
        inner = {key: _without_zeros(item) for key, item in value.items()}
        return {key: item for key, item in inner.items() if item not in (None, {}, [], "", 0, False)}
    return [_without_zeros(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("which", [0, 1], ids=["embedded", "real"])
async def test_an_object_in_protobuf_is_the_object_in_json(
    servers: Pair, shared_namespace: str, which: int
) -> None:
    api = servers[which].http
    for obj in sample_objects(shared_namespace):
        if obj["kind"] == "StatefulSet" and "volumeClaimTemplates" in obj["spec"]:
            continue  # kind and apiVersion of the templates are not on the wire
        collection = collection_of(obj, shared_namespace)
        made = await api.create(collection, obj)
        assert made.code == 201
        written = await api.request(
            "POST",
            collection,
            {**obj, "metadata": {**obj["metadata"], "name": f"{obj['metadata']['name']}x"}},
            headers=PROTOBUF,
            dryRun="All",
        )
        if written.code == 422:
            continue  # its name is one of a kind
        assert written.headers["Content-Type"] == "application/vnd.kubernetes.protobuf"
        envelope = read_envelope(written.body)
        assert (envelope.api_version, envelope.kind) == (obj["apiVersion"], obj["kind"])
        group, _, version = envelope.api_version.rpartition("/")
        definition = definition_of(group, version, envelope.kind)
        assert definition
        in_json = await api.request(
            "POST",
            collection,
            {**obj, "metadata": {**obj["metadata"], "name": f"{obj['metadata']['name']}x"}},
            dryRun="All",
        )
        wanted = {key: value for key, value in in_json.json.items() if key not in ("kind", "apiVersion")}
        lines = differences(
            comparable(_without_zeros(read_message(definition, envelope.raw))),
            comparable(_without_zeros(wanted)),
        )
        assert not lines, lines
