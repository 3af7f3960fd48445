"""Names and addresses inside pods."""

from __future__ import annotations

from typing import Any

from tests.node.conftest import RunningNode, condition, is_ready, phase_is, shell, until

from kajitori.api.resource import ENDPOINT_SLICES, SERVICES

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(("%s %s" % (sys.argv[1], self.client_address[0])).encode())
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""
FETCH = "import urllib.request,sys; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"


def serving(text: str) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    ports = [{"name": "http", "containerPort": 8000}]
    return {
        "image": "python",
        "command": ["python3", "-c", SERVER, text],
        "readinessProbe": probe,
        "ports": ports,
    }


def fetching(url: str) -> dict[str, Any]:
    return {"image": "python", "command": ["python3", "-c", FETCH, url]}


async def test_every_pod_may_listen_on_all_addresses_at_the_same_port(node: RunningNode) -> None:
    first = await node.create_pod("one", serving("first"))
    await node.create_pod("two", serving("second"))
    first = await node.wait_ready("one")
    second = await node.wait_ready("two")
    for pod, text in ((first, "first"), (second, "second")):
        name = f"client-{text}"
        await node.create_pod(name, fetching(f"http://{pod['status']['podIP']}:8000/"), restartPolicy="Never")
        client = await node.wait_for(name, lambda pod: pod["status"].get("phase") in ("Succeeded", "Failed"))
        # The server sees its client's own address.
        assert node.log(client) == f"{text} {client['status']['podIP']}\n"


async def test_containers_of_a_pod_meet_on_localhost(node: RunningNode) -> None:
    script = 'until python3 -c "$0" http://localhost:8000/; do sleep 0.2; done 2>/dev/null; exec sleep 1000'
    other = {"image": "python", "command": ["sh", "-c", script, FETCH]}
    pod = await node.create_pod("p", serving("here"), other)
    await until(lambda: node.log(pod, "c1").startswith("here "))


async def test_a_pod_finds_itself_headless_peers_and_services_by_name(node: RunningNode) -> None:
    await node.client.create(
        SERVICES, {"metadata": {"name": "web", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}
    )
    service = await node.client.get(SERVICES, "web", "default")
    address = service["spec"]["clusterIP"]
    await node.client.create(
        SERVICES,
        {
            "metadata": {"name": "group", "namespace": "default"},
            "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "ports": [{"port": 80}]},
        },
    )
    names = ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local"]
    peers = ["peer-0.group", "peer-0.group.default.svc.cluster.local", "group"]
    script = f"for n in p {' '.join(names + peers)}; do until getent hosts $n; do sleep 0.05; done; done"
    pod = await node.create_pod("p", shell(script), restartPolicy="Never")
    await node.wait_for("p", phase_is("Running"))
    await node.client.create(
        ENDPOINT_SLICES,
        {
            "metadata": {
                "name": "group-1",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "group"},
            },
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["127.224.9.9"], "hostname": "peer-0", "conditions": {"ready": False}}
            ],
            "ports": [{"port": 80}],
        },
    )
    pod = await node.wait_for("p", phase_is("Succeeded"))
    found = [line.split() for line in node.log(pod).splitlines()]
    assert found[0][0] == pod["status"]["podIP"]
    assert {line[0] for line in found[1:5]} == {address}
    assert {line[0] for line in found[5:]} == {"127.224.9.9"}
    assert "WEB_SERVICE_HOST" not in node.log(pod)


async def test_services_are_in_the_environment(node: RunningNode) -> None:
    await node.client.create(
        SERVICES, {"metadata": {"name": "web", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}
    )
    service = await node.client.get(SERVICES, "web", "default")
    assert node.agent is not None
    agent = node.agent
    await until(lambda: agent.node.hosts.services.get("default", "web"))
    await node.create_pod("p", shell("echo $WEB_PORT $KUBERNETES_SERVICE_HOST"), restartPolicy="Never")
    pod = await node.wait_for("p", phase_is("Succeeded"))
    assert node.log(pod) == f"tcp://{service['spec']['clusterIP']}:80 127.0.0.1\n"


async def test_host_aliases_and_host_names_are_the_pods_own(node: RunningNode) -> None:
    await node.create_pod(
        "p",
        shell("getent hosts db.example; getent hosts $(hostname); hostname"),
        restartPolicy="Never",
        hostname="rank-0",
        subdomain="group",
        hostAliases=[{"ip": "127.0.0.9", "hostnames": ["db.example"]}],
    )
    pod = await node.wait_for("p", phase_is("Succeeded"))
    lines = [line.split() for line in node.log(pod).splitlines()]
    assert lines[0] == ["127.0.0.9", "db.example"]
    assert lines[1] == [pod["status"]["podIP"], "rank-0.group.default.svc.cluster.local", "rank-0"]
    assert lines[2] == ["rank-0"]


async def test_a_grpc_probe_asks_the_health_service(node: RunningNode) -> None:
    import grpc

    serving_response = b"\x08\x01"
    asked: list[bytes] = []

    async def check(request: bytes, _: Any) -> bytes:
        asked.append(request)
        return serving_response if len(asked) > 1 else b"\x08\x02"

    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
    )
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        probe = {"grpc": {"port": port, "service": "model"}, "periodSeconds": 1}
        await node.create_pod("p", shell("sleep 1000", readinessProbe=probe), hostNetwork=True)
        pod = await node.wait_for("p", phase_is("Running"))
        assert pod["status"]["podIP"] == "127.0.0.1"
        pod = await node.wait_for("p", is_ready)
        assert condition(pod, "Ready")["status"] == "True"
        assert asked[0] == b"\x0a\x05model"
    finally:
        await server.stop(None)
