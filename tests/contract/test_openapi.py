"""The OpenAPI v3 documents: what kubectl validates, merges and explains by."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.comparison import KINDS
from tests.servers import Server
from tests.waiting import eventually

Object = dict[str, Any]
INDEX = "/openapi/v3"
STRATEGIC = "application/strategic-merge-patch+json"
# The published documents leave these out; kubectl never validates them.
_PATCHES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")


async def _url(server: Server, path: str) -> str:
    return (await server.http.get(INDEX)).ok()["paths"][path]["serverRelativeURL"]


async def _document(server: Server, path: str) -> Object:
    return (await server.http.get(await _url(server, path))).ok()


def _patches(document: Object) -> dict[str, Object]:
    """kind -> the operation that patches it."""
    found: dict[str, Object] = {}
    for operations in document["paths"].values():
        patch = operations.get("patch")
        if patch:
            found.setdefault(patch["x-kubernetes-group-version-kind"]["kind"], patch)
    return found


async def test_the_index_names_a_document_for_each_group_version_by_its_hash(server: Server) -> None:
    wanted = {"api/v1", "apis/apps/v1", "apis/batch/v1", "apis/leaderworkerset.x-k8s.io/v1"}

    async def told() -> bool:  # a definition's document takes a real server a second
        return wanted <= (await server.http.get(INDEX)).ok()["paths"].keys()

    await eventually(told, f"{wanted} are in the index")
    paths = (await server.http.get(INDEX)).ok()["paths"]
    for path, entry in paths.items():
        assert entry["serverRelativeURL"].startswith(f"/openapi/v3/{path}?hash=")


async def test_the_right_hash_may_be_kept_for_ever_and_a_wrong_one_leads_to_it(server: Server) -> None:
    url = await _url(server, "apis/apps/v1")
    right = await server.http.get(url)
    assert right.code == 200
    assert "immutable" in right.headers["Cache-Control"]
    assert right.headers["ETag"]
    wrong = await server.http.get("/openapi/v3/apis/apps/v1", hash="0123")
    assert wrong.code == 301
    assert wrong.headers["Location"] == url
    assert (await server.http.get("/openapi/v3/apis/apps/v1")).code == 200


async def test_an_unknown_group_has_no_document(server: Server) -> None:
    assert (await server.http.get("/openapi/v3/apis/nope/v1")).code == 404


@pytest.mark.parametrize(
    "path", ["api/v1", "apis/apps/v1", "apis/batch/v1", "apis/rbac.authorization.k8s.io/v1"]
)
async def test_each_kind_can_be_patched_with_field_validation_and_merges_strategically(
    server: Server, path: str
) -> None:
    patches = _patches(await _document(server, path))
    version = path.partition("/")[2]
    for api_version, kind in KINDS:
        if api_version != version or kind in ("Binding", "Eviction"):
            continue
        patch = patches[kind]
        group, _, plain = api_version.rpartition("/")
        assert patch["x-kubernetes-group-version-kind"] == {"group": group, "version": plain, "kind": kind}
        assert "fieldValidation" in {parameter["name"] for parameter in patch["parameters"]}
        assert {STRATEGIC, *_PATCHES} <= patch["requestBody"]["content"].keys()


async def test_lists_say_how_they_merge(server: Server) -> None:
    schemas = (await _document(server, "apis/apps/v1"))["components"]["schemas"]
    containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["x-kubernetes-patch-strategy"] == "merge"
    assert containers["x-kubernetes-list-map-keys"] == ["name"]
    gvk = {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert gvk in schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"]


async def test_a_definition_s_kind_appears_and_merges_plainly(server: Server, namespace: str) -> None:
    group = f"{namespace}.example.com"
    names = {"plural": "things", "kind": "Thing"}
    properties = {"size": {"type": "integer", "description": "how large"}}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    definition = {
        "metadata": {"name": f"things.{group}"},
        "spec": {
            "group": group,
            "names": names,
            "scope": "Namespaced",
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
            ],
        },
    }
    collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    (await server.http.create(collection, definition)).ok()

    async def there() -> bool:
        answer = await server.http.get(f"/openapi/v3/apis/{group}/v1")
        return answer.code == 200 and "Thing" in _patches(answer.json)

    await eventually(there, "the document of the new kind")
    document = await _document(server, f"apis/{group}/v1")
    patch = _patches(document)["Thing"]
    assert "fieldValidation" in {parameter["name"] for parameter in patch["parameters"]}
    assert STRATEGIC not in patch["requestBody"]["content"]
    (thing,) = [
        found
        for found in document["components"]["schemas"].values()
        if {"group": group, "version": "v1", "kind": "Thing"}
        in found.get("x-kubernetes-group-version-kind", ())
    ]
    assert thing["properties"]["spec"]["properties"]["size"]["description"] == "how large"
    await server.http.delete(f"{collection}/things.{group}")
