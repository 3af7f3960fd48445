"""A real control plane with Kajitori installed: its processes run as its Deployments say, as their service accounts.

Pods need nodes, and here are none: what a Deployment would run is started by hand, with the token of its account and
nothing else of the administrator's.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tools.kubernetes.control_plane import ControlPlane, free_ports

from kajitori.api.resource import SERVICE_ACCOUNTS
from kajitori.base.errors import NotFound
from kajitori.kube.config import load_config
from kajitori.kube.direct import DirectClient
from tests.waiting import eventually_blocking

NAMESPACE = "kajitori-system"


@dataclass
class Process:
    """One replica. port: of its probes."""

    name: str
    popen: subprocess.Popen[bytes]
    port: int
    log: Path
    discovery: int = 0

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def terminate(self) -> int:
        self.popen.terminate()
        return self.popen.wait(30)

    def answers(self, path: str) -> str:
        """The body of a probe, empty if it says no."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    @property
    def ready(self) -> bool:
        return bool(self.answers("/readyz"))

    @property
    def leads(self) -> bool:
        return "kaji_leader 1.0" in self.answers("/metrics")


@dataclass
class Installation:
    """The cluster, an administrator's client, and the processes that run."""

    plane: ControlPlane
    folder: Path
    client: DirectClient
    processes: list[Process] = field(default_factory=list)

    def kaji(self, *words: str, code: int = 0, kubeconfig: Path | None = None) -> str:
        """What a command printed; its exit code is checked."""
        done = subprocess.run(
            [sys.executable, "-m", "kajitori.cli", *words, "--kubeconfig", str(kubeconfig or self.plane.kubeconfig)],
            capture_output=True,
            text=True,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    @property
    def access_log(self) -> Path:
        """Where Envoys of this installation write, since all share a machine."""
        return self.folder / "access.log"

    def start(self, component: str, *more: str, discovery: int = 0) -> Process:
        """One more replica of a Deployment. discovery: the port for Envoys, 0 for a free one."""
        deployment = self.client.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/kajitori-{component}")
        spec = deployment["spec"]["template"]["spec"]
        container = spec["containers"][0]
        number = len(self.processes)
        probes, free = free_ports(2)
        discovery = discovery or free
        ours = {
            "--endpoint": f"127.0.0.1:{probes}",
            "--discovery": f"127.0.0.1:{discovery}",
            "--cache": str(self.folder / "cache"),
            "--access-log": str(self.access_log),
        }
        assert container["command"][0] == "kaji"
        words = [sys.executable, "-m", "kajitori.cli", *container["command"][1:]]
        for word in container["args"]:
            name, equals, value = word.partition("=")
            words.append(f"{name}{equals}{ours.get(name, value)}")
        words += [*more, "--kubeconfig", str(self.kubeconfig_of(spec["serviceAccountName"]))]
        log = self.folder / f"{component}-{number}.log"
        environment = {
            **os.environ,
            "POD_NAME": f"kajitori-{component}-{number}",
            "POD_NAMESPACE": NAMESPACE,
            "HOME": "/nonexistent",
        }
        with log.open("ab") as output:
            popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *words],
                stdout=output,
                stderr=output,
                env=environment,
            )
        process = Process(f"kajitori-{component}-{number}", popen, probes, log, discovery)
        self.processes.append(process)
        return process

    def kubeconfig_of(self, account: str) -> Path:
        """With a token of a service account, as a pod has it."""
        path = SERVICE_ACCOUNTS.path(NAMESPACE, account, "token")
        body, _ = self.client.request("POST", path, body=json.dumps({"spec": {}}).encode())
        admin = yaml.safe_load(self.plane.kubeconfig.read_text())
        admin["users"] = [
            {"name": admin["users"][0]["name"], "user": {"token": json.loads(body)["status"]["token"]}}
        ]
        kubeconfig = self.folder / f"{account}.kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(admin))
        return kubeconfig

    def stop_all(self) -> None:
        for process in self.processes:
            process.kill()
        self.processes.clear()

    def logs(self) -> str:
        return "\n".join(f"== {each.name}\n{each.log.read_text()[-3000:]}" for each in self.processes)

    def get(self, path: str) -> dict[str, Any] | None:
        try:
            return self.client.get(path)
        except NotFound:
            return None

    def apply(self, obj: dict[str, Any], path: str) -> dict[str, Any]:
        return self.client.apply(path, obj, {"fieldManager": "test", "force": "true"})[0]

    def until(self, holds: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
        """Wait until something holds."""
        return eventually_blocking(holds, lambda: f"{what}\n{self.logs()}", seconds)

    def audited(self, user: str) -> Iterator[dict[str, Any]]:
        """What the API server was asked by a service account of ours, or by anyone named."""
        name = user if ":" in user else f"system:serviceaccount:{NAMESPACE}:{user}"
        for line in self.plane.audit_log.read_text().splitlines():
            if f'"{name}"' not in line:
                continue
            event = json.loads(line)
            if event["user"]["username"] == name:
                yield event


@contextlib.contextmanager
def installation(plane: ControlPlane, folder: Path) -> Iterator[Installation]:
    with DirectClient(load_config(str(plane.kubeconfig))) as client:
        found = Installation(plane, folder, client)
        try:
            yield found
        finally:
            found.stop_all()


def lease_holder(found: Installation, component: str) -> str:
    lease = found.get(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/kajitori-{component}")
    return ((lease or {}).get("spec") or {}).get("holderIdentity") or ""
