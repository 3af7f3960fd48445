"""Scale, status, events in two groups, Services' addresses, definitions, and what is passed on to nodes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from tests.apiserver.core.conftest import (
    PODS,
    Api,
    Cluster,
    add_service_account,
    pod,
)
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
SERVICES = "/api/v1/namespaces/default/services"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MODELS = "/apis/ai.example.com/v1/namespaces/default/models"


def _deployment(name: str = "d") -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    }


async def test_scale_reads_and_writes_replicas(api: Api) -> None:
    (await api.create(DEPLOYMENTS, _deployment())).ok()
    scale = (await api.get(f"{DEPLOYMENTS}/d/scale")).ok()
    assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == ("Scale", {"replicas": 1}, "app=d")
    scale["spec"]["replicas"] = 3
    assert (await api.put(f"{DEPLOYMENTS}/d/scale", scale)).ok()["spec"]["replicas"] == 3
    assert (await api.put(f"{DEPLOYMENTS}/d/scale", scale)).code == 409
    patched = await api.merge(f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": 5}})
    assert patched.ok()["spec"]["replicas"] == 5
    stored = (await api.get(f"{DEPLOYMENTS}/d")).json
    assert stored["spec"]["replicas"] == 5 and stored["metadata"]["generation"] == 3
    assert "scale" in {entry.get("subresource") for entry in stored["metadata"]["managedFields"]}
    assert (await api.merge(f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": -1}})).code == 422


async def test_status_and_spec_are_written_apart(api: Api) -> None:
    (await api.create(DEPLOYMENTS, {**_deployment(), "status": {"replicas": 7}})).ok()
    assert "replicas" not in (await api.get(f"{DEPLOYMENTS}/d")).json.get("status", {})
    answer = await api.merge(f"{DEPLOYMENTS}/d/status", {"status": {"replicas": 2}, "spec": {"replicas": 9}})
    assert answer.ok()["status"]["replicas"] == 2 and answer.json["spec"]["replicas"] == 1
    answer = await api.merge(f"{DEPLOYMENTS}/d", {"status": {"replicas": 3}, "spec": {"replicas": 4}})
    assert answer.ok()["status"]["replicas"] == 2 and answer.json["spec"]["replicas"] == 4


async def test_events_of_both_groups_are_one_store(api: Api) -> None:
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Started",
        "message": "text",
        "type": "Normal",
        "count": 2,
    }
    (await api.create("/api/v1/namespaces/default/events", event)).ok()
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    shown = (await api.get(f"{path}/e")).ok()
    assert shown["apiVersion"] == "events.k8s.io/v1"
    assert (shown["note"], shown["regarding"]["name"], shown["deprecatedCount"]) == ("text", "p", 2)
    listed = (await api.get(path, fieldSelector="regarding.name=p")).ok()["items"]
    assert [item["note"] for item in listed] == ["text"]
    core = "/api/v1/namespaces/default/events"
    assert (await api.get(core, fieldSelector="involvedObject.name=q")).ok()["items"] == []
    async with api.watch(path) as watch:
        first = await watch.next()
        assert first["object"]["note"] == "text"
        new = {
            "metadata": {"name": "f"},
            "regarding": {"kind": "Pod", "name": "q", "namespace": "default"},
            "reason": "Stopped",
            "note": "other",
            "type": "Normal",
            "action": "Stop",
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "c",
            "reportingInstance": "c-1",
        }
        (await api.create(path, new)).ok()
        assert (await watch.next())["object"]["regarding"]["name"] == "q"
    assert (await api.get(f"{core}/f")).ok()["message"] == "other"


def _service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


async def test_each_service_gets_its_own_address(api: Api) -> None:
    answers = await asyncio.gather(*(api.create(SERVICES, _service(f"s{n}")) for n in range(20)))
    addresses = {answer.ok()["spec"]["clusterIP"] for answer in answers}
    assert len(addresses) == 20
    assert all(address.startswith("127.31.") for address in addresses)
    first = answers[0].json
    kept = await api.merge(f"{SERVICES}/s0", {"metadata": {"labels": {"a": "b"}}})
    assert kept.ok()["spec"]["clusterIP"] == first["spec"]["clusterIP"]
    taken = await api.create(SERVICES, _service("t", clusterIP=first["spec"]["clusterIP"]))
    assert taken.code == 422 and "provided IP is already allocated" in taken.json["message"]
    outside = await api.create(SERVICES, _service("t", clusterIP="10.0.0.1"))
    assert outside.code == 422 and "not in the valid range" in outside.json["message"]
    (await api.delete(f"{SERVICES}/s0")).ok()
    assert (await api.create(SERVICES, _service("t", clusterIP=first["spec"]["clusterIP"]))).code == 201
    assert (await api.create(SERVICES, _service("h", clusterIP="None"))).ok()["spec"]["clusterIPs"] == [
        "None"
    ]
    node_port = (await api.create(SERVICES, _service("n", type="NodePort"))).ok()
    assert 30_000 <= node_port["spec"]["ports"][0]["nodePort"] < 32_768


async def test_a_refused_service_gives_its_address_back(cluster: Cluster) -> None:
    api = cluster.admin
    addresses = cluster.running.server.state.addresses
    before = addresses.in_use()
    assert (await api.create(SERVICES, _service("Not_A_Name"))).code == 422
    assert (await api.create(SERVICES, _service("s"), dryRun="All")).code == 201
    assert addresses.in_use() == before
    (await api.create(SERVICES, _service("s"))).ok()
    held = addresses.in_use()
    assert (await api.create(SERVICES, _service("s"))).code == 409
    moved = {"spec": {"clusterIP": "127.31.9.9", "clusterIPs": ["127.31.9.9"]}}
    assert (await api.merge(f"{SERVICES}/s", moved)).code == 422
    assert addresses.in_use() == held


async def test_whoever_is_refused_a_taken_address_does_not_free_it(api: Api) -> None:
    address = (await api.create(SERVICES, _service("a"))).ok()["spec"]["clusterIP"]
    for name in ("b", "c"):
        assert (await api.create(SERVICES, _service(name, clusterIP=address))).code == 422
    copied = {**_service("d", clusterIP=address), "metadata": {"name": "d", "uid": "of-another"}}
    assert (await api.create("/api/v1/namespaces/absent/services", copied)).code == 404
    assert (await api.create(SERVICES, _service("e", clusterIP=address))).code == 422


async def test_a_dry_run_takes_neither_address_nor_port(cluster: Cluster) -> None:
    api = cluster.admin
    addresses = cluster.running.server.state.addresses
    (await api.create(SERVICES, _service("e", type="ExternalName", externalName="a.example"))).ok()
    before = addresses.in_use()
    wanted = {
        "apiVersion": "v1",
        "kind": "Service",
        **_service("s", type="NodePort", clusterIP="127.31.9.9", ports=[{"port": 80, "nodePort": 30_080}]),
    }
    (await api.apply(f"{SERVICES}/s", wanted, dryRun="All")).ok()
    (await api.merge(f"{SERVICES}/e", {"spec": {"type": "NodePort"}}, dryRun="All")).ok()
    assert addresses.in_use() == before
    (await api.apply(f"{SERVICES}/s", wanted)).ok()


async def test_two_services_never_share_a_node_port(api: Api) -> None:
    def service(name: str, *ports: dict[str, Any]) -> dict[str, Any]:
        return _service(name, type="NodePort", ports=list(ports))

    both = [{"name": p, "port": 53, "protocol": p.upper(), "nodePort": 30_053} for p in ("tcp", "udp")]
    (await api.create(SERVICES, service("dns", *both))).ok()
    for name in ("b", "c"):
        taken = await api.create(SERVICES, service(name, {"port": 80, "nodePort": 30_053}))
        assert taken.code == 422 and "provided port is already allocated" in taken.json["message"]
    outside = await api.create(SERVICES, service("b", {"port": 80, "nodePort": 80}))
    assert outside.code == 422 and "not in the valid range" in outside.json["message"]
    (await api.delete(f"{SERVICES}/dns")).ok()
    (await api.create(SERVICES, service("b", {"port": 80, "nodePort": 30_053}))).ok()


async def test_a_pod_needs_its_service_account_and_priority_class(api: Api) -> None:
    refused = await api.create(PODS, pod("p"))
    assert refused.code == 403
    assert refused.json["message"] == (
        'pods "p" is forbidden: error looking up service account default/default: '
        'serviceaccount "default" not found'
    )
    await add_service_account(api)
    created = (await api.create(PODS, pod("p"))).ok()
    volume = created["spec"]["volumes"][0]["name"]
    assert volume.startswith("kube-api-access-")
    assert created["spec"]["containers"][0]["volumeMounts"][0]["name"] == volume
    assert (await api.create(PODS, pod("q", priorityClassName="none"))).code == 403
    high = (await api.create(PODS, pod("q", priorityClassName="system-node-critical"))).ok()
    assert high["spec"]["priority"] == 2_000_001_000


def _definition(**version: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "size": {"type": "string", "enum": ["small", "large"]},
                    "replicas": {"type": "integer", "default": 2, "minimum": 0},
                },
                "x-kubernetes-validations": [
                    {"rule": "self.size != 'small' || self.replicas < 5", "message": "too many"}
                ],
            },
            "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
        },
    }
    return {
        "metadata": {"name": "models.ai.example.com"},
        "spec": {
            "group": "ai.example.com",
            "scope": "Namespaced",
            "names": {"plural": "models", "kind": "Model"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                        },
                    },
                    **version,
                }
            ],
        },
    }


async def _until(api: Api, path: str, code: int) -> Any:
    async def answered() -> Any:
        answer = await api.get(path)
        return answer if answer.code == code else None

    return await eventually(answered, f"{path} answers {code}")


async def _define(api: Api) -> None:
    (await api.create(DEFINITIONS, _definition())).ok()
    await _until(api, MODELS, 200)


def _model(name: str = "m", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "ai.example.com/v1",
        "kind": "Model",
        "metadata": {"name": name},
        "spec": spec,
    }


async def test_a_definition_is_established_and_served(api: Api) -> None:
    await _define(api)
    stored = (await api.get(f"{DEFINITIONS}/models.ai.example.com")).json
    conditions = {c["type"]: (c["status"], c["reason"]) for c in stored["status"]["conditions"]}
    assert conditions == {
        "NamesAccepted": ("True", "NoConflicts"),
        "Established": ("True", "InitialNamesAccepted"),
    }
    assert stored["status"]["acceptedNames"] == {
        "plural": "models",
        "singular": "model",
        "kind": "Model",
        "listKind": "ModelList",
    }
    assert stored["status"]["storedVersions"] == ["v1"]
    assert "ai.example.com" in {group["name"] for group in (await api.get("/apis")).json["groups"]}
    listed = (await api.get(MODELS)).json
    assert listed["kind"] == "ModelList"


async def test_custom_objects_are_pruned_defaulted_and_checked(api: Api) -> None:
    await _define(api)
    created = await api.create(MODELS, _model(size="small", nothing=1))
    assert created.ok()["spec"] == {"size": "small", "replicas": 2}
    assert 'unknown field \\"spec.nothing\\"' in created.headers["Warning"]
    assert created.json["metadata"]["generation"] == 1
    wrong = await api.create(MODELS, _model("n", size="huge"))
    assert wrong.code == 422
    assert 'spec.size: Unsupported value: "huge"' in wrong.json["message"]
    rule = await api.create(MODELS, _model("n", size="small", replicas=9))
    assert rule.code == 422 and "too many" in rule.json["message"]
    no_kind = await api.create(MODELS, {"metadata": {"name": "n"}})
    assert no_kind.code == 400
    put = await api.put(f"{MODELS}/m", _model(size="large"))
    assert put.code == 422 and "must be specified for an update" in put.json["message"]


async def test_custom_status_and_scale_are_subresources(api: Api) -> None:
    await _define(api)
    (await api.create(MODELS, {**_model(size="small"), "status": {"replicas": 9}})).ok()
    assert "status" not in (await api.get(f"{MODELS}/m")).json
    (await api.merge(f"{MODELS}/m/status", {"status": {"replicas": 1}})).ok()
    scale = (await api.merge(f"{MODELS}/m/scale", {"spec": {"replicas": 3}})).ok()
    assert (scale["spec"], scale["status"]) == ({"replicas": 3}, {"replicas": 1})
    stored = (await api.get(f"{MODELS}/m")).json
    assert stored["metadata"]["generation"] == 2 and stored["status"] == {"replicas": 1}


async def test_a_definition_goes_with_its_instances(api: Api) -> None:
    await _define(api)
    held = _model("held", size="small")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    (await api.create(MODELS, held)).ok()
    (await api.create(MODELS, _model(size="small"))).ok()
    async with api.watch(MODELS) as watch:
        await watch.take(2)
        (await api.delete(f"{DEFINITIONS}/models.ai.example.com")).ok()
        await _until(api, f"{MODELS}/m", 404)
        refused = await api.create(MODELS, _model("late", size="small"))
        assert refused.code == 403
        assert "create not allowed while custom resource definition is terminating" in refused.json["message"]
        stored = (await api.get(f"{DEFINITIONS}/models.ai.example.com")).json
        assert ("Terminating", "True") in {(c["type"], c["status"]) for c in stored["status"]["conditions"]}
        (await api.merge(f"{MODELS}/held", {"metadata": {"finalizers": None}})).ok()
        await _until(api, f"{DEFINITIONS}/models.ai.example.com", 404)
        assert (await api.get(MODELS)).code == 404
        with pytest.raises(EOFError):
            while True:
                await watch.next()


async def test_names_that_are_taken_are_not_accepted(api: Api) -> None:
    await _define(api)
    other = _definition()
    other["metadata"]["name"] = "others.ai.example.com"
    other["spec"]["names"] = {"plural": "others", "kind": "Other", "listKind": "ModelList"}
    (await api.create(DEFINITIONS, other)).ok()

    async def told() -> Any:
        return (await api.get(f"{DEFINITIONS}/others.ai.example.com")).json["status"].get("conditions")

    found = await eventually(told, "the definition has conditions")
    conditions = {c["type"]: (c["status"], c["reason"]) for c in found}
    assert conditions["NamesAccepted"] == ("False", "ListKindConflict")
    assert conditions["Established"] == ("False", "NotAccepted")
    assert (await api.get("/apis/ai.example.com/v1/namespaces/default/others")).code == 404


@asynccontextmanager
async def _agent(cluster: Cluster, name: str) -> AsyncIterator[list[str]]:
    """A node that answers logs and echoes what comes over a WebSocket."""
    asked: list[str] = []

    async def logs(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        if request.query.get("previous"):
            return web.Response(status=400, text="previous terminated container not found")
        response = web.StreamResponse()
        await response.prepare(request)
        for n in range(3):
            await response.write(f"line {n}\n".encode())
        return response

    async def echo(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(b"\x01" + message.data[1:])
            if message.data[1:] == b"end":
                break
        await socket.close()
        return socket

    app = web.Application()
    app.router.add_get("/containerLogs/{tail:.*}", logs)
    app.router.add_get("/exec/{tail:.*}", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    (cluster.running.home / "run").mkdir(exist_ok=True)
    await web.UnixSite(runner, str(cluster.running.home / "run" / f"{name}.sock")).start()
    try:
        yield asked
    finally:
        await runner.cleanup()


async def _bound(api: Api, name: str, node: str, **spec: Any) -> None:
    await add_service_account(api)
    (await api.create(PODS, pod(name, **spec))).ok()
    target = {"target": {"kind": "Node", "name": node}}
    assert (await api.create(f"{PODS}/{name}/binding", target)).code == 201


async def test_logs_are_streamed_from_the_node(cluster: Cluster) -> None:
    api = cluster.admin
    await _bound(api, "p", "node-1")
    async with _agent(cluster, "node-1") as asked:
        answer = await api.get(f"{PODS}/p/log", follow="true", tailLines="3")
        assert answer.body == b"line 0\nline 1\nline 2\n"
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert asked == ["/containerLogs/default/p/c?follow=true&tailLines=3"]
        refused = await api.get(f"{PODS}/p/log", previous="true")
        assert (refused.code, refused.json["message"]) == (400, "previous terminated container not found")


async def test_a_log_says_which_container_is_meant(api: Api) -> None:
    await add_service_account(api)
    two = [{"name": name, "image": "i"} for name in ("c1", "c2")]
    (await api.create(PODS, pod("p", containers=two))).ok()
    answer = await api.get(f"{PODS}/p/log")
    assert answer.json["message"] == ("a container name must be specified for pod p, choose one of: [c1 c2]")
    assert (await api.get(f"{PODS}/p/log", container="zz")).json["message"] == (
        "container zz is not valid for pod p"
    )
    assert (await api.get(f"{PODS}/p/log", container="c1")).code == 204
    assert (await api.get(f"{PODS}/p/log", container="c1", tailLines="-1")).code == 422
    assert (await api.get(f"{PODS}/none/log")).code == 404


async def test_a_node_that_is_away_is_told(api: Api) -> None:
    await _bound(api, "p", "node-1")
    answer = await api.get(f"{PODS}/p/log")
    assert answer.code == 502 and "node node-1 does not answer" in answer.json["message"]


async def test_exec_carries_bytes_both_ways(cluster: Cluster) -> None:
    api = cluster.admin
    await _bound(api, "p", "node-1")
    async with _agent(cluster, "node-1") as asked:
        url = f"{api.url}{PODS}/p/exec?command=ls&command=-l&stdin=true&stdout=true"
        async with api._session.ws_connect(url, protocols=("v5.channel.k8s.io",)) as socket:
            assert socket.protocol == "v5.channel.k8s.io"
            for n in range(20):
                await socket.send_bytes(b"\x00" + str(n).encode() * 10_000)
                answer = await socket.receive_bytes(timeout=10)
                assert answer == b"\x01" + str(n).encode() * 10_000
            await socket.send_bytes(b"\x00end")
            assert await socket.receive_bytes(timeout=10) == b"\x01end"
            assert (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE
        assert asked == ["/exec/default/p/c?input=1&output=1&command=ls&command=-l"]
    assert (await api.get(f"{PODS}/p/exec", command="ls")).code == 400


async def test_objects_of_an_older_schema_are_defaulted_when_read(api: Api) -> None:
    (await api.create(DEFINITIONS, _definition())).ok()
    (await api.create(MODELS, _model(size="large"))).ok()
    changed = _definition()
    properties = changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"][
        "properties"
    ]
    properties["tier"] = {"type": "string", "default": "free"}
    (await api.merge(f"{DEFINITIONS}/models.ai.example.com", {"spec": changed["spec"]})).ok()
    assert (await api.get(f"{MODELS}/m")).json["spec"]["tier"] == "free"
    assert (await api.get(MODELS)).json["items"][0]["spec"]["tier"] == "free"
    patched = (await api.merge(f"{MODELS}/m", {"metadata": {"labels": {"a": "b"}}})).ok()
    assert patched["spec"] == {"size": "large", "replicas": 2, "tier": "free"}


async def test_versions_of_a_definition_show_the_same_object(api: Api) -> None:
    two = _definition()
    first = two["spec"]["versions"][0]
    two["spec"]["versions"].append({**first, "name": "v1beta1", "storage": False})
    (await api.create(DEFINITIONS, two)).ok()
    (await api.create(MODELS, _model(size="large"))).ok()
    older = (await api.get(MODELS.replace("/v1/", "/v1beta1/") + "/m")).ok()
    assert older["apiVersion"] == "ai.example.com/v1beta1" and older["spec"]["replicas"] == 2
    assert (await api.get(MODELS)).json["items"][0]["apiVersion"] == "ai.example.com/v1"


async def test_applying_what_is_absent_needs_the_right_to_create(cluster: Cluster) -> None:
    admin = cluster.admin
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch"]}]
    (await admin.create(f"{rbac}/clusterroles", {"metadata": {"name": "patcher"}, "rules": rules})).ok()
    binding = {
        "metadata": {"name": "patcher"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "patcher"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}],
    }
    (await admin.create(f"{rbac}/clusterrolebindings", binding)).ok()
    path = "/api/v1/namespaces/default/configmaps/a"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}}
    query = {"content_type": "application/apply-patch+yaml", "headers": {"Impersonate-User": "jane"}}
    refused = await admin.request("PATCH", path, body, fieldManager="m", **query)
    assert refused.code == 403 and "cannot create resource" in refused.json["message"]
    (await admin.apply(path, body)).ok()
    assert (await admin.request("PATCH", path, body, fieldManager="m", **query)).code == 200
