"""Start a laptop cluster: settle its settings, start the supervisor, bring in what every cluster of ours has.

Flows in: what the user asked for. Flows out: a running tree, with our CustomResourceDefinitions, the GatewayClass
and the default Gateway in place. Waiting is by looking at the state of the world; who calls prints the progress.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from kajitori.api import resource as kinds
from kajitori.app.rights import write_component_rules
from kajitori.app.supervisor import child_environment, claim_free_slot
from kajitori.base.errors import ApiError, KajitoriError, NotFound, Unreachable, UsageError
from kajitori.gateway.accounting.header_attributes import read_header_attributes
from kajitori.gateway.telemetry.settings import read_settings as read_telemetry_settings
from kajitori.kube.config import load_config
from kajitori.kube.direct import DirectClient
from kajitori.laptop.settings import SLOTS, ClusterSettings, read_settings, write_settings

FIELD_MANAGER = "kaji-up"
# The kernel's limit for the address of a Unix socket, less the closing zero.
SOCKET_PATH_BYTES = 107
GATEWAY_NAME = "kaji"
GATEWAY_CLASS = "kajitori"
CONTROLLER_NAME = "kajitori.dev/gateway-controller"


def settle_settings(home: Path, wanted: dict[str, Any]) -> tuple[ClusterSettings, socket.socket]:
    """The settings to run with, and the socket that holds their slot; it goes to the supervisor.

    Those of an existing cluster with the wanted ones laid over, or new ones. A cluster keeps its slot of addresses
    unless another one has it now: then it moves to a free one, and the API server renumbers what it holds. New clusters
    start looking at a place that depends on their home, so that few of them ever meet.
    Raises UsageError if no slot is free.
    """
    if (home / "cluster.json").exists():
        settings = msgspec.structs.replace(read_settings(home), **wanted)
        first = settings.slot
    else:
        settings = ClusterSettings(**wanted)
        first = zlib.crc32(str(home).encode()) % SLOTS
    slot, held = claim_free_slot(first)
    return msgspec.structs.replace(settings, slot=slot), held


def check_home(home: Path) -> None:
    """Raise UsageError for a folder in which Unix sockets cannot be."""
    excess = len(os.fsencode(home / "run" / "envoy-admin.sock")) - SOCKET_PATH_BYTES
    if excess > 0:
        raise UsageError(
            f"{home} is {excess} bytes too long for the sockets in it",
            hint="choose a shorter one with --home",
        )


def prepare_home(home: Path, settings: ClusterSettings) -> None:
    """Make the cluster's folders, readable by their owner only, and write its settings."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.chmod(0o700)
    for name in ("run", "log", "data", "pki", "nodes", "cache"):
        (home / name).mkdir(mode=0o700, exist_ok=True)
    write_component_rules(home)
    write_settings(home, settings)


def start_supervisor(home: Path, slot: socket.socket | None, *, die_with: int = 0) -> subprocess.Popen[bytes]:
    """Start the tree in a session of its own. slot: None for a joined node, which has none.

    die_with: a process whose end shall end it, 0 for none. Raises UsageError for a variable of telemetry that makes no sense:
    the accountant would not start with it.
    """
    read_telemetry_settings(os.environ)
    read_header_attributes(os.environ)
    command = [sys.executable, "-m", "kajitori.app.supervise", "--home", str(home)]
    if slot is not None:
        command += ["--slot-socket", str(slot.fileno())]
    if die_with:
        command += ["--die-with", str(die_with)]
    with (home / "log" / "supervisor.log").open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=child_environment(),
            cwd="/",
            start_new_session=True,
            pass_fds=() if slot is None else (slot.fileno(),),
        )


def wait_for(
    condition: Callable[[], Any],
    what: str,
    *,
    seconds: float,
    home: Path,
    supervisor: subprocess.Popen[bytes] | None = None,
) -> Any:
    """Look until the condition gives something true, and return it.

    Raises KajitoriError, with the folder of the logs, when the time is over or the supervisor ended.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = condition()
        except (Unreachable, NotFound):
            found = None
        except ApiError as error:
            if error.code not in (401, 403, 404, 409, 503):
                raise
            found = None
        if found:
            return found
        if supervisor is not None and supervisor.poll() is not None:
            raise KajitoriError(
                f"the cluster's supervisor ended with {supervisor.returncode}", hint=_log_hint(home)
            )
        if time.monotonic() > deadline:
            raise KajitoriError(f"{what} within {seconds:.0f} s", hint=_log_hint(home))
        time.sleep(0.03)


def _log_hint(home: Path) -> str:
    return f"the logs are in {home / 'log'}; `kaji doctor` reads them for you"


def connect(home: Path) -> DirectClient | None:
    """A client with the admin's kubeconfig once the API server answers, else None."""
    if not (home / "kubeconfig").exists():
        return None
    client = DirectClient(load_config(str(home / "kubeconfig")))
    return client if client.text("/readyz") == "ok" else None


_POLICY_PLURALS = {
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}


def install_objects(client: DirectClient, settings: ClusterSettings) -> None:
    """Apply our CustomResourceDefinitions and what they cannot say, then, once served, the GatewayClass and the Gateway."""
    from kajitori.api.crds import all_crds
    from kajitori.api.leaderworkerset.policies import policies

    definitions = all_crds()
    for definition in definitions:
        name = definition["metadata"]["name"]
        _apply(client, kinds.CUSTOM_RESOURCE_DEFINITIONS.path(None, name), definition)
    for policy in policies():
        resource = kinds.Resource(
            "admissionregistration.k8s.io", "v1", _POLICY_PLURALS[policy["kind"]], policy["kind"], False
        )
        _apply(client, resource.path(None, policy["metadata"]["name"]), policy)
    _apply(
        client,
        kinds.GATEWAY_CLASSES.path(None, GATEWAY_CLASS),
        {
            "apiVersion": kinds.GATEWAY_CLASSES.api_version,
            "kind": "GatewayClass",
            "metadata": {"name": GATEWAY_CLASS},
            "spec": {"controllerName": CONTROLLER_NAME},
        },
    )
    _apply(client, kinds.GATEWAYS.path("default", GATEWAY_NAME), default_gateway(settings.gateway_port))


def default_gateway(port: int) -> dict[str, Any]:
    """The Gateway that `kaji up` makes: routes of all namespaces may use it."""
    return {
        "apiVersion": kinds.GATEWAYS.api_version,
        "kind": "Gateway",
        "metadata": {"name": GATEWAY_NAME, "namespace": "default"},
        "spec": {
            "gatewayClassName": GATEWAY_CLASS,
            "listeners": [
                {
                    "name": "http",
                    "protocol": "HTTP",
                    "port": port,
                    "allowedRoutes": {"namespaces": {"from": "All"}},
                }
            ],
        },
    }


def _apply(client: DirectClient, path: str, obj: dict[str, Any]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            client.apply(path, obj, {"fieldManager": FIELD_MANAGER, "force": "true"})
            return
        except NotFound:  # a definition that was just made is served a moment later
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def ready_nodes(client: DirectClient) -> list[str]:
    """Names of the nodes whose Ready condition is True."""
    nodes = client.get(kinds.NODES.path())["items"]
    return [
        node["metadata"]["name"]
        for node in nodes
        if any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in node["status"].get("conditions") or ()
        )
    ]


def example_folder(name: str) -> Path:
    """An example's folder: beside the sources of a checkout, or inside the installed package."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "examples" / name, package.parent.parent / "examples" / name):
        if folder.is_dir():
            return folder
    raise UsageError(f"there is no example {name!r}")
