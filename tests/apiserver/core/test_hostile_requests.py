"""What is no good request gets a Status that says so, and the server goes on: no fault, no cut connection."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kajitori.laptop.apiserver.testing import RunningApiServer, running_api_server

from .conftest import CONFIG_MAPS, Api, Object, add_service_account, config_map, tls_context

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
CUSTOM_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_CONTAINERS = [
    {"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "b"}]}
]
_TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": _CONTAINERS}}
SAMPLES: dict[str, Object] = {
    CONFIG_MAPS: {"data": {"a": "b"}},
    "/api/v1/namespaces/default/secrets": {"data": {"a": "Yg=="}},
    "/api/v1/namespaces/default/services": {"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}},
    "/api/v1/namespaces/default/pods": {"spec": {"containers": _CONTAINERS, "volumes": [{"name": "v"}]}},
    "/api/v1/namespaces/default/events": {"involvedObject": {"kind": "Pod", "name": "a"}, "reason": "R"},
    "/api/v1/nodes": {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}},
    DEPLOYMENTS: {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": _TEMPLATE}},
    "/apis/batch/v1/namespaces/default/jobs": {"spec": {"template": _TEMPLATE}},
    "/apis/coordination.k8s.io/v1/namespaces/default/leases": {"spec": {"holderIdentity": "a"}},
    "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles": {
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    },
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices": {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.1.2.3"]}],
    },
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": {
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}
    },
    CUSTOM_DEFINITIONS: {
        "spec": {
            "group": "g.io",
            "scope": "Namespaced",
            "names": {"plural": "os", "kind": "O"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {"type": "object", "properties": {"a": {"type": "integer"}}}
                            },
                        }
                    },
                }
            ],
        }
    },
}
_FIELDS = st.sampled_from(
    [
        "metadata",
        "name",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "managedFields",
        "uid",
        "resourceVersion",
        "spec",
        "status",
        "template",
        "containers",
        "replicas",
        "selector",
        "matchExpressions",
        "data",
        "rules",
        "subjects",
        "names",
        "versions",
        "kind",
        "apiVersion",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "op",
        "path",
        "value",
        "from",
    ]
)
_TEXTS = st.sampled_from(
    [
        "a",
        "1",
        "100m",
        "Always",
        "2020-01-01T00:00:00Z",
        "",
        "\0",
        "é",
        "\u202e",
        "😀",
        "a" * 300,
        "\r\nX: y",
        "-",
        "%",
    ]
)
_SCALARS = (
    st.none() | st.booleans() | st.sampled_from([0, -1, 2**31, 2**63, 2**64, 1.5, 1e300, -0.0]) | _TEXTS
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_FIELDS | _TEXTS, inner, max_size=3),
    max_leaves=6,
)
_POINTERS = st.sampled_from(
    [
        "/metadata",
        "/metadata/labels",
        "/metadata/name",
        "/metadata/finalizers/-",
        "/metadata/managedFields",
        "/spec",
        "/status",
        "/data/a",
        "/spec/containers/0",
        "/spec/template/spec/containers/-",
        "/spec/replicas",
        "/kind",
        "/~2",
        "x",
    ]
) | st.just("")
_PATCH_TYPES = ("merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml")


@st.composite
def _spoiled(draw: st.DrawFn, sample: Object) -> Object:
    """The object with some places replaced, taken away or added to."""
    obj = json.loads(json.dumps(sample))
    for _ in range(draw(st.integers(0, 3))):
        places: list[tuple[Any, Any]] = []
        _collect(obj, places)
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                holder[key] = draw(_VALUES)
            case "remove":
                del holder[key]
            case _ if isinstance(holder, dict):
                holder[draw(_FIELDS | _TEXTS)] = draw(_VALUES)
            case _:
                holder.append(draw(_VALUES))
    return obj


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        places.append((value, key))
        _collect(inner, places)


Request = tuple[str, str, dict[str, str], str, bytes]


@st.composite
def _requests(draw: st.DrawFn) -> Request:
    """Method, path, query, content type and body."""
    path, sample = draw(st.sampled_from(list(SAMPLES.items())))
    sample = {"metadata": {"name": "os.g.io", "labels": {"a": "b"}}, **sample}
    query = {"fieldManager": "f", "fieldValidation": draw(st.sampled_from(["Strict", "Warn", "Ignore"]))}
    query["dryRun"] = "All"
    if draw(st.integers(0, 4)) == 0:
        del query["dryRun"]
    method = draw(st.sampled_from(["POST", "PUT", "PATCH", "json", "scale", "DELETE", "raw"]))
    if method == "raw":
        return (
            "POST",
            path,
            query,
            draw(st.sampled_from(["json", "yaml", "vnd.kubernetes.protobuf"])),
            draw(_BYTES),
        )
    if method == "json":
        operation = st.fixed_dictionaries(
            {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": _POINTERS},
            optional={"value": _VALUES, "from": _POINTERS},
        )
        operations = draw(st.lists(operation, min_size=1, max_size=3))
        return "PATCH", f"{path}/os.g.io", query, "json-patch+json", json.dumps(operations).encode()
    body = json.dumps(draw(_spoiled(sample))).encode()
    if method == "POST":
        return method, path, query, "json", body
    if method == "scale":
        scale = {"metadata": {}, "spec": {"replicas": 1}, "status": {}}
        body = json.dumps(draw(_spoiled(scale))).encode()
        return (
            "PATCH",
            f"{path}/os.g.io/{draw(st.sampled_from(['scale', 'status']))}",
            query,
            "merge-patch+json",
            body,
        )
    content_type = draw(st.sampled_from(_PATCH_TYPES)) if method == "PATCH" else "json"
    return method, f"{path}/os.g.io", query, content_type, body


_BYTES = st.binary(max_size=60) | st.sampled_from(
    [
        b"[" * 20_000,
        b'{"a":' * 3_000 + b"1" + b"}" * 3_000,
        b"k8s\0" + b"\x0a\xff" * 20,
        b'{"metadata":{"name":"a","name":"b"},"metadata":{"name":"c"}}',
        b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
        b"!!python/object/apply:os.system ['true']",
        b'{"metadata":{"name":"\\ud800"}}',
        b"null",
        b"",
    ]
)


class Target:
    """A server and a connection to it, in an event loop that lives as long as the module's tests."""

    def __init__(self, loop: asyncio.AbstractEventLoop, running: RunningApiServer) -> None:
        self.loop = loop
        self.url = running.url
        self.context: ssl.SSLContext = tls_context(running.kubeconfig)

    async def send(self, requests: list[Request]) -> list[tuple[int, bytes]]:
        """Codes and bodies; a connection that is cut raises."""
        found: list[tuple[int, bytes]] = []
        connector = aiohttp.TCPConnector(ssl=self.context, limit=1)
        async with aiohttp.ClientSession(self.url, connector=connector) as session:
            for method, path, query, content_type, body in requests:
                headers = {"Content-Type": f"application/{content_type}"}
                async with session.request(method, path, params=query, data=body, headers=headers) as answer:
                    found.append((answer.status, await answer.read()))
        return found


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    loop = asyncio.new_event_loop()
    entered = running_api_server()
    running = loop.run_until_complete(entered.__aenter__())
    try:
        made = Target(loop, running)
        account = "/api/v1/namespaces/default/serviceaccounts", {}, "json", b'{"metadata":{"name":"default"}}'
        loop.run_until_complete(made.send([("POST", *account)]))
        yield made
    finally:
        loop.run_until_complete(entered.__aexit__(None, None, None))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(requests=st.lists(_requests(), min_size=5, max_size=20))
def test_each_bad_request_is_answered_by_a_status_and_no_fault(
    target: Target, requests: list[Request]
) -> None:
    answers = target.loop.run_until_complete(asyncio.wait_for(target.send(requests), 60))
    for request, (code, body) in zip(requests, answers, strict=True):
        assert code < 500, (request, body)
        if code >= 400 and body != b"404 page not found":
            answer = json.loads(body)
            assert (answer["kind"], answer["code"], answer["status"]) == ("Status", code, "Failure"), request


async def test_a_field_name_with_control_characters_is_warned_of_in_a_header_that_can_be_sent(
    api: Api,
) -> None:
    body = config_map("a") | {"x\r\nSet-Cookie: y\0\u2028": 1}
    answer = await api.create(CONFIG_MAPS, body, fieldValidation="Warn")
    assert answer.code == 201
    assert "Set-Cookie" not in answer.headers
    assert "unknown field" in answer.headers["Warning"]


async def test_a_patch_that_copies_the_object_into_itself_again_and_again_is_refused(api: Api) -> None:
    (await api.create(CONFIG_MAPS, config_map("a", x="y"))).ok()
    copies = [{"op": "copy", "from": "", "path": f"/data/{number}"} for number in range(60)]
    answer = await api.request(
        "PATCH", f"{CONFIG_MAPS}/a", copies, content_type="application/json-patch+json"
    )
    assert (answer.code, answer.json["reason"]) == (413, "RequestEntityTooLarge")


async def test_a_refusal_before_the_body_came_keeps_the_connection(api: Api) -> None:
    """A client whose next request meets a connection that was cut cannot know whether it was carried out."""

    async def body() -> Any:
        yield b"{"
        await asyncio.sleep(0)
        yield b"}" + b" " * 8000

    async with aiohttp.ClientSession(
        api.url, connector=aiohttp.TCPConnector(ssl=api._context, limit=1)
    ) as session:
        connections: set[object] = set()
        for _ in range(10):
            headers = {"Content-Length": "8002"}
            async with session.post("/api/v1/nosuch", data=body(), headers=headers) as answer:
                assert answer.status == 404
                assert answer.connection is None or connections.add(answer.connection.transport) is None
                await answer.read()
    assert len(connections) <= 1


async def test_a_body_that_does_not_come_ends_the_connection_with_a_word(api: Api) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(api.url.rpartition(":")[2]), ssl=api._context, server_hostname="localhost"
    )
    writer.write(b"POST /api/v1/nosuch HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    assert b"404" in head.splitlines()[0]
    assert b"connection: close" in head.lower()
    writer.close()


async def test_what_is_no_http_is_logged_in_a_line(api: Api) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger("aiohttp.server")
    logger.addHandler(handler)
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(api.url.rpartition(":")[2]), ssl=api._context, server_hostname="localhost"
        )
        writer.write(b"GET /healthz HTTP/1.1\r\nno header\r\n\r\n")
        assert b" 400 " in await asyncio.wait_for(reader.read(1000), 20)
        writer.close()
    finally:
        logger.removeHandler(handler)
    assert [(record.levelname, record.exc_info) for record in records] == [("INFO", None)]


async def test_connections_that_never_speak_do_not_keep_others_waiting(api: Api) -> None:
    port = int(api.url.rpartition(":")[2])
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
    for index, (_, writer) in enumerate(silent):
        writer.write((b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n")[index % 3])
    assert (await asyncio.wait_for(api.get("/healthz"), 20)).code == 200
    await add_service_account(api)
    for _, writer in silent:
        writer.close()
