"""Start a cluster on this machine, with a gateway and a real model behind it.

  kaji up                                       two nodes with 8 simulated H200 each, model smollm2-135m
  kaji up --nodes 4 --gpus 8 --gpu h200 --racks 2
  kaji up --no-model --detach                   an empty cluster; the command returns when it is ready
  kaji up --home /tmp/b --port 7443 --gateway-port 9080      a second cluster beside the first

Without --detach the cluster lives until Ctrl-C or `kaji down`. Its objects stay for the next `kaji up`.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kajitori.base.errors import KajitoriError, UsageError
from kajitori.cli.local import ask_supervisor, check_port
from kajitori.cli.output import paint

if TYPE_CHECKING:
    from kajitori.cli.manifests import Manifest

FIRST_MODEL = "smollm2-135m"
# After as many restarts in vain, of the first model or of the API server, `kaji up` stops waiting.
_CRASHES = 2
_SETTINGS = ("port", "gateway_port", "nodes", "gpus", "gpu", "racks", "zones", "node_cpus", "node_memory")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", type=Path, help="the cluster's folder (default: $KAJI_HOME or ~/.kaji)")
    parser.add_argument("--port", type=int, help="of the API server (6443)")
    parser.add_argument("--gateway-port", type=int, help="of the gateway (8080)")
    parser.add_argument("--nodes", type=int, help="how many (2)")
    parser.add_argument("--gpus", type=int, help="simulated GPUs on each node (8)")
    parser.add_argument("--gpu", help="their product: a100, h100, h200, b200, ... (h200)")
    parser.add_argument("--racks", type=int, help="racks that the nodes are spread over (1)")
    parser.add_argument("--zones", type=int, help="zones that the racks are spread over (1)")
    parser.add_argument("--node-cpus", help="CPU capacity that each node reports (the machine's)")
    parser.add_argument("--node-memory", help="memory capacity that each node reports (the machine's)")
    parser.add_argument("--no-model", action="store_true", help="an empty cluster")
    parser.add_argument(
        "--apply", action="append", default=[], metavar="FILE", help="then apply these manifests"
    )
    parser.add_argument("--ask", metavar="QUESTION", help="then ask the model this")
    parser.add_argument("-d", "--detach", action="store_true", help="return when all is ready")


def run(options: argparse.Namespace) -> int:
    from kajitori.cli.connection import local_home
    from kajitori.cli.manifests import read_manifests

    started = time.perf_counter()
    home = local_home(options).absolute()
    wanted = {name: getattr(options, name) for name in _SETTINGS if getattr(options, name) is not None}
    _check(wanted)
    manifests = read_manifests(options.apply) if options.apply else []
    running = ask_supervisor(home, "status")
    supervisor = None
    if running is not None:
        _refuse_other_settings(home, wanted, running)
        print(f"  the cluster in {home} is running already (pid {running['pid']})")
    else:
        supervisor = _start(home, wanted, detach=options.detach)
    try:
        _bring_up(home, options, manifests, supervisor, started)
    except BaseException as error:
        if supervisor is not None:
            if isinstance(error, KeyboardInterrupt):
                print("\n  stopping ...", flush=True)
            supervisor.terminate()
            supervisor.wait()
        raise
    if supervisor is None or options.detach:
        return 0
    return _stay(home, supervisor, "" if options.home is None else f" --home {home}")


def _check(wanted: dict[str, Any]) -> None:
    from kajitori.laptop.settings import MAXIMUM_NODES

    for name, lowest, highest in (
        ("nodes", 1, MAXIMUM_NODES),
        ("gpus", 0, 64),
        ("racks", 1, MAXIMUM_NODES),
        ("zones", 1, MAXIMUM_NODES),
        ("port", 1, 65535),
        ("gateway_port", 1, 65535),
    ):
        value = wanted.get(name)
        if value is not None and not lowest <= value <= highest:
            raise UsageError(f"--{name.replace('_', '-')} {value} is not between {lowest} and {highest}")
    if "gpu" in wanted:
        _check_gpu(str(wanted["gpu"]))
    for name in ("node_cpus", "node_memory"):
        if name in wanted:
            _check_quantity(f"--{name.replace('_', '-')}", str(wanted[name]))


def _check_gpu(name: str) -> None:
    from kajitori.model.hardware import find_gpu

    find_gpu(name)


def _check_quantity(option: str, text: str) -> None:
    from kajitori.base.quantity import parse_quantity

    try:
        positive = parse_quantity(text) > 0
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
    if not positive:
        raise UsageError(f"{option} {text} is not above 0")


def _refuse_other_settings(home: Path, wanted: dict[str, Any], running: dict[str, Any]) -> None:
    from kajitori.laptop.settings import read_settings

    settings = read_settings(home)
    changed = [name for name, value in wanted.items() if getattr(settings, name) != value]
    if changed:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UsageError(
            f"a cluster runs in {home} (pid {running['pid']}) with other settings than {flags}",
            hint="`kaji down` first, or another --home and --port",
        )


def _start(home: Path, wanted: dict[str, Any], *, detach: bool) -> subprocess.Popen[bytes]:
    from kajitori.app.start import check_home, prepare_home, settle_settings, start_supervisor

    defaults: dict[str, Any] = {} if (home / "cluster.json").exists() else {"gpus": 8}
    check_home(home)
    settings, slot = settle_settings(home, defaults | wanted)
    with slot:
        if settings.gateway_only:
            raise UsageError(
                f"{home} is the home of a gateway without a cluster",
                hint=f"`kaji gateway run --home {home}` starts it; choose another --home for a cluster",
            )
        if settings.port == settings.gateway_port:
            raise UsageError(f"--port and --gateway-port are both {settings.port}")
        check_port(settings.port, "API server", "--port")
        check_port(settings.gateway_port, "gateway", "--gateway-port")
        try:
            prepare_home(home, settings)
        except OSError as error:
            raise UsageError(
                f"{home} cannot be made: {error.strerror}", hint="choose another folder with --home"
            ) from None
        return start_supervisor(home, slot, die_with=0 if detach else os.getpid())


def _tick(name: str, text: str) -> None:
    print(f"  {paint('✓', '32')} {name:<9} {text}", flush=True)


def _bring_up(
    home: Path,
    options: argparse.Namespace,
    manifests: list[Manifest],
    supervisor: subprocess.Popen[bytes] | None,
    started: float,
) -> None:
    from kajitori.app import start
    from kajitori.laptop.settings import read_settings

    settings = read_settings(home)

    def wait(condition: Any, what: str, seconds: float = 60.0) -> Any:
        return start.wait_for(condition, what, seconds=seconds, home=home, supervisor=supervisor)

    def connect() -> Any:
        _refuse_crashes(home, "apiserver")
        return start.connect(home)

    client = wait(connect, "the API server did not answer")
    start.install_objects(client, settings)
    try:
        wait(lambda: len(start.ready_nodes(client)) >= settings.nodes, "the nodes did not become ready")
    except KajitoriError as error:
        error.message += f" (only {', '.join(start.ready_nodes(client)) or 'none'} of {settings.nodes})"
        if supervisor is None:
            error.hint += "; where a Node was deleted, `kaji down` and `kaji up` make it again"
        raise
    gpus = f" (simulated: {settings.gpus} × {settings.gpu.upper()} each)" if settings.gpus else ""
    nodes = f"{settings.nodes} node{'s' if settings.nodes > 1 else ''}"
    shown_home = str(home).replace(str(Path.home()), "~", 1)
    _tick("cluster", f"{settings.server}  {nodes}{gpus}     kubeconfig: {shown_home}/kubeconfig")
    url = f"http://127.0.0.1:{settings.gateway_port}/v1"

    def listens() -> bool:
        _refuse_crashes(home, "gateway", "envoy")
        return _listens(settings.gateway_port)

    wait(listens, "the gateway did not answer")
    _tick("gateway", url)
    _bring_objects(home, options, manifests, wait)
    if options.ask:
        _ask(url, options.ask)
    print(paint(f"  ready in {time.perf_counter() - started:.1f} s", "2"), flush=True)


def _refuse_crashes(home: Path, *names: str) -> None:
    """Raises KajitoriError with its last words once one of these ended again and again: waiting longer helps nobody."""
    from kajitori.cli.local import last_line

    status = ask_supervisor(home, "status") or {"processes": []}
    for process in status["processes"]:
        name = process["name"]
        if name in names and process["restarts"] >= _CRASHES and process["pid"] is None:
            repair = "; `kaji doctor --repair` mends a damaged state" if name == "apiserver" else ""
            raise KajitoriError(
                f"{name} ends again and again: {last_line(process)}",
                hint=f"its log is {process['log']}{repair}",
            )


def _listens(port: int) -> bool:
    """Whether Envoy does; it begins when the listener has its routes. A request would stand in the ledger as one of a user's."""
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def _bring_objects(home: Path, options: argparse.Namespace, wanted: list[Manifest], wait: Any) -> None:
    """Apply the first model and what was asked for, and wait until the model serves."""
    from kajitori.app.start import example_folder
    from kajitori.cli.apply import apply_manifests
    from kajitori.cli.connection import open_cluster
    from kajitori.cli.manifests import read_manifests

    cluster = open_cluster(argparse.Namespace(home=home))
    if not options.no_model:
        began, since = time.perf_counter(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        # The Gateway is there already, on the port that was asked for.
        example = read_manifests([str(example_folder("first-token"))])
        manifests = [each for each in example if each.object["kind"] != "Gateway"]
        if apply_manifests(cluster, manifests, force=True, quiet=True):
            raise KajitoriError("the first model could not be deployed")
        pod = wait(lambda: _ready_pod(cluster, since), "the model did not become ready", 180.0)
        wait(lambda: _is_routed(home, pod), "the gateway did not find the model")
        how = "simulated" if _is_simulated(pod) else "real"
        _tick(
            "model", f"{FIRST_MODEL}   llama.cpp, CPU, {how}     ready in {time.perf_counter() - began:.1f} s"
        )
    if wanted and apply_manifests(cluster, wanted):
        raise KajitoriError("some of the manifests were refused")


def _ready_pod(cluster: Any, since: str) -> dict[str, Any] | None:
    from kajitori.api.resource import PODS

    for pod in cluster.objects(PODS, "default", labelSelector=f"app={FIRST_MODEL}"):
        if _condition(pod, "Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
            return pod
        _fail_early(cluster, pod, since)
    return None


def _is_routed(home: Path, pod: dict[str, Any]) -> bool:
    """Whether Envoy knows the pod: it hears of it a moment after the pod is ready."""
    from kajitori.app.standalone.liveness import answer_of

    clusters = answer_of(home / "run" / "envoy-admin.sock", "/clusters")
    place = f"::{pod['status'].get('podIP')}:"
    return any(line.startswith("ai/") and place in line for line in clusters.splitlines())


def _fail_early(cluster: Any, pod: dict[str, Any], since: str) -> None:
    """Raise for a reason to wait that waiting does not cure; crashes count that came after the time `since`."""
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in ("ImageNotMapped", "CreateContainerConfigError", "InvalidImageName"):
            raise KajitoriError(
                waiting.get("message") or waiting["reason"], where=f"Pod {pod['metadata']['name']}"
            )
        ended = (container.get("lastState") or {}).get("terminated") or {}
        crashes = container.get("restartCount", 0) >= _CRASHES and waiting.get("reason") == "CrashLoopBackOff"
        if crashes and ended.get("finishedAt", "") >= since:
            said = _last_line(cluster, pod["metadata"]["name"], container["name"])
            raise KajitoriError(
                f"the model's server keeps ending with code {ended['exitCode']}: {said}",
                where=f"Pod {pod['metadata']['name']}",
            )


def _last_line(cluster: Any, pod: str, container: str) -> str:
    """The last that a container's previous run printed."""
    from kajitori.api.resource import PODS

    query = {"container": container, "previous": "true", "tailLines": "1"}
    try:
        lines = list(cluster.client.lines(PODS.path("default", pod, "log"), query=query))
    except KajitoriError:
        return "its log cannot be read"
    return lines[-1].decode(errors="replace").strip() if lines else "it printed nothing"


def _condition(pod: dict[str, Any], kind: str) -> str:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((each["status"] for each in conditions if each["type"] == kind), "")


def _is_simulated(pod: dict[str, Any]) -> bool:
    return _condition(pod, "kajitori.dev/Simulated") == "True"


def _ask(url: str, question: str) -> None:
    from kajitori.cli.conversation import ask

    print(f"  > {question}\n  ", end="", flush=True)

    def show(text: str) -> None:
        sys.stdout.write(text.replace("\n", "\n  "))
        sys.stdout.flush()

    answer = ask(url, FIRST_MODEL, [{"role": "user", "content": question}], show, maximum_tokens=80)
    print(f"\n  {paint(answer.summary(), '2')}", flush=True)


def _stay(home: Path, supervisor: subprocess.Popen[bytes], named: str) -> int:
    """Wait for the end of the tree; Ctrl-C asks for it. named: the option that the other commands need."""
    commands = f"kaji status{named}, kaji chat{named}, kubectl, kaji down{named}"
    print(paint(f"  Ctrl-C stops it; in another terminal: {commands}", "2"), flush=True)
    stopping = False
    signal.signal(signal.SIGTERM, lambda *_: supervisor.terminate())
    while True:
        try:
            code = supervisor.wait()
            break
        except KeyboardInterrupt:
            if not stopping:
                print("\n  stopping ...", flush=True)
            stopping = True
            supervisor.terminate()
    if code not in (0, -signal.SIGTERM) and not stopping:
        raise KajitoriError(
            f"the cluster's supervisor ended with {code}", hint=f"the logs are in {home / 'log'}"
        )
    return 0
