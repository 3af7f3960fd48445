"""kubernetes-sigs/lws as a process beside a real control plane: its definitions, its webhooks, its manager.

Its certificates come from the control plane's own authority, and the webhooks are told by URL, since there is no
Service on loopback that would lead to the process.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import os
import subprocess
import time
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tools.kubernetes.control_plane import ControlPlane, free_ports
from tools.peers.build import LWS_MODULE, build, module_folder

from kajitori.kube.config import load_config
from kajitori.kube.direct import DirectClient
from kajitori.laptop.apiserver import pki

USER = "lws-manager"
SET_NAME_LABEL = "leaderworkerset.sigs.k8s.io/name"
READY_SECONDS = 60.0
_CONFIGURATION = """
apiVersion: config.lws.x-k8s.io/v1alpha1
kind: Configuration
health: {{healthProbeBindAddress: "127.0.0.1:{health}"}}
metrics: {{bindAddress: "127.0.0.1:{metrics}"}}
leaderElection: {{leaderElect: false}}
webhook: {{port: {webhook}, host: 127.0.0.1, certDir: {certificates}}}
internalCertManagement: {{enable: false}}
"""


@contextlib.contextmanager
def running_lws_manager(plane: ControlPlane) -> Generator[subprocess.Popen[bytes]]:
    """The manager, ready, as the user `lws-manager`; it ends with the block. Its log: `log/lws-manager.log`."""
    source = module_folder(LWS_MODULE)
    webhook, health, metrics = free_ports(3)
    folder = _certificates(plane)
    with DirectClient(load_config(str(plane.kubeconfig))) as client:
        for path in sorted((source / "config" / "crd" / "bases").glob("*.yaml")):
            _apply(client, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", _read(path))
        configuration = plane.home / "lws-manager.yaml"
        configuration.write_text(
            _CONFIGURATION.format(webhook=webhook, health=health, metrics=metrics, certificates=folder)
        )
        with (plane.home / "log" / "lws-manager.log").open("ab") as log:
            process = subprocess.Popen(
                [str(build() / "lws-manager"), f"--config={configuration}"],
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "KUBECONFIG": str(plane.kubeconfig_of(USER, USER, (pki.MASTERS_GROUP,))),
                },
            )
        try:
            _wait(process, f"http://127.0.0.1:{health}/readyz")
            for configured in _webhooks(source, plane, f"https://127.0.0.1:{webhook}"):
                plural = f"{configured['kind'].lower()}s"
                _apply(client, f"/apis/admissionregistration.k8s.io/v1/{plural}", configured)
            yield process
        finally:
            process.terminate()
            process.wait(30)


def _certificates(plane: ControlPlane) -> Path:
    folder = plane.home / "pki" / "lws-webhook"
    folder.mkdir(parents=True, exist_ok=True)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lws-webhook")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate, key = plane.authority.issue(subject, ExtendedKeyUsageOID.SERVER_AUTH, [address])
    pki.write_private(folder / "tls.crt", certificate)
    pki.write_private(folder / "tls.key", key)
    return folder


def _webhooks(source: Path, plane: ControlPlane, url: str) -> list[dict[str, Any]]:
    """As the project's overlay has them: pods count only if they are of a set."""
    bundle = base64.b64encode(plane.authority.certificate).decode()
    documents = list(yaml.safe_load_all((source / "config" / "webhook" / "manifests.yaml").read_text()))
    for document in documents:
        document["metadata"]["name"] = f"lws-{document['metadata']['name']}"
        for webhook in document["webhooks"]:
            path = webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {"url": url + path, "caBundle": bundle}
            if webhook["rules"][0]["resources"] == ["pods"]:
                webhook["objectSelector"] = {
                    "matchExpressions": [{"key": SET_NAME_LABEL, "operator": "Exists"}]
                }
    return documents


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def _apply(client: DirectClient, collection: str, obj: dict[str, Any]) -> None:
    client.apply(f"{collection}/{obj['metadata']['name']}", obj, {"fieldManager": "lws", "force": "true"})


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"lws-manager did not become ready (exit code {process.poll()})")
        time.sleep(0.1)
