"""Admission webhooks, asked over TLS on a running server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from tests.apiserver.admission.conftest import (
    REGISTRATION,
    Cluster,
    Hooks,
    configure,
    patch,
    rule,
    serving,
    webhook,
)
from tests.apiserver.core.conftest import CONFIG_MAPS, PODS, config_map, pod
from tests.wire import Api, Object

ALLOWED: Object = {"allowed": True}


def label(name: str, value: str = "yes") -> Object:
    return {"op": "add", "path": f"/metadata/labels/{name}", "value": value}


def labelled(name: str) -> Object:
    return {**config_map(name), "metadata": {"name": name, "labels": {"from": "user"}}}


async def test_mutating_hooks_run_in_order_and_see_what_the_one_before_left(api: Api, hooks: Hooks) -> None:
    hooks.answers["/a"] = lambda _: patch(label("a"))
    hooks.answers["/b"] = lambda _: {**patch(label("b")), "warnings": ["look out"]}
    await configure(api, "Mutating", "one", webhook(hooks, "/a"), webhook(hooks, "/b"))
    answer = await api.create(CONFIG_MAPS, labelled("x"))
    assert answer.ok()["metadata"]["labels"] == {"from": "user", "a": "yes", "b": "yes"}
    assert 'look out"' in answer.headers["Warning"]
    (first,), (second,) = hooks.seen("/a"), hooks.seen("/b")
    assert second["object"]["metadata"]["labels"] == {"from": "user", "a": "yes"}
    assert first["operation"] == "CREATE"
    assert first["kind"] == first["requestKind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert first["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert first["namespace"] == "default"
    assert first["name"] == "x"
    assert first["oldObject"] is None
    assert first["dryRun"] is False
    assert first["userInfo"]["username"]
    assert first["options"]["kind"] == "CreateOptions"
    stored = (await api.get(f"{CONFIG_MAPS}/x")).ok()
    # What hooks add belongs to nobody.
    assert "f:a" not in str(stored["metadata"]["managedFields"])
    assert "f:from" in str(stored["metadata"]["managedFields"])


async def test_a_refusal_carries_the_name_of_the_hook(api: Api, hooks: Hooks) -> None:
    status = {"message": "not today", "code": 418, "reason": "Teapot"}
    hooks.answers["/no"] = lambda request: {
        "allowed": request["operation"] != "DELETE" and request.get("name") != "bad",
        "status": status,
    }
    await configure(api, "Validating", "v", webhook(hooks, "/no"))
    answer = await api.create(CONFIG_MAPS, config_map("bad"))
    assert answer.code == 418
    assert answer.json["message"] == 'admission webhook "no.example.com" denied the request: not today'
    assert answer.json["reason"] == "Teapot"
    assert (await api.get(f"{CONFIG_MAPS}/bad")).code == 404
    (await api.create(CONFIG_MAPS, config_map("good"))).ok()
    assert (await api.delete(f"{CONFIG_MAPS}/good")).code == 418
    assert (await api.delete(CONFIG_MAPS)).code == 418
    last = hooks.seen("/no")[-1]
    assert last["operation"] == "DELETE"
    assert last["object"] is None
    assert last["oldObject"]["metadata"]["name"] == "good"
    status.clear()
    answer = await api.create(CONFIG_MAPS, config_map("bad"))
    assert answer.code == 400
    assert answer.json["message"].endswith("denied the request without explanation")


async def test_every_kind_of_write_is_reviewed(ready: Api, hooks: Hooks) -> None:
    hooks.answers["/v"] = lambda _: ALLOWED
    everything = rule("*/*", group="*", version="*")
    await configure(ready, "Validating", "v", webhook(hooks, "/v", everything))
    path = f"{CONFIG_MAPS}/x"
    (await ready.create(CONFIG_MAPS, config_map("x", a="1"))).ok()
    (await ready.merge(path, {"data": {"a": "2"}})).ok()
    (await ready.put(path, config_map("x", a="3"))).ok()
    (await ready.apply(path, config_map("x", b="4"))).ok()
    (await ready.delete(path)).ok()
    (await ready.create(PODS, pod("p"))).ok()
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    (await ready.create(f"{PODS}/p/binding", binding)).ok()
    (await ready.merge(f"{PODS}/p/status", {"status": {"phase": "Running"}})).ok()
    (await ready.create(f"{PODS}/p/eviction", {"metadata": {"name": "p"}})).ok()
    # The connection itself is not made: its node has no agent here.
    await ready.get(f"{PODS}/p/exec", command="ls", stdout="true")
    upgrade = {"Upgrade": "SPDY/3.1", "Connection": "Upgrade"}
    await ready.request("POST", f"{PODS}/p/exec", headers=upgrade, command="ls", stdout="true")
    account = "/api/v1/namespaces/default/serviceaccounts/default/token"
    (await ready.create(account, {"spec": {}})).ok()
    seen = [
        (request["operation"], request["resource"]["resource"], request.get("subResource", ""))
        for request in hooks.seen("/v")
    ]
    assert seen == [
        ("CREATE", "configmaps", ""),
        ("UPDATE", "configmaps", ""),
        ("UPDATE", "configmaps", ""),
        ("UPDATE", "configmaps", ""),
        ("DELETE", "configmaps", ""),
        ("CREATE", "pods", ""),
        ("CREATE", "pods", "binding"),
        ("UPDATE", "pods", "status"),
        ("CREATE", "pods", "eviction"),
        ("CONNECT", "pods", "exec"),
        ("CREATE", "serviceaccounts", "token"),
    ]
    connect = hooks.seen("/v")[9]
    assert connect["object"]["kind"] == "PodExecOptions"
    assert connect["object"]["command"] == ["ls"]


async def test_a_scale_is_reviewed_as_a_scale(api: Api, hooks: Hooks) -> None:
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    }
    deployment = {
        "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    path = "/apis/apps/v1/namespaces/default/deployments"
    (await api.create(path, deployment)).ok()
    hooks.answers["/cap"] = lambda _: patch({"op": "replace", "path": "/spec/replicas", "value": 3})
    hooks.answers["/see"] = lambda _: ALLOWED
    scale = rule("deployments/scale", group="apps")
    await configure(api, "Mutating", "m", webhook(hooks, "/cap", scale))
    await configure(api, "Validating", "v", webhook(hooks, "/see", scale))
    answer = await api.merge(f"{path}/d/scale", {"spec": {"replicas": 9}})
    assert answer.ok()["spec"]["replicas"] == 3
    (seen,) = hooks.seen("/see")
    assert seen["object"]["kind"] == "Scale"
    assert seen["object"]["spec"]["replicas"] == 3
    assert seen["oldObject"]["spec"]["replicas"] == 1


async def test_generated_names_are_not_there_yet_for_hooks(api: Api, hooks: Hooks) -> None:
    hooks.answers["/m"] = lambda _: patch({"op": "add", "path": "/metadata/labels", "value": {"a": "b"}})
    await configure(api, "Mutating", "m", webhook(hooks, "/m"))
    made = (await api.create(CONFIG_MAPS, {"metadata": {"generateName": "x-"}})).ok()
    assert made["metadata"]["name"].startswith("x-")
    assert made["metadata"]["labels"] == {"a": "b"}
    assert made["metadata"]["uid"]
    (seen,) = hooks.seen("/m")
    assert "name" not in seen
    assert "name" not in seen["object"]["metadata"]
    assert "uid" not in seen["object"]["metadata"]


async def test_hooks_that_want_it_are_asked_again_when_others_changed_the_object(
    api: Api, hooks: Hooks
) -> None:
    def count(request: Object) -> Object:
        labels = request["object"]["metadata"]["labels"]
        return patch(label("saw-b", str("b" in labels).lower()))

    hooks.answers["/a"] = count
    hooks.answers["/once"] = lambda _: ALLOWED
    hooks.answers["/b"] = lambda _: patch(label("b"))
    await configure(
        api,
        "Mutating",
        "m",
        webhook(hooks, "/a", reinvocationPolicy="IfNeeded"),
        webhook(hooks, "/once"),
        webhook(hooks, "/b", reinvocationPolicy="IfNeeded"),
    )
    made = (await api.create(CONFIG_MAPS, labelled("x"))).ok()
    assert made["metadata"]["labels"]["saw-b"] == "true"
    # What the first one changed the second time makes the last one's answer out of date again.
    assert [path for path, _ in hooks.requests] == ["/a", "/once", "/b", "/a", "/b"]


async def test_what_a_hook_adds_to_a_pod_gets_the_server_s_defaults(ready: Api, hooks: Hooks) -> None:
    sidecar = {"name": "s", "image": "busybox"}
    hooks.answers["/m"] = lambda _: patch({"op": "add", "path": "/spec/containers/-", "value": sidecar})
    await configure(ready, "Mutating", "m", webhook(hooks, "/m", rule("pods", operations=("CREATE",))))
    made = (await ready.create(PODS, pod("p"))).ok()
    first, second = made["spec"]["containers"]
    assert second["terminationMessagePolicy"] == "File"
    assert second["volumeMounts"] == first["volumeMounts"]
    assert len(made["spec"]["volumes"]) == 1


async def test_an_object_that_a_hook_breaks_is_refused(api: Api, hooks: Hooks) -> None:
    hooks.answers["/m"] = lambda _: patch({"op": "add", "path": "/metadata/labels", "value": {"-": "b"}})
    await configure(api, "Mutating", "m", webhook(hooks, "/m"))
    answer = await api.create(CONFIG_MAPS, config_map("x"))
    assert answer.code == 422
    assert answer.json["details"]["causes"][0]["field"] == "metadata.labels"
    hooks.answers["/m"] = lambda _: patch({"op": "remove", "path": "/nowhere"})
    assert (await api.create(CONFIG_MAPS, config_map("x"))).code == 500


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"garbage", "failed to call webhook: couldn't get version/kind; json parse error"),
        ({"kind": "AdmissionReview", "response": None}, "received invalid webhook response: webhook response was absent"),
        ({"kind": "X", "apiVersion": "v1", "response": {"uid": "1"}}, 'failed to call webhook: no kind "X" is registered for version "v1"'),
        ({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": {"uid": "1"}}, 'invalid webhook response: expected response.uid="'),
        ({"allowed": True, "patch": "W10="}, "webhook returned response.patch but not response.patchType"),
        ({"allowed": True, "patchType": "JSONPatch"}, "webhook returned response.patchType but not response.patch"),
        ({"allowed": True, "patchType": "JSONPatch", "patch": "e30="}, "received undecodable patch in webhook response"),
        (web.Response, 'an error on the server (\\"boom\\") has prevented the request from succeeding'),
    ],
)  # fmt: skip
async def test_an_answer_that_is_none_fails_closed_or_open(
    api: Api, hooks: Hooks, answer: Any, words: str
) -> None:
    hooks.answers["/m"] = lambda _: (
        web.Response(status=500, text="boom") if answer is web.Response else answer
    )
    closed = webhook(hooks, "/m", objectSelector={"matchLabels": {"policy": "fail"}})
    opened = webhook(
        hooks, "/m", failurePolicy="Ignore", objectSelector={"matchLabels": {"policy": "ignore"}}
    )
    await configure(api, "Mutating", "closed", closed)
    await configure(api, "Mutating", "open", opened)
    refused = await api.create(CONFIG_MAPS, {"metadata": {"name": "x", "labels": {"policy": "fail"}}})
    assert refused.code == 500
    assert refused.json["message"].startswith(
        'Internal error occurred: failed calling webhook "m.example.com": '
    )
    assert words.replace('\\"', '"') in refused.json["message"]
    (await api.create(CONFIG_MAPS, {"metadata": {"name": "y", "labels": {"policy": "ignore"}}})).ok()


async def test_a_hook_that_hangs_is_waited_for_as_long_as_it_says(api: Api, hooks: Hooks) -> None:
    hooks.answers["/slow"] = lambda _: asyncio.sleep(60)
    await configure(api, "Validating", "v", webhook(hooks, "/slow", timeoutSeconds=1))
    answer = await api.create(CONFIG_MAPS, config_map("x"))
    assert answer.code == 500
    assert answer.json["message"] == (
        'Internal error occurred: failed calling webhook "slow.example.com": failed to call webhook: '
        f'Post "{hooks.url("/slow")}?timeout=1s": context deadline exceeded'
    )


async def test_a_hook_that_is_not_there_or_not_trusted_says_so(api: Api, hooks: Hooks) -> None:
    async with serving() as gone:
        absent = webhook(gone, "/gone", objectSelector={"matchLabels": {"to": "gone"}})
    stranger = webhook(hooks, "/v", objectSelector={"matchLabels": {"to": "stranger"}})
    del stranger["clientConfig"]["caBundle"]
    await configure(api, "Validating", "v", absent, stranger)
    answer = await api.create(CONFIG_MAPS, {"metadata": {"name": "x", "labels": {"to": "gone"}}})
    assert answer.json["message"].endswith(f"dial tcp 127.0.0.1:{gone.port}: connect: connection refused")
    answer = await api.create(CONFIG_MAPS, {"metadata": {"name": "x", "labels": {"to": "stranger"}}})
    assert answer.json["message"].endswith(
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    )


async def test_a_dry_run_asks_only_hooks_without_side_effects(api: Api, hooks: Hooks) -> None:
    hooks.answers["/v"] = lambda _: ALLOWED
    await configure(api, "Validating", "v", webhook(hooks, "/v", sideEffects="NoneOnDryRun"))
    (await api.create(CONFIG_MAPS, config_map("x"), dryRun="All")).ok()
    assert hooks.seen("/v")[0]["dryRun"] is True
    assert (await api.get(f"{CONFIG_MAPS}/x")).code == 404


async def test_selectors_and_conditions_choose_requests(api: Api, hooks: Hooks) -> None:
    hooks.answers["/v"] = lambda _: {"allowed": False}
    chosen = webhook(
        hooks,
        "/v",
        namespaceSelector={"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["default"]}]},
        matchConditions=[
            {"name": "not-mine", "expression": "object.metadata.name != 'mine'"},
            {"name": "asked", "expression": "authorizer.group('').resource('secrets').check('list').allowed()"},
        ],
    )  # fmt: skip
    await configure(api, "Validating", "v", chosen)
    (await api.create(CONFIG_MAPS, config_map("mine"))).ok()
    assert (await api.create(CONFIG_MAPS, config_map("other"))).code == 400
    elsewhere = "/api/v1/namespaces/kube-system/configmaps"
    (await api.create(elsewhere, config_map("other", "kube-system"))).ok()


async def test_equivalent_versions_are_seen_in_the_version_that_the_hook_knows(
    api: Api, hooks: Hooks
) -> None:
    hooks.answers["/v"] = lambda _: ALLOWED
    hooks.answers["/exact"] = lambda _: ALLOWED
    known = rule("horizontalpodautoscalers", group="autoscaling", version="v2")
    await configure(
        api,
        "Validating",
        "v",
        webhook(hooks, "/v", known),
        webhook(hooks, "/exact", known, matchPolicy="Exact"),
    )
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    body = {
        "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 50},
    }
    (await api.create("/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers", body)).ok()
    (seen,) = hooks.seen("/v")
    assert seen["object"]["apiVersion"] == "autoscaling/v2"
    assert seen["object"]["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 50
    assert seen["requestKind"]["version"] == "v1"
    assert seen["kind"]["version"] == "v2"
    assert hooks.seen("/exact") == []


async def test_a_service_is_reached_at_a_ready_endpoint(api: Api, hooks: Hooks) -> None:
    hooks.answers["/v"] = lambda _: ALLOWED
    reached = webhook(hooks, "/v")
    reached["clientConfig"] = {
        "service": {"namespace": "default", "name": "hook", "path": "/v", "port": 8443},
        "caBundle": hooks.bundle,
    }
    await configure(api, "Validating", "v", reached)
    answer = await api.create(CONFIG_MAPS, config_map("x"))
    assert answer.json["message"].endswith(
        'Post "https://hook.default.svc:8443/v?timeout=5s": service "hook" not found'
    )
    service = {"metadata": {"name": "hook"}, "spec": {"ports": [{"name": "tls", "port": 8443}]}}
    (await api.create("/api/v1/namespaces/default/services", service)).ok()
    answer = await api.create(CONFIG_MAPS, config_map("x"))
    assert answer.json["message"].endswith('no endpoints available for service "hook"')
    endpoints = {
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4",
        "ports": [{"name": "tls", "port": hooks.port}],
        "endpoints": [
            {"addresses": ["127.0.0.99"], "conditions": {"ready": False}},
            {"addresses": ["127.0.0.1"], "conditions": {"ready": True}},
        ],
    }
    (await api.create("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", endpoints)).ok()
    (await api.create(CONFIG_MAPS, config_map("x"))).ok()
    assert len(hooks.seen("/v")) == 1


async def test_a_patch_is_decided_again_when_the_object_changed_meanwhile(api: Api, hooks: Hooks) -> None:
    (await api.create(CONFIG_MAPS, config_map("x", a="1"))).ok()
    path = f"{CONFIG_MAPS}/x"
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def wait(request: Object) -> Object:
        asked.set()
        await go_on.wait()
        return ALLOWED

    hooks.answers["/v"] = wait
    slow = webhook(hooks, "/v", matchConditions=[{"name": "slow", "expression": "'slow' in object.data"}])
    await configure(api, "Validating", "v", slow)
    patched = asyncio.create_task(api.merge(path, {"data": {"slow": "yes"}}))
    await asked.wait()
    asked.clear()
    current = (await api.get(path)).ok()
    replaced = asyncio.create_task(api.put(path, {**current, "data": {"slow": "put"}}))
    await asked.wait()
    (await api.merge(path, {"data": {"b": "2"}})).ok()
    go_on.set()
    assert (await patched).ok()["data"] == {"a": "1", "b": "2", "slow": "yes"}
    assert (await replaced).code == 409


async def test_configurations_themselves_are_out_of_reach(api: Api, hooks: Hooks) -> None:
    hooks.answers["/v"] = lambda _: {"allowed": False}
    await configure(api, "Validating", "v", webhook(hooks, "/v", rule("*", group="*", version="*")))
    assert (await api.create(CONFIG_MAPS, config_map("x"))).code == 400
    (await api.delete(f"{REGISTRATION}/validatingwebhookconfigurations/v")).ok()
    (await api.create(CONFIG_MAPS, config_map("x"))).ok()


async def test_what_hooks_say_for_the_audit_log_is_kept(cluster: Cluster, hooks: Hooks) -> None:
    hooks.answers["/v"] = lambda _: {"allowed": True, "auditAnnotations": {"seen": "yes"}}
    await configure(cluster.admin, "Validating", "v", webhook(hooks, "/v"))
    (await cluster.admin.create(CONFIG_MAPS, config_map("x"))).ok()
    answer = await cluster.admin.get("/kajitori/audit", resource="configmaps", namespace="default", name="x")
    assert "v.example.com/seen" in answer.body.decode()
