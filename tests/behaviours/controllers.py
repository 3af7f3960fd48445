"""The group controllers as a process of their own on either server: what `kaji up` starts, or what an installation runs.

On the real server it is `kaji serve controllers` with the token of its service account, and that account has the rights
that an installation gives it and no others.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from pathlib import Path

import yaml
from tools.kubernetes.control_plane import free_ports

from kajitori.api.resource import SERVICE_ACCOUNTS
from kajitori.app.install.render import render
from kajitori.app.install.values import complete
from kajitori.kube.config import load_config
from kajitori.kube.direct import DirectClient
from tests.servers import ROOT, Place
from tests.waiting import eventually_blocking

NAMESPACE = "kajitori-system"
NAME = "kajitori-controllers"
PATHS = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
}


class Controllers:
    """The running process. home: where its log and its kubeconfig lie."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._port = free_ports(1)[0]
        if place.name == "real":
            self._kubeconfig = _account(place)
            self._start()

    def _start(self) -> None:
        if self._place.name == "embedded":
            words = ["kajitori.app.controllers", "--home", str(self._place.home)]
        else:
            words = ["kajitori.cli", "serve", "controllers", "--kubeconfig", str(self._kubeconfig)]
            words += ["--namespace", NAMESPACE, f"--endpoint=127.0.0.1:{self._port}"]
        log = self._place.home / "log" / "controllers.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as output:
            self._place.processes["controllers"] = subprocess.Popen(
                [sys.executable, "-m", *words],
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": "src:."},
            )

    def stop(self) -> None:
        process = self._place.processes["controllers"]
        process.terminate()
        process.wait(30)

    def replace(self) -> None:
        """End the process and start another, as an upgrade does."""
        self.stop()
        self._start()
        self.wait()

    def wait(self) -> None:
        def ready() -> bool:
            assert self._place.processes["controllers"].poll() is None, "the controllers ended"
            return "kaji_leader" in self.answer("/metrics") and bool(self.answer("/readyz"))

        eventually_blocking(ready, "the controllers are ready")

    def answer(self, path: str) -> str:
        """What the probe or `/metrics` says; empty if it says no."""
        with contextlib.suppress(OSError):
            if self._place.name == "embedded":
                return _ask(self._place.home / "run" / "controllers.sock", path)
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
                return answer.read().decode()
        return ""


def _ask(path: Path, target: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(f"GET {target} HTTP/1.0\r\n\r\n".encode())
        parts = iter(lambda: connection.recv(65536), b"")
        head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    return body.decode() if b" 200 " in head.partition(b"\r\n")[0] else ""


def _account(place: Place) -> Path:
    """Make the service account and its rights as an installation has them; a kubeconfig with its token."""
    with DirectClient(load_config(str(place.kubeconfig))) as client:
        for obj in render(complete({}), NAMESPACE):
            name: str = obj["metadata"]["name"]
            if obj["kind"] not in PATHS or not (obj["kind"] == "Namespace" or name.startswith(NAME)):
                continue
            path = PATHS[obj["kind"]].format(namespace=NAMESPACE)
            client.apply(f"{path}/{name}", obj, {"fieldManager": "test", "force": "true"})
        path = SERVICE_ACCOUNTS.path(NAMESPACE, NAME, "token")
        body, _ = client.request("POST", path, body=json.dumps({"spec": {}}).encode())
    config = yaml.safe_load(place.kubeconfig.read_text())
    config["users"] = [
        {"name": config["users"][0]["name"], "user": {"token": json.loads(body)["status"]["token"]}}
    ]
    kubeconfig = place.home / f"{NAME}.kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    return kubeconfig


@contextlib.contextmanager
def running_controllers(place: Place) -> Generator[Controllers]:
    """They run while the context lasts; on the embedded server they did before and go on."""
    found = Controllers(place)
    try:
        found.wait()
        yield found
    finally:
        if place.name == "real":
            found.stop()
            del place.processes["controllers"]
