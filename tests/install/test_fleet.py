"""Envoy of the fleet, as its ConfigMap, Secret and Deployment say, with two replicas of the gateway."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tools.kubernetes.control_plane import free_ports

from kajitori.engines.envoy import find_envoy
from kajitori.gateway.accounting.folders import LEDGER_FOLDER, LOG_FOLDER
from kajitori.gateway.accounting.record_reading import read_recent
from kajitori.gateway.envoy.bootstrap import CERTIFICATE_FOLDER, FLEET_FOLDER, SOCKET_FOLDER
from tests.gateway.cluster import completed
from tests.gateway.workbench import Provider, ai_route, backend, gateway, key_policy, running_provider
from tests.install.installation import NAMESPACE, Installation, Process
from tests.waiting import eventually

SERVER = f"kajitori-gateway.{NAMESPACE}.svc"
CORE = f"/api/v1/namespaces/{NAMESPACE}"


class Fleet:
    """One Envoy with the files that its pod would have. discovery: the port of the replica that it is led to."""

    def __init__(self, cluster: Installation, folder: Path, discovery: int) -> None:
        self.cluster = cluster
        self.folder = folder
        self.probe_port = free_ports(1)[0]
        self.places = {
            FLEET_FOLDER: folder / "envoy",
            CERTIFICATE_FOLDER: folder / "certificates",
            SOCKET_FOLDER: folder / "sockets",
        }
        for place in self.places.values():
            place.mkdir()
        self.mount_certificate(1)
        for name, text in cluster.client.get(f"{CORE}/configmaps/kajitori-envoy")["data"].items():
            for old, new in self.places.items():
                text = text.replace(old, str(new))
            document = json.loads(text)
            if name == "bootstrap.json":
                self._point(document, discovery)
            (self.places[FLEET_FOLDER] / name).write_text(json.dumps(document))
        self.ledger = folder / "ledger"
        self.metrics_port = free_ports(1)[0]
        self.accountant = self._start_accountant(discovery)
        self.popen = self._start()

    def _point(self, document: dict[str, Any], discovery: int) -> None:
        """Lead it to this machine: names of Services resolve nowhere here."""
        static = document["static_resources"]
        (cluster,) = (each for each in static["clusters"] if each["type"] == "STRICT_DNS")
        address = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
        assert address["socket_address"] == {"address": SERVER, "port_value": 18000}
        address["socket_address"] = {"address": "127.0.0.1", "port_value": discovery}
        static["listeners"][0]["address"]["socket_address"] = {
            "address": "127.0.0.1",
            "port_value": self.probe_port,
        }

    def mount_certificate(self, generation: int) -> None:
        """As a kubelet does: a folder a generation, and one link that is moved to the newest."""
        secret = self.cluster.client.get(f"{CORE}/secrets/kajitori-envoy-client")
        folder = self.places[CERTIFICATE_FOLDER]
        content = folder / f"..{generation}"
        content.mkdir()
        for name, value in secret["data"].items():
            (content / name).write_bytes(base64.b64decode(value))
            with contextlib.suppress(FileExistsError):
                (folder / name).symlink_to(f"..data/{name}")
        (folder / "..new").symlink_to(content.name)
        (folder / "..new").rename(folder / "..data")

    def _start(self) -> subprocess.Popen[bytes]:
        deployment = self.cluster.client.get(
            f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/kajitori-envoy"
        )
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        assert container["command"] == ["envoy"]
        words = [word.replace(FLEET_FOLDER, str(self.places[FLEET_FOLDER])) for word in container["args"]]
        words = [word.replace("$(POD_NAME)", "envoy-1") for word in words]
        with (self.folder / "envoy.log").open("ab") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", str(find_envoy()), *words], stdout=log, stderr=log
            )

    def _start_accountant(self, discovery: int) -> subprocess.Popen[bytes]:
        """With what its container has: no token, no kubeconfig, no way to the API server."""
        deployment = self.cluster.client.get(
            f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/kajitori-envoy"
        )
        spec = deployment["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False
        (container,) = spec["initContainers"]
        assert container["command"] == ["kaji", "serve", "accountant"]
        assert container["restartPolicy"] == "Always"
        assert f"--control-plane={SERVER}:18000" in container["args"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts == {"/tmp", SOCKET_FOLDER, LOG_FOLDER, LEDGER_FOLDER, CERTIFICATE_FOLDER}
        words = [
            *(sys.executable, "-m", "kajitori.cli", "serve", "accountant", f"--server-name={SERVER}"),
            f"--endpoint=127.0.0.1:{self.metrics_port}",
            f"--control-plane=127.0.0.1:{discovery}",
            f"--certificates={self.places[CERTIFICATE_FOLDER]}",
            f"--ledger={self.ledger}",
            f"--access-log={self.cluster.access_log}",
            f"--sockets={self.places[SOCKET_FOLDER]}",
        ]
        with (self.folder / "accountant.log").open("ab") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *words],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
            )

    def log(self) -> str:
        return "\n".join(
            (self.folder / f"{name}.log").read_text()[-3000:] for name in ("envoy", "accountant")
        )

    def probe(self, path: str, port: int = 0) -> str:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port or self.probe_port}{path}", timeout=5
            ) as answer:
                return answer.read().decode()
        except (OSError, urllib.error.HTTPError):
            return ""

    async def administration(self, path: str) -> str:
        socket = str(self.places[SOCKET_FOLDER] / "envoy-admin.sock")
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket)) as session,
            session.get(f"http://envoy{path}") as response,
        ):
            return await response.text()

    def end(self) -> None:
        for process in (self.popen, self.accountant):
            process.kill()
            process.wait()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with running_provider() as found:
        yield found


@pytest.fixture
def replicas(installed: Installation) -> Iterator[tuple[Process, Process]]:
    """The gateway that leads, and another."""
    both = [installed.start("gateway") for _ in range(2)]
    installed.until(lambda: all(each.ready for each in both), "both replicas are ready")
    leader = installed.until(lambda: next((each for each in both if each.leads), None), "one leads")
    yield leader, next(each for each in both if each is not leader)


def apply(cluster: Installation, *documents: dict[str, Any]) -> None:
    for resource, body in map(completed, documents):
        cluster.apply(body, resource.path("default", body["metadata"]["name"]))


async def ask(port: int, model: str) -> int:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    try:
        async with aiohttp.request("POST", url, json={"model": model, "messages": []}) as response:
            await response.read()
            return response.status
    except OSError:
        return 0


def gateway_conditions(cluster: Installation) -> tuple[dict[str, str], list[dict[str, str]]]:
    status = cluster.client.get("/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways/gateway").get(
        "status", {}
    )
    return {each["type"]: each["status"] for each in status.get("conditions", ())}, status.get(
        "addresses"
    ) or []


async def test_envoy_serves_by_the_replica_that_does_not_lead_and_outlives_a_change_of_all_certificates(
    installed: Installation, replicas: tuple[Process, Process], provider: Provider, tmp_path: Path
) -> None:
    _, follower = replicas
    port = free_ports(1)[0]
    envoy = Fleet(installed, tmp_path, follower.discovery)
    try:
        apply(
            installed,
            gateway(port),
            *backend("a", provider.port),
            *key_policy("a", "sk-very-secret"),
            ai_route("one", "first", {"name": "a"}),
        )

        async def answers(model: str) -> bool:
            return await ask(port, model) == 200

        await eventually(lambda: answers("first"), lambda: envoy.log() + installed.logs())
        assert provider.seen[-1].headers["authorization"] == "Bearer sk-very-secret"
        assert envoy.probe("/ready") == "LIVE\n" and "envoy_cluster" in envoy.probe("/stats/prometheus")

        async def programmed() -> bool:
            return gateway_conditions(installed)[0].get("Programmed") == "True"

        # The leader serves no Envoy itself; it knows of this one by the other's report.
        await eventually(programmed, lambda: str(gateway_conditions(installed)) + installed.logs())
        service = installed.client.get(f"{CORE}/services/kajitori-envoy")
        assert [each["port"] for each in service["spec"]["ports"]] == [port]
        assert gateway_conditions(installed)[1] == [
            {"type": "IPAddress", "value": service["spec"]["clusterIP"]}
        ]
        owner = installed.client.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/kajitori-envoy")
        assert service["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]

        async def booked() -> bool:
            return any(
                (record.model, record.route) == ("first", "default/one")
                for record in read_recent(envoy.ledger)
            )

        await eventually(booked, envoy.log)
        counted = envoy.probe("/metrics", envoy.metrics_port)
        assert 'kaji_gateway_requests_total{backend="default/a",code="200",model="first"' in counted
        assert envoy.probe("/readyz", envoy.metrics_port) == "ok\n"

        # Somebody deletes every certificate: new ones of a new authority, and no process ends.
        before = installed.client.get(f"{CORE}/secrets/kajitori-envoy-client")["data"]["tls.crt"]
        for name in ("authority", "server"):
            installed.client.delete(f"{CORE}/secrets/kajitori-gateway-{name}")

        async def renewed() -> bool:
            secret = installed.get(f"{CORE}/secrets/kajitori-envoy-client")
            return secret is not None and secret["data"]["tls.crt"] != before

        await eventually(renewed, installed.logs)
        envoy.mount_certificate(2)
        follower.kill()
        installed.processes.remove(follower)
        again = installed.start("gateway", discovery=follower.discovery)
        apply(installed, ai_route("two", "second", {"name": "a"}))
        await eventually(lambda: answers("second"), lambda: envoy.log() + installed.logs())
        assert again.ready and envoy.popen.poll() is None

        shown = await envoy.administration("/config_dump")
        assert "sk-very-secret" not in shown and "PRIVATE KEY" not in shown
        for text in (installed.logs(), envoy.log()):
            assert "PRIVATE KEY" not in text and "sk-very-secret" not in text
    finally:
        envoy.end()


def test_nobody_gets_configuration_without_a_certificate_of_the_installation(
    installed: Installation, replicas: tuple[Process, Process], tmp_path: Path
) -> None:
    def certificate(secret: str) -> Path:
        data = installed.client.get(f"{CORE}/secrets/{secret}")["data"]
        path = tmp_path / f"{secret}.pem"
        path.write_bytes(base64.b64decode(data["tls.crt"]) + base64.b64decode(data["tls.key"]))
        return path

    authority = installed.client.get(f"{CORE}/secrets/kajitori-envoy-client")["data"]["ca.crt"]

    def first_byte(shown: Path | None) -> bytes:
        context = ssl.create_default_context(cadata=base64.b64decode(authority).decode())
        context.set_alpn_protocols(["h2"])
        if shown is not None:
            context.load_cert_chain(shown)
        address = ("127.0.0.1", replicas[0].discovery)
        with (
            socket.create_connection(address, timeout=20) as plain,
            context.wrap_socket(plain, server_hostname=SERVER, suppress_ragged_eofs=False) as secure,
        ):
            return secure.read(1)

    assert first_byte(certificate("kajitori-envoy-client"))
    # A server's certificate is of the same authority, and none for clients.
    for shown in (None, certificate("kajitori-gateway-server")):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            first_byte(shown)


async def test_a_secret_that_no_policy_names_is_never_read(
    installed: Installation, replicas: tuple[Process, Process], provider: Provider
) -> None:
    apply(installed, *backend("b", provider.port), *key_policy("b", "sk-b"))
    apply(installed, {"kind": "Secret", "metadata": {"name": "private"}, "stringData": {"apiKey": "sk-p"}})

    def asked() -> set[str]:
        return {
            event["requestURI"]
            for event in installed.audited("kajitori-gateway")
            for reference in [event.get("objectRef") or {}]
            if (reference.get("resource"), reference.get("namespace")) == ("secrets", "default")
        }

    async def read() -> bool:
        return any("metadata.name%3Db-key" in uri for uri in asked())

    await eventually(read, installed.logs)
    assert all(re.search(r"metadata\.name%3D[abr]-key&", uri) for uri in asked())
