"""A real Kubernetes control plane for tests and benchmarks: etcd, API server, controllers, scheduler.

    with running_control_plane() as plane:
        Client(load_config(str(plane.kubeconfig)))

RBAC is on, every part has its own client certificate, etcd is on disk. There are no nodes: `kaji node join` brings
them. `python -m tools.kubernetes.control_plane --home FOLDER` keeps one until it is interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import ipaddress
import json
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tools.kubernetes.build import build

from kajitori.laptop.apiserver import pki

SERVICE_CIDR = "10.96.0.0/16"
POD_CIDR = "10.244.0.0/16"
READY_SECONDS = 120.0
ADMIN = pki.Identity("admin", "kubernetes-admin", (pki.MASTERS_GROUP,))
APISERVER, CONTROLLERS, SCHEDULER, ETCD = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "etcd",
)
# What the API server calls itself towards kubelets.
KUBELET_CLIENT = pki.Identity("kubelet-client", "kube-apiserver-kubelet-client", (pki.MASTERS_GROUP,))


@dataclass
class ControlPlane:
    """home: certificates, data, `log/PART.log`, `audit.log`. server: such as `https://127.0.0.1:41234`."""

    home: Path
    address: str
    port: int
    binary: Path
    ports: dict[str, int]
    flags: dict[str, list[str]]
    authority: pki.Authority
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def server(self) -> str:
        return f"https://{self.address}:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """Of an administrator (group system:masters)."""
        return self.kubeconfig_of("admin", ADMIN.user, ADMIN.groups)

    @property
    def audit_log(self) -> Path:
        """One JSON event a line: every request's metadata, when it was answered."""
        return self.home / "audit.log"

    @property
    def pids(self) -> dict[str, int]:
        return {part: process.pid for part, process in self.processes.items() if process.poll() is None}

    def kubeconfig_of(self, file: str, user: str = "", groups: Sequence[str] = ()) -> Path:
        """A kubeconfig with a client certificate of this user (the file's name if not given) in these groups."""
        path = self.home / f"{file}.kubeconfig"
        pki.write_kubeconfig(
            path, self.server, self.authority, pki.Identity(file, user or file, tuple(groups))
        )
        return path

    def start(self, part: str) -> None:
        """Start a part and wait until it is ready. Raises RuntimeError with the end of its log if it fails."""
        log = self.home / "log" / f"{part}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.processes[part] = subprocess.Popen(
                [str(self.binary), part, *self.flags[part]],
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def wait_until_ready(self, part: str, seconds: float = READY_SECONDS) -> None:
        url, context = self._health(part)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            process = self.processes[part]
            if process.poll() is not None:
                raise RuntimeError(f"{part} ended with {process.returncode}:\n{self._log_end(part)}")
            try:
                with urllib.request.urlopen(url, context=context, timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{part} is not ready after {seconds:.0f} s:\n{self._log_end(part)}")

    def _health(self, part: str) -> tuple[str, ssl.SSLContext | None]:
        if part == ETCD:
            return f"http://127.0.0.1:{self.ports[ETCD]}/health", None
        if part == APISERVER:
            return f"{self.server}/readyz", self._admin_context()
        # These sign their own certificates.
        path = "healthz" if part == CONTROLLERS else "readyz"
        return f"https://127.0.0.1:{self.ports[part]}/{path}", ssl._create_unverified_context()

    def _admin_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        context.load_cert_chain(self.home / "pki" / "admin.crt", self.home / "pki" / "admin.key")
        return context

    def _log_end(self, part: str) -> str:
        return (self.home / "log" / f"{part}.log").read_text(errors="replace")[-3_000:]

    def stop(self, part: str) -> None:
        """SIGTERM, and SIGKILL if that is not heard."""
        process = self.processes[part]
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
        self.kill(part)

    def kill(self, part: str) -> None:
        self.processes[part].kill()
        self.processes[part].wait()

    def restart(self, part: str) -> None:
        self.stop(part)
        self.start(part)
        self.wait_until_ready(part)

    def stop_all(self) -> None:
        for part in reversed(list(self.processes)):
            self.stop(part)


def _die_with_parent() -> None:
    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((address, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _make_keys(home: Path, authority: pki.Authority, address: str) -> None:
    folder = home / "pki"
    if (folder / "apiserver.key").exists():
        return
    service_address = ipaddress.ip_network(SERVICE_CIDR)[1]
    names: list[x509.GeneralName] = [
        *(x509.IPAddress(ipaddress.ip_address(one)) for one in {"127.0.0.1", address, str(service_address)}),
        *(x509.DNSName(name) for name in ("localhost", "kubernetes", "kubernetes.default")),
        x509.DNSName("kubernetes.default.svc"),
        x509.DNSName("kubernetes.default.svc.cluster.local"),
    ]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    pairs = {
        "apiserver": authority.issue(subject, ExtendedKeyUsageOID.SERVER_AUTH, names),
        "admin": authority.client_certificate(ADMIN),
        "kubelet-client": authority.client_certificate(KUBELET_CLIENT),
    }
    front_proxy = pki.Authority(folder / "front-proxy")
    pairs["front-proxy-client"] = front_proxy.client_certificate(
        pki.Identity("front-proxy-client", "front-proxy-client")
    )
    for name, (certificate, key) in pairs.items():
        pki.write_private(folder / f"{name}.crt", certificate)
        pki.write_private(folder / f"{name}.key", key)
    pki.service_account_key(folder)


AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata"}],
}


def _flags(plane: ControlPlane, fsync: bool, extra: dict[str, Sequence[str]]) -> dict[str, list[str]]:
    home, ports = plane.home, plane.ports
    folder = home / "pki"
    store = f"http://127.0.0.1:{ports[ETCD]}"
    peer = f"http://127.0.0.1:{ports['etcd-peer']}"
    flags = {
        ETCD: [
            "--name=local",
            f"--data-dir={home / 'etcd'}",
            f"--listen-client-urls={store}",
            f"--advertise-client-urls={store}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=local={peer}",
            "--log-level=warn",
            *(() if fsync else ("--unsafe-no-fsync",)),
        ],
        APISERVER: [
            f"--bind-address={plane.address}",
            f"--advertise-address={plane.address}",
            f"--secure-port={plane.port}",
            f"--etcd-servers={store}",
            # A loopback address may not stand in EndpointSlices: then nobody writes those of `kubernetes`.
            *(("--endpoint-reconciler-type=none",) if plane.address.startswith("127.") else ()),
            f"--tls-cert-file={folder / 'apiserver.crt'}",
            f"--tls-private-key-file={folder / 'apiserver.key'}",
            f"--client-ca-file={folder / 'ca.crt'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--enable-bootstrap-token-auth=true",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={folder / 'sa.pub'}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
            f"--kubelet-client-certificate={folder / 'kubelet-client.crt'}",
            f"--kubelet-client-key={folder / 'kubelet-client.key'}",
            f"--kubelet-certificate-authority={folder / 'ca.crt'}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--requestheader-client-ca-file={folder / 'front-proxy' / 'ca.crt'}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={folder / 'front-proxy-client.crt'}",
            f"--proxy-client-key-file={folder / 'front-proxy-client.key'}",
            "--enable-aggregator-routing=true",
            f"--audit-policy-file={home / 'audit-policy.json'}",
            f"--audit-log-path={plane.audit_log}",
        ],
        CONTROLLERS: [
            *_client_flags(plane, CONTROLLERS),
            "--use-service-account-credentials=true",
            f"--root-ca-file={folder / 'ca.crt'}",
            f"--service-account-private-key-file={folder / 'sa.key'}",
            f"--cluster-signing-cert-file={folder / 'ca.crt'}",
            f"--cluster-signing-key-file={folder / 'ca.key'}",
            f"--client-ca-file={folder / 'ca.crt'}",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            f"--cluster-cidr={POD_CIDR}",
            "--allocate-node-cidrs=true",
        ],
        SCHEDULER: _client_flags(plane, SCHEDULER),
    }
    for part, more in extra.items():
        flags[part] += more
    return flags


def _client_flags(plane: ControlPlane, part: str) -> list[str]:
    config = plane.kubeconfig_of(part, f"system:{part}")
    return [
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--bind-address=127.0.0.1",
        f"--secure-port={plane.ports[part]}",
        "--leader-elect=false",
    ]


@contextlib.contextmanager
def running_control_plane(
    home: Path | None = None,
    *,
    controllers: bool = True,
    scheduler: bool = True,
    address: str = "127.0.0.1",
    port: int = 0,
    fsync: bool = False,
    flags: dict[str, Sequence[str]] | None = None,
) -> Iterator[ControlPlane]:
    """A control plane that is ready; it ends with the block.

    home: kept if given, so that a second start finds the same data. address: where the API server listens; not
    on loopback if its EndpointSlices shall lead somewhere. fsync: whether etcd waits for the disk. flags: more
    flags of a part, such as `{"kube-controller-manager": ["--horizontal-pod-autoscaler-sync-period=1s"]}`.
    """
    temporary = None
    if home is None:
        temporary = Path(tempfile.mkdtemp(prefix="kubernetes-"))
        home = temporary
    home.mkdir(parents=True, exist_ok=True)
    authority = pki.Authority(home / "pki")
    _make_keys(home, authority, address)
    (home / "audit-policy.json").write_text(json.dumps(AUDIT_POLICY))
    numbers = free_ports(5, address)
    ports = dict(zip((ETCD, "etcd-peer", CONTROLLERS, SCHEDULER), numbers, strict=False))
    plane = ControlPlane(
        home, address, port or numbers[4], build() / "kubernetes-control-plane", ports, {}, authority
    )
    plane.flags = _flags(plane, fsync, flags or {})
    try:
        plane.start(ETCD)
        plane.start(APISERVER)
        plane.wait_until_ready(APISERVER)
        parts = [part for part, wanted in ((CONTROLLERS, controllers), (SCHEDULER, scheduler)) if wanted]
        for part in parts:
            plane.start(part)
        for part in parts:
            plane.wait_until_ready(part)
        yield plane
    finally:
        plane.stop_all()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep a real control plane until Ctrl-C.")
    parser.add_argument("--home", type=Path, required=True, help="folder of certificates, data and logs")
    parser.add_argument("--port", type=int, default=16443)
    parser.add_argument("--address", default="127.0.0.1")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        contextlib.suppress(KeyboardInterrupt),
        running_control_plane(
            arguments.home.resolve(), port=arguments.port, address=arguments.address
        ) as plane,
    ):
        print(f"export KUBECONFIG={plane.kubeconfig}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
