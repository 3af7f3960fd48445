"""APIs that another server serves: found by discovery, passed on with the name of who asks; our own metrics."""

from __future__ import annotations

import base64
import contextlib
import ssl

import msgspec
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.waiting import eventually

from kajitori.api.resource import SERVICES, Resource
from kajitori.base.errors import ApiError, Forbidden, NotFound
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver import pki
from kajitori.laptop.apiserver.testing import running_api_server

API_SERVICES = Resource("apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False)
THINGS = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": "things.example.com/v1",
    "resources": [
        {
            "name": "things",
            "singularName": "thing",
            "namespaced": True,
            "kind": "Thing",
            "verbs": ["get", "list"],
        },
        {"name": "things/status", "singularName": "", "namespaced": True, "kind": "Thing", "verbs": ["get"]},
    ],
}


@contextlib.asynccontextmanager
async def other_server(folder):
    """A server of another API, with a certificate of an authority of its own."""
    authority = pki.Authority(folder)
    certificate, key = server_certificate(authority, folder)
    seen = []

    async def answer(request):
        if request.path == "/apis/things.example.com/v1":
            return web.json_response(THINGS)
        body = await request.text()
        seen.append((request.method, request.path_qs, dict(request.headers), body))
        groups = request.headers.getall("X-Remote-Group", [])
        return web.json_response(
            {"user": request.headers.get("X-Remote-User"), "groups": groups, "path": request.path_qs},
            status=201 if request.method == "POST" else 200,
        )

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1], authority.certificate, seen
    finally:
        await runner.cleanup()


def server_certificate(authority, folder):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "things")])
    alternatives = [x509.DNSName("things.default.svc")]
    certificate, key = authority.issue(name, ExtendedKeyUsageOID.SERVER_AUTH, alternatives)
    for path, content in (("things.crt", certificate), ("things.key", key)):
        (folder / path).write_bytes(content)
    return folder / "things.crt", folder / "things.key"


def api_service(**spec):
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1.things.example.com"},
        "spec": {
            "group": "things.example.com",
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": "things", "namespace": "default", "port": spec.pop("port", 443)},
            **spec,
        },
    }


@pytest.fixture
async def cluster(tmp_path):
    async with running_api_server() as server, Client(load_config(str(server.kubeconfig))) as client:
        yield server, client


async def available(client, status, reason=""):
    conditions = {}

    async def says_so():
        nonlocal conditions
        found = (await client.get(API_SERVICES, "v1.things.example.com")).get("status", {})
        conditions = {one["type"]: one for one in found.get("conditions", [])}
        told = conditions.get("Available", {})
        return told if told.get("status") == status and reason in ("", told["reason"]) else None

    return await eventually(says_so, lambda: f"Available is {status} {reason}: {conditions}")


async def service(client, port):
    spec = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
    await client.create(SERVICES, {"metadata": {"name": "things", "namespace": "default"}, "spec": spec})


async def test_requests_go_to_the_service_of_an_api_service_with_who_asks(cluster, tmp_path):
    _, client = cluster
    async with other_server(tmp_path) as (port, authority, seen):
        await service(client, port)
        bundle = base64.b64encode(authority).decode()
        await client.create(API_SERVICES, api_service(caBundle=bundle, port=port))
        condition = await available(client, "True")
        assert (condition["reason"], condition["message"]) == ("Passed", "all checks passed")
        body = await client.request("GET", "/apis/things.example.com/v1/namespaces/default/things?limit=5")
        assert b'"user": "kubernetes-admin"' in body and b"system:masters" in body
        method, path, headers, _ = seen[-1]
        assert (method, path) == ("GET", "/apis/things.example.com/v1/namespaces/default/things?limit=5")
        assert "Authorization" not in headers
        await client.request("POST", "/apis/things.example.com/v1/namespaces/default/things", body={"a": "b"})
        assert seen[-1][0] == "POST" and seen[-1][3] == '{"a":"b"}'


async def test_discovery_tells_what_the_other_server_serves(cluster, tmp_path):
    _, client = cluster
    async with other_server(tmp_path) as (port, _, _):
        await service(client, port)
        await client.create(API_SERVICES, api_service(insecureSkipTLSVerify=True, port=port))
        await available(client, "True")
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        body = await client.request("GET", "/apis", headers=[("Accept", accept)])
        (group,) = [
            one
            for one in msgspec.json.decode(body)["items"]
            if one["metadata"]["name"] == "things.example.com"
        ]
        (version,) = group["versions"]
        assert version["freshness"] == "Current"
        (things,) = version["resources"]
        assert things["resource"] == "things" and things["scope"] == "Namespaced"
        assert things["responseKind"] == {"group": "things.example.com", "version": "v1", "kind": "Thing"}
        assert things["subresources"][0]["subresource"] == "status"
        listed = msgspec.json.decode(await client.request("GET", "/apis"))
        assert "things.example.com" in [one["name"] for one in listed["groups"]]


async def test_a_service_that_is_not_there_or_not_believed_is_unavailable(cluster, tmp_path):
    _, client = cluster
    async with other_server(tmp_path) as (port, _, seen):
        await client.create(API_SERVICES, api_service(port=port))
        condition = await available(client, "False")
        assert (condition["reason"], condition["message"]) == (
            "ServiceNotFound",
            'service/things in "default" is not present',
        )
        with pytest.raises(ApiError) as error:
            await client.request("GET", "/apis/things.example.com/v1/things")
        assert error.value.code == 503
        await service(client, port)
        await available(client, "False", "FailedDiscoveryCheck")
        assert not seen


async def test_metrics_are_ours_until_somebody_else_serves_them(cluster):
    _, client = cluster
    nodes = msgspec.json.decode(await client.request("GET", "/apis/metrics.k8s.io/v1beta1/nodes"))
    assert (nodes["kind"], nodes["items"]) == ("NodeMetricsList", [])
    resources = msgspec.json.decode(await client.request("GET", "/apis/metrics.k8s.io/v1beta1"))
    assert [one["kind"] for one in resources["resources"]] == ["NodeMetrics", "PodMetrics"]
    with pytest.raises(NotFound):
        await client.request("GET", "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/nobody")
    with pytest.raises(Forbidden):
        await client.request(
            "GET", "/apis/metrics.k8s.io/v1beta1/nodes", headers=[("Impersonate-User", "nobody")]
        )
    theirs = api_service(insecureSkipTLSVerify=True)
    theirs["metadata"]["name"] = "v1beta1.metrics.k8s.io"
    theirs["spec"] |= {"group": "metrics.k8s.io", "version": "v1beta1"}
    await client.create(API_SERVICES, theirs)
    with pytest.raises(ApiError) as error:
        await client.request("GET", "/apis/metrics.k8s.io/v1beta1/nodes")
    assert error.value.code == 503
    await client.delete(API_SERVICES, "v1beta1.metrics.k8s.io")
    await client.request("GET", "/apis/metrics.k8s.io/v1beta1/nodes")
