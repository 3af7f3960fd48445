"""Unknown and repeated fields: passed over, told or refused, as the client asks."""

from __future__ import annotations

import pytest
from tests.servers import Server

IGNORE, WARN, STRICT = ({"fieldValidation": word} for word in ("Ignore", "Warn", "Strict"))
# `metadata.colour` and `data.a` twice.
BODY = (
    b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"m","colour":"red"},"data":{"a":"1","a":"2"}}'
)
YAML = b"kind: ConfigMap\napiVersion: v1\nmetadata: {name: m, colour: red}\ndata: {a: one, a: two}\n"


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def told(texts: list[str]) -> list[str]:
    """Warnings without their codes; ours end with the nearest name that exists."""
    return [text.removeprefix('299 - "').removesuffix('"').partition(" (did you")[0] for text in texts]


async def test_ignored_fields_are_dropped_in_silence_and_the_last_value_counts(
    server: Server, maps: str
) -> None:
    answer = await server.http.request("POST", maps, BODY, **IGNORE)
    assert "Warning" not in answer.headers
    assert answer.ok()["data"] == {"a": "2"}
    assert "colour" not in answer.json["metadata"]


@pytest.mark.parametrize("query", [{}, WARN], ids=["by default", "when asked"])
async def test_fields_are_warned_about_one_by_one(server: Server, maps: str, query: dict[str, str]) -> None:
    answer = await server.http.request("POST", maps, BODY, **query)
    assert answer.code == 201
    assert sorted(told(answer.headers.getall("Warning"))) == [
        'duplicate field \\"data.a\\"',
        'unknown field \\"metadata.colour\\"',
    ]


async def test_strict_validation_refuses_with_all_of_them(server: Server, maps: str) -> None:
    answer = await server.http.request("POST", maps, BODY, **STRICT)
    assert answer.code == 400
    start = 'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: '
    assert answer.json["message"].startswith(start)
    found = answer.json["message"].removeprefix(start).split(", ")
    assert sorted(found) == ['duplicate field "data.a"', 'unknown field "metadata.colour"']
    assert (await server.http.get(f"{maps}/m")).code == 404


async def test_yaml_is_judged_alike(server: Server, maps: str) -> None:
    answer = await server.http.request("POST", maps, YAML, content_type="application/yaml", **STRICT)
    assert answer.code == 400
    assert 'unknown field "metadata.colour"' in answer.json["message"]
    assert '"a" already set in map' in answer.json["message"] or "duplicate field" in answer.json["message"]


async def test_places_in_lists_are_told_by_number(server: Server, namespace: str) -> None:
    containers = [
        {"name": "c", "image": "i"},
        {"name": "d", "image": "i", "imag": "x", "env": [{"nam": "A"}]},
    ]
    spec = {"template": {"spec": {"containers": containers}}, "replica": 1}
    answer = await server.http.create(
        f"/apis/apps/v1/namespaces/{namespace}/deployments",
        {"metadata": {"name": "x"}, "spec": spec},
        **STRICT,
    )
    assert answer.code == 400
    found = answer.json["message"].partition("strict decoding error: ")[2].split(", ")
    assert sorted(found) == [
        'unknown field "spec.replica"',
        'unknown field "spec.template.spec.containers[1].env[0].nam"',
        'unknown field "spec.template.spec.containers[1].imag"',
    ]


async def test_custom_objects_are_judged_by_their_schema(server: Server, namespace: str) -> None:
    path = f"/apis/leaderworkerset.x-k8s.io/v1/namespaces/{namespace}/leaderworkersets"
    template = {"spec": {"containers": [{"name": "c", "image": "i"}]}}
    body = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "l", "colour": "red"},
        "spec": {
            "replicas": 0,
            "colour": "red",
            "leaderWorkerTemplate": {"size": 1, "workerTemplate": template},
        },
        "more": {},
    }
    warned = await server.http.create(path, body, dryRun="All")
    assert sorted(told(warned.headers.getall("Warning"))) == [
        'unknown field \\"metadata.colour\\"',
        'unknown field \\"more\\"',
        'unknown field \\"spec.colour\\"',
    ]
    assert "colour" not in warned.ok()["spec"]
    ignored = await server.http.create(path, body, dryRun="All", **IGNORE)
    assert "Warning" not in ignored.headers
    refused = await server.http.create(path, body, **STRICT)
    start = 'LeaderWorkerSet in version "v1" cannot be handled as a LeaderWorkerSet: strict decoding error: '
    assert refused.code == 400
    assert refused.json["message"].startswith(start)


async def test_updates_are_judged_alike(server: Server, maps: str) -> None:
    (await server.http.request("POST", maps, BODY, **IGNORE)).ok()
    assert (await server.http.request("PUT", f"{maps}/m", BODY, **STRICT)).code == 400
    warned = await server.http.request("PUT", f"{maps}/m", BODY)
    assert warned.code == 200
    assert len(warned.headers.getall("Warning")) == 2
