"""What a server tells of its groups, versions and resources, in the newer form and in the older one."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.comparison import differences
from tests.servers import Server

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
KUBECTL = (
    f"{AGGREGATED},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)
Object = dict[str, Any]

# docs/reference/embedded-cluster.md, "Not served" and `metrics.k8s.io`.
NOT_OURS = {"bindings", "componentstatuses", "flowschemas", "prioritylevelconfigurations"}
NOT_THEIRS = "metrics.k8s.io"
# Groups of definitions that other tests make and take away on one of the servers.
OF_TESTS = (".example.com", ".example")


def _resources(document: Object) -> dict[tuple[str, str, str], Object]:
    found: dict[tuple[str, str, str], Object] = {}
    for group in document["items"]:
        if group["metadata"].get("name", "").endswith(OF_TESTS):
            continue
        for version in group["versions"]:
            for resource in version.get("resources", ()):
                parts = {part["subresource"]: part for part in resource.get("subresources", ())}
                parts.pop("proxy", None)
                shown = {**resource, "verbs": sorted(resource["verbs"]), "subresources": parts}
                found[group["metadata"].get("name", ""), version["version"], resource["resource"]] = shown
    return found


@pytest.mark.parametrize("path", ["/api", "/apis"])
async def test_every_kind_that_we_serve_is_told_of_as_a_real_server_does(
    servers: tuple[Server, Server], path: str
) -> None:
    ours, theirs = [
        _resources((await server.http.request("GET", path, headers={"Accept": KUBECTL})).ok())
        for server in servers
    ]
    assert {name[2] for name in theirs.keys() - ours.keys()} <= NOT_OURS
    assert {name[0] for name in ours.keys() - theirs.keys()} <= {NOT_THEIRS}
    found = [
        f"{name}{line}"
        for name in ours.keys() & theirs.keys()
        for line in differences(ours[name], theirs[name])
    ]
    assert not found, "\n".join(found)


async def test_the_older_form_says_the_same(servers: tuple[Server, Server]) -> None:
    ours, theirs = [(await server.http.get("/apis")).ok()["groups"] for server in servers]
    told = {
        group["name"]: group
        for group in ours
        if group["name"] != NOT_THEIRS and not group["name"].endswith(OF_TESTS)
    }
    assert not differences(told, {group["name"]: group for group in theirs if group["name"] in told})
    versions = [version["groupVersion"] for group in told.values() for version in group["versions"]]
    for path in ["/api/v1", *(f"/apis/{version}" for version in versions)]:
        ours, theirs = [
            {
                resource["name"]: {
                    **{key: value for key, value in resource.items() if key != "storageVersionHash"},
                    "verbs": sorted(resource["verbs"]),
                }
                for resource in (await server.http.get(path)).ok()["resources"]
            }
            for server in servers
        ]
        shared = {name: resource for name, resource in theirs.items() if name in ours}
        assert not differences(ours, shared), path


async def test_the_newer_form_is_named_by_its_content_type(server: Server) -> None:
    answer = await server.http.request("GET", "/apis", headers={"Accept": KUBECTL})
    assert answer.headers["Content-Type"] == AGGREGATED
    assert (answer.json["kind"], answer.json["apiVersion"]) == (
        "APIGroupDiscoveryList",
        "apidiscovery.k8s.io/v2",
    )
    assert "Accept" in answer.headers["Vary"]


async def test_who_has_it_already_gets_304(server: Server) -> None:
    first = await server.http.request("GET", "/api", headers={"Accept": AGGREGATED})
    tag = first.headers["ETag"]
    again = await server.http.request("GET", "/api", headers={"Accept": AGGREGATED, "If-None-Match": tag})
    assert (again.code, again.body, again.headers["ETag"]) == (304, b"", tag)
    other = await server.http.request("GET", "/api", headers={"Accept": AGGREGATED, "If-None-Match": '"x"'})
    assert other.code == 200


async def test_built_in_kinds_are_those_of_their_document_and_others_name_their_group(server: Server) -> None:
    found = _resources((await server.http.request("GET", "/apis", headers={"Accept": AGGREGATED})).ok())
    assert found["apps", "v1", "deployments"]["responseKind"] == {
        "group": "",
        "version": "",
        "kind": "Deployment",
    }
    kind = found["leaderworkerset.x-k8s.io", "v1", "leaderworkersets"]["responseKind"]
    assert kind == {"group": "leaderworkerset.x-k8s.io", "version": "v1", "kind": "LeaderWorkerSet"}


async def test_core_is_a_group_without_a_name(server: Server) -> None:
    (core,) = (await server.http.request("GET", "/api", headers={"Accept": AGGREGATED})).ok()["items"]
    assert not core["metadata"].get("name")
    old = (await server.http.get("/api")).ok()
    assert (old["kind"], old["versions"]) == ("APIVersions", ["v1"])
    assert old["serverAddressByClientCIDRs"][0]["serverAddress"] in server.url


async def test_a_group_and_a_version_have_documents_of_their_own(server: Server) -> None:
    group = (await server.http.get("/apis/apps")).ok()
    version = {"groupVersion": "apps/v1", "version": "v1"}
    assert (group["kind"], group["versions"], group["preferredVersion"]) == ("APIGroup", [version], version)
    resources = (await server.http.get("/apis/apps/v1")).ok()
    assert (resources["kind"], resources["groupVersion"]) == ("APIResourceList", "apps/v1")
    scale = next(entry for entry in resources["resources"] if entry["name"] == "deployments/scale")
    assert scale == {
        "name": "deployments/scale",
        "singularName": "",
        "namespaced": True,
        "group": "autoscaling",
        "version": "v1",
        "kind": "Scale",
        "verbs": ["get", "patch", "update"],
    }
