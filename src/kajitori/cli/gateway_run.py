"""`kaji gateway run`: start a gateway-only home, bring in the objects, follow the file."""

from __future__ import annotations

import argparse
import ipaddress
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kajitori.api.resource import GATEWAYS, Resource
from kajitori.app.standalone import environment, serving
from kajitori.app.standalone.assumed import strangers
from kajitori.app.standalone.liveness import has_taken_effect
from kajitori.base.errors import KajitoriError, NotFound, UsageError
from kajitori.cli.apply import apply_manifests
from kajitori.cli.connection import Cluster
from kajitori.cli.gateway import DEFAULT_HOME, assume, read_configuration, without_effect
from kajitori.cli.local import ask_supervisor, check_port
from kajitori.cli.manifests import Manifest, manifest_of
from kajitori.cli.output import paint, warn
from kajitori.kube.direct import DirectClient
from kajitori.laptop.settings import read_settings

_FOLLOW_SECONDS = 0.5
_SETTLE_LOOKS, _LOOK_SECONDS = 100, 0.05
Object = dict[str, Any]


def run_gateway(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C. Raises UsageError for a configuration that cannot be read, or a port that is taken."""
    home: Path = (
        (options.home or Path(os.environ.get("KAJI_GATEWAY_HOME") or DEFAULT_HOME)).expanduser().absolute()
    )
    manifests = _configuration(options)
    running = ask_supervisor(home, "status")
    if running is not None:
        raise UsageError(
            f"a gateway runs in {home} already (pid {running['pid']})",
            hint="stop it, or choose another --home",
        )
    _check_address(options)
    _check_ports(manifests, options)
    supervisor = _start(home, options)
    try:
        client = _connect(home, supervisor)
        serving.install_definitions(client)
        session = _Session(home, client, options.address)
        session.bring(manifests)
        session.wait_for_envoy(supervisor)
        session.tell()
        return _stay(session, options, supervisor)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            print("\n  stopping ...", flush=True)
        supervisor.terminate()
        supervisor.wait()
        if isinstance(error, KeyboardInterrupt):
            return 130
        raise


def _configuration(options: argparse.Namespace) -> list[Manifest]:
    if options.file:
        manifests = read_configuration(options.file)
        besides, told = assume(manifests, options.port)
        for sentence in told:
            print(f"  {paint('·', '2')} {sentence}", flush=True)
        return [*manifests, *besides]
    documents = environment.documents(os.environ, options.port)
    return [manifest_of("the environment", document) for document in documents]


def _check_address(options: argparse.Namespace) -> None:
    """Raises UsageError for what Envoy could not listen on."""
    try:
        family = {4: socket.AF_INET, 6: socket.AF_INET6}[ipaddress.ip_address(options.address).version]
    except ValueError:
        raise UsageError(
            f"--address {options.address}: no IP address",
            hint="such as 127.0.0.1, or 0.0.0.0 for all of this machine",
        ) from None
    try:
        with socket.socket(family) as probe:
            probe.bind((options.address, 0))
    except OSError:
        raise UsageError(f"--address {options.address}: this machine does not have it") from None
    for option, lowest, port in (("--port", 1, options.port), ("--admin-port", 0, options.admin_port)):
        if not lowest <= port <= 65535:
            raise UsageError(f"{option} {port} is not between {lowest} and 65535")


def _check_ports(manifests: list[Manifest], options: argparse.Namespace) -> None:
    administration_port: int = options.admin_port
    for manifest in manifests:
        if manifest.object["kind"] != "Gateway":
            continue
        listeners: list[Object] = (manifest.object.get("spec") or {}).get("listeners") or []
        for index, listener in enumerate(listeners):
            port = listener.get("port")
            if isinstance(port, int) and 0 < port <= 65535:
                place = manifest.place(f"spec.listeners[{index}].port")
                check_port(
                    port,
                    *((place, "") if options.file else ("the gateway's", "--port")),
                    address=options.address,
                )
    if administration_port:
        check_port(administration_port, "administration", "--admin-port")


def _start(home: Path, options: argparse.Namespace) -> subprocess.Popen[bytes]:
    from kajitori.app.start import check_home, prepare_home, settle_settings, start_supervisor

    check_home(home)
    if (home / "cluster.json").exists() and not read_settings(home).gateway_only:
        raise UsageError(
            f"{home} is the home of a cluster",
            hint="`kaji up` starts that; choose another --home for a gateway",
        )
    wanted: dict[str, Any] = {
        "port": _store_port(home),
        "gateway_only": True,
        "gateway_address": options.address,
        "administration_port": options.admin_port,
    }
    settings, slot = settle_settings(home, wanted)
    with slot:
        prepare_home(home, settings)
        return start_supervisor(home, slot, die_with=os.getpid())


def _store_port(home: Path) -> int:
    """Of the home's own API server: the one it had, or a free one if somebody else has that now."""
    if (home / "cluster.json").exists():
        port = read_settings(home).port
        try:
            check_port(port, "API server", "")
            return port
        except UsageError:
            # Those who look for the server by these files must wait for new ones.
            for file in (home / "kubeconfig", *(home / "pki" / "clients").glob("*.kubeconfig")):
                file.unlink(missing_ok=True)
    return serving.free_port()


def _connect(home: Path, supervisor: subprocess.Popen[bytes]) -> DirectClient:
    from kajitori.app import start

    def connect() -> Any:
        return start.connect(home)

    return start.wait_for(
        connect, "the gateway's objects could not be stored", seconds=60.0, home=home, supervisor=supervisor
    )


class _Session:
    """What is served now, and how it came there."""

    def __init__(self, home: Path, client: DirectClient, address: str) -> None:
        self.home = home
        self._client = client
        self._address = address
        self._cluster = Cluster(client, "default")
        self._applied: list[tuple[Resource, str, str]] = []

    def bring(self, manifests: list[Manifest]) -> None:
        """Apply the objects and take away former ones. What is refused is named with its place, and the rest is served;
        of an object that was there before its former version. Raises KajitoriError if there is no Gateway then.
        """
        kept, told = without_effect(manifests)
        for item in kept:
            for name in strangers(item.object, [each.object for each in kept]):
                told.append(f"{item.place('spec.parentRefs')}: {item.title}: there is no Gateway {name}")
        for sentence in told:
            warn(sentence)
        namespaces = [str((item.object.get("metadata") or {}).get("namespace") or "default") for item in kept]
        serving.make_namespaces(self._client, namespaces)
        refused = apply_manifests(self._cluster, kept, force=True, quiet=True)
        if refused and not self._cluster.objects(GATEWAYS, None):
            raise KajitoriError("the configuration was refused", hint="what is wrong stands above")
        applied: list[tuple[Resource, str, str]] = []
        for manifest, namespace in zip(kept, namespaces, strict=True):
            try:
                resource = self._cluster.find_kind(manifest.object["apiVersion"], manifest.object["kind"])
            except KajitoriError:
                continue  # it is among those that were named
            if name := (manifest.object.get("metadata") or {}).get("name"):
                applied.append((resource, namespace, str(name)))
        for title in serving.remove_former(self._client, self.home, applied):
            print(f"  removed   {title}")
        self._applied = applied

    def objects(self) -> list[Object]:
        """Those that a controller speaks of, as they are now."""
        found: list[Object] = []
        for resource, namespace, name in self._applied:
            if resource.group in serving.GROUPS and resource.kind != "ReferenceGrant":
                try:
                    found.append(self._client.get(resource.path(namespace, name)))
                except NotFound:
                    continue
        return found

    def wait_for_envoy(self, supervisor: subprocess.Popen[bytes]) -> None:
        from kajitori.app import start

        def programmed() -> bool:
            gateways = [item for item in self.objects() if item["kind"] == "Gateway"]
            settled = bool(gateways) and all(serving.settled(item) for item in gateways)
            return settled and self.connected() and has_taken_effect(self.home)

        start.wait_for(
            programmed, "the gateway did not come up", seconds=60.0, home=self.home, supervisor=supervisor
        )

    def connected(self) -> bool:
        """Whether any listener serves; who configures none gets told so rather than waits."""
        gateways = self._cluster.objects(GATEWAYS, None)
        texts = [item.get("message", "") for gateway in gateways for item in serving.conditions(gateway)]
        return not any("no Envoy is connected" in text for text in texts)

    def tell(self) -> None:
        """Where it serves, and what is wrong."""
        objects = serving.when_settled(self.objects, _SETTLE_LOOKS, lambda: time.sleep(_LOOK_SECONDS))
        for item in objects:
            metadata = item["metadata"]
            title = f"{item['kind']} {metadata['namespace'] + '/' if 'namespace' in metadata else ''}{metadata['name']}"
            for problem in serving.problems(item):
                warn(problem if problem.startswith(title) else f"{title}: {problem}")
        urls = serving.listening([item for item in objects if item["kind"] == "Gateway"], self._address)
        for url in urls:
            print(f"  {paint('✓', '32')} {url}/v1", flush=True)
        if not urls:
            warn("no listener serves")


def _stay(session: _Session, options: argparse.Namespace, supervisor: subprocess.Popen[bytes]) -> int:
    print(paint(f"  Ctrl-C stops it; logs and ledger are in {session.home}", "2"), flush=True)
    signal.signal(signal.SIGTERM, lambda *_: supervisor.terminate())
    changed = _changes(options.file)
    while supervisor.poll() is None:
        time.sleep(_FOLLOW_SECONDS)
        if changed():
            _bring_again(session, options)
    if supervisor.returncode not in (0, -signal.SIGTERM):
        raise KajitoriError(
            f"the gateway's supervisor ended with {supervisor.returncode}",
            hint=f"logs: {session.home / 'log'}",
        )
    return 0


def _changes(file: str | None) -> Callable[[], bool]:
    """Whether the file was written since the last look; standard input and the environment never are."""
    if file is None or file == "-":
        return lambda: False
    path = Path(file)

    def stamp() -> tuple[tuple[str, int, int], ...]:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        found: list[tuple[str, int, int]] = []
        for item in files:
            try:
                state = item.stat()
            except OSError:
                continue  # an editor is replacing it
            found.append((item.name, state.st_mtime_ns, state.st_size))
        return tuple(found)

    last = stamp()

    def changed() -> bool:
        nonlocal last
        now = stamp()
        last, before = now or last, last
        return bool(now) and now != before

    return changed


def _bring_again(session: _Session, options: argparse.Namespace) -> None:
    """A changed file; one that is wrong changes nothing that it cannot."""
    print(f"  {options.file} changed", flush=True)
    try:
        session.bring(_configuration(options))
        session.tell()
    except KajitoriError as error:
        warn(f"{error}; what was served before is served on")
