"""Make this machine a node of any cluster: its pods run here as processes.

  kaji node join --kubeconfig FILE                       with addresses that the cluster gives
  kaji node join --kubeconfig FILE --name gpu-1 --pod-cidr 10.244.7.0/24 --gpus 8 --gpu h200
  kaji node list                                         nodes that this machine joined to clusters
  kaji node status gpu-1
  kaji node leave gpu-1                                  drain it, end its processes, remove it from its cluster

Addresses of pods must be this machine's own: `ip route add local 10.244.7.0/24 dev lo`, best in a network namespace.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kajitori.base.errors import KajitoriError, UsageError
from kajitori.cli.local import ask_supervisor
from kajitori.cli.output import paint

if TYPE_CHECKING:
    from kajitori.app.node.join import Wanted
    from kajitori.laptop.settings import NodeSettings

_READY_SECONDS = 120.0
_DRAIN_SECONDS = 60.0
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_OWN_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    }
)
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    join = verbs.add_parser("join", help="become a node of a cluster", allow_abbrev=False)
    _cluster_of(join)
    join.add_argument("--name", help="of the node (this machine's host name)")
    join.add_argument("--address", help="of the node, where the API server reaches it (found out)")
    join.add_argument("--port", type=int, help="of its kubelet API (the first free one from 10250)")
    join.add_argument("--pod-cidr", help="addresses of its pods (what the cluster gives the node)")
    join.add_argument("--service-cidr", help="addresses of the cluster's Services (found out)")
    join.add_argument("--gpus", type=int, help="simulated GPUs (0)")
    join.add_argument("--gpu", help="their product: a100, h100, h200, b200, ... (h200)")
    join.add_argument("--zone", help="where it is: topology.kubernetes.io/zone")
    join.add_argument("--rack", help="where it is: kajitori.dev/rack")
    join.add_argument("--cpus", help="CPU capacity to report (the machine's)")
    join.add_argument("--memory", help="memory capacity to report (the machine's)")
    join.add_argument("--labels", action="append", default=[], metavar="KEY=VALUE", help="further labels")
    join.add_argument("--taints", action="append", default=[], metavar="KEY[=VALUE]:EFFECT")
    join.add_argument(
        "--home", type=Path, help="the node's folder (default: ~/.kaji-nodes/NAME, or $KAJI_HOME-nodes/NAME)"
    )
    join.add_argument("--foreground", action="store_true", help="stay until Ctrl-C, which stops the node")
    leave = verbs.add_parser("leave", help="leave its cluster", allow_abbrev=False)
    _cluster_of(leave)
    _node_of(leave)
    leave.add_argument("--purge", action="store_true", help="remove data of volumes as well")
    leave.add_argument(
        "--drain-seconds",
        type=float,
        default=_DRAIN_SECONDS,
        help="for evictions, then pods are deleted (60)",
    )
    leave.add_argument(
        "--force", action="store_true", help="only end its processes, if the cluster does not answer"
    )
    status = verbs.add_parser("status", help="its processes and conditions", allow_abbrev=False)
    _node_of(status)
    verbs.add_parser("list", help="nodes that this machine joined to clusters", allow_abbrev=False)


def _cluster_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kubeconfig", help="the cluster, and who you are there")
    parser.add_argument("--context", help="context of the kubeconfig")


def _node_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="the node (if this machine has but one, that)")
    parser.add_argument("--home", type=Path, help="the node's folder")


def run(options: argparse.Namespace) -> int:
    verbs = {"join": _join, "leave": _leave, "status": _status, "list": _list}
    return verbs[options.verb](options)


def _say(word: str, text: str) -> None:
    print(f"  {paint('✓', '32') if word != 'waiting' else paint('…', '33')} {word:<9} {text}", flush=True)


# Joining


def _join(options: argparse.Namespace) -> int:
    from kajitori.app.node import join
    from kajitori.app.start import check_home
    from kajitori.laptop.settings import (
        is_joined_home,
        joined_nodes_folder,
        read_node_settings,
        write_node_settings,
    )

    name = _name(options)
    home = (options.home or joined_nodes_folder() / name).absolute()
    check_home(home)
    known = read_node_settings(home) if is_joined_home(home) else None
    if known is not None and known.name != name:
        raise UsageError(f"{home} is the home of node {known.name}", hint="choose another --home")
    wanted = _wanted(options, name, home, known)
    running = ask_supervisor(home, "status")
    if running is not None and known is not None:
        _refuse_changes(wanted, known, running)
        asyncio.run(join.check_node_exists(home, name))
        print(f"  node {name} runs already (pid {running['pid']})")
        settings, supervisor = known, None
    else:
        join.make_home(home)
        settings = asyncio.run(join.prepare(home, wanted, _ports_of_others(home), _say))
        write_node_settings(home, settings)
        supervisor = _start(home, foreground=options.foreground)
    try:
        asyncio.run(
            join.wait_until_ready(
                home, wanted, settings, lambda: _is_alive(home, supervisor), _READY_SECONDS, _say
            )
        )
    except BaseException:
        if supervisor is not None and options.foreground:
            supervisor.terminate()
            supervisor.wait()
        raise
    gpus = f", {settings.gpus} × {settings.gpu.upper()} (simulated)" if settings.gpus else ""
    _say("ready", f"{name} at {settings.address}:{settings.port}, pods {settings.pod_cidr}{gpus}")
    if supervisor is None or not options.foreground:
        return 0
    return _stay(supervisor)


def _name(options: argparse.Namespace) -> str:
    name = options.name or socket.gethostname().lower().split(".")[0]
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a node's name", hint="lower case letters, digits, dashes: --name"
        )
    return name


def _wanted(options: argparse.Namespace, name: str, home: Path, known: NodeSettings | None) -> Wanted:
    """What is asked for now, over what was asked for when the node joined before."""
    from kajitori.app.node.join import Wanted, read_joiner
    from kajitori.base.quantity import parse_quantity
    from kajitori.model.hardware import find_gpu

    joiner = read_joiner(home)
    given = {
        key: getattr(options, key)
        for key in ("address", "port", "pod_cidr", "service_cidr", "gpus", "gpu", "zone", "rack", "cpus", "memory")
    }  # fmt: skip
    chosen = {key: value for key, value in given.items() if value is not None}
    if known is not None:
        before = {key: getattr(known, key) for key in given if getattr(known, key)}
        chosen = before | chosen
    find_gpu(str(chosen.get("gpu", "h200")))
    for key in ("cpus", "memory"):
        if key in chosen:
            try:
                parse_quantity(chosen[key])
            except ValueError as error:
                raise UsageError(str(error), where=f"--{key}") from None
    kubeconfig = options.kubeconfig or joiner.kubeconfig
    return Wanted(
        name=name,
        kubeconfig=str(Path(kubeconfig).expanduser().absolute()) if kubeconfig else None,
        context=options.context or joiner.context,
        labels=_labels(options.labels) or (known.labels if known else {}),
        taints=[_taint(text) for text in options.taints] or (known.taints if known else []),
        **chosen,
    )


def _labels(texts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in (part for given in texts for part in given.split(",")):
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UsageError(f"{text!r} is no label", where="--labels", hint="KEY=VALUE")
        if _is_reserved(key):
            raise UsageError(
                f"a node may not give itself the label {key}",
                where="--labels",
                hint="an administrator may: `kubectl label node`",
            )
        found[key] = value
    return found


def _is_reserved(key: str) -> bool:
    """Whether NodeRestriction keeps nodes from this label."""
    prefix, slash, _ = key.rpartition("/")
    if not slash or key in _OWN_LABELS or prefix.endswith(("kubelet.kubernetes.io", "node.kubernetes.io")):
        return False
    return any(prefix == domain or prefix.endswith(f".{domain}") for domain in ("kubernetes.io", "k8s.io"))


def _taint(text: str) -> dict[str, Any]:
    rest, colon, effect = text.rpartition(":")
    key, _, value = rest.partition("=")
    if not colon or not key or effect not in _EFFECTS:
        raise UsageError(
            f"{text!r} is no taint",
            where="--taints",
            hint=f"KEY[=VALUE]:EFFECT, one of {', '.join(_EFFECTS)}",
        )
    return {"key": key, "effect": effect} | ({"value": value} if value else {})


def _refuse_changes(wanted: Wanted, known: NodeSettings, running: dict[str, Any]) -> None:
    keys = (
        "address",
        "port",
        "pod_cidr",
        "gpus",
        "gpu",
        "zone",
        "rack",
        "cpus",
        "memory",
        "labels",
        "taints",
    )
    changed = [
        key for key in keys if (value := getattr(wanted, key)) is not None and value != getattr(known, key)
    ]
    if changed:
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in changed)
        raise UsageError(
            f"node {known.name} runs (pid {running['pid']}) with other settings than {flags}",
            hint=f"`kaji node leave {known.name}` first",
        )


def _ports_of_others(home: Path) -> set[int]:
    """Kubelet ports of nodes of this machine, also of those that do not run now."""
    return {settings.port for other, settings in _nodes() if other != home}


def _start(home: Path, *, foreground: bool) -> subprocess.Popen[bytes] | None:
    from kajitori.app.start import start_supervisor

    if ask_supervisor(home, "status") is not None:
        return None
    return start_supervisor(home, None, die_with=os.getpid() if foreground else 0)


def _is_alive(home: Path, supervisor: subprocess.Popen[bytes] | None) -> bool:
    if supervisor is None:
        return ask_supervisor(home, "status") is not None
    return supervisor.poll() is None


def _stay(supervisor: subprocess.Popen[bytes]) -> int:
    import signal

    print(paint("  Ctrl-C stops the node; `kaji node leave` takes it out of its cluster", "2"), flush=True)
    signal.signal(signal.SIGTERM, lambda *_: supervisor.terminate())
    while True:
        try:
            return 0 if supervisor.wait() in (0, -signal.SIGTERM) else 1
        except KeyboardInterrupt:
            supervisor.terminate()


# Nodes that are here


def _nodes() -> list[tuple[Path, NodeSettings]]:
    from kajitori.laptop.settings import is_joined_home, joined_nodes_folder, read_node_settings

    folder = joined_nodes_folder()
    homes = sorted(path for path in folder.iterdir() if is_joined_home(path)) if folder.is_dir() else []
    return [(home, read_node_settings(home)) for home in homes]


def _home_of(options: argparse.Namespace) -> tuple[Path, NodeSettings]:
    from kajitori.laptop.settings import is_joined_home, joined_nodes_folder, read_node_settings

    if options.home is not None:
        home = options.home.absolute()
        settings = read_node_settings(home)
        if options.name and settings.name != options.name:
            raise UsageError(f"{home} is the home of node {settings.name}, not of {options.name}")
        return home, settings
    if options.name:
        home = joined_nodes_folder() / options.name
        if not is_joined_home(home):
            names = ", ".join(settings.name for _, settings in _nodes()) or "none"
            raise UsageError(
                f"this machine has no node {options.name} in {home}",
                hint=f"joined are: {names}; --home names a node with a folder elsewhere",
            )
        return home, read_node_settings(home)
    found = _nodes()
    if len(found) != 1:
        if not found:
            raise UsageError(
                f"no node of this machine is in {joined_nodes_folder()}",
                hint="`kaji node join --kubeconfig FILE` joins one; --home names one with a folder elsewhere",
            )
        names = ", ".join(settings.name for _, settings in found)
        raise UsageError("which node?", hint=f"this machine joined: {names}")
    return found[0]


def _list(options: argparse.Namespace) -> int:
    rows = [("NAME", "STATE", "CLUSTER", "ADDRESS", "PODS")]
    for home, settings in _nodes():
        running = ask_supervisor(home, "status")
        state = f"running ({running['pid']})" if running else "stopped"
        address = f"{settings.address}:{settings.port}"
        rows.append((settings.name, state, settings.server, address, settings.pod_cidr))
    if len(rows) == 1:
        print("This machine joined no cluster.")
        return 0
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _status(options: argparse.Namespace) -> int:
    from kajitori.api.resource import NODES
    from kajitori.app.node.join import node_kubeconfig
    from kajitori.base.errors import NotFound
    from kajitori.kube.config import load_config
    from kajitori.kube.direct import DirectClient

    home, settings = _home_of(options)
    running = ask_supervisor(home, "status")
    print(f"{settings.name}  {settings.server}  {home}")
    for process in running["processes"] if running else ():
        restarts = f", restarted {process['restarts']} times" if process["restarts"] else ""
        print(f"  {process['name']:<20} pid {process['pid']}{restarts}")
    if running is None:
        print(f"  stopped; `kaji node join --name {settings.name}` starts it again")
    with DirectClient(load_config(str(node_kubeconfig(home, settings.name)))) as client:
        try:
            node = client.get(NODES.path(None, settings.name))
        except NotFound:
            raise KajitoriError(
                f"the cluster has no Node {settings.name} any more: it was deleted",
                hint=f"`kaji node leave {settings.name}`, then join again",
            ) from None
    for condition in (node.get("status") or {}).get("conditions") or ():
        print(f"  {condition['type']:<32} {condition['status']:<8} {condition.get('message', '')}")
    return 0 if running else 1


# Leaving


def _leave(options: argparse.Namespace) -> int:
    from kajitori.app.node.join import read_joiner
    from kajitori.app.node.leave import leave
    from kajitori.base.errors import Unreachable
    from kajitori.cli.down import stop
    from kajitori.kube.client import Client
    from kajitori.kube.config import load_config

    if _forget_unfinished(options):
        return 0
    home, settings = _home_of(options)
    joiner = read_joiner(home)
    config = load_config(options.kubeconfig or joiner.kubeconfig, options.context or joiner.context)

    async def take_leave() -> None:
        async with Client(config, user_agent="kaji-node-leave") as client:
            await leave(client, settings.name, lambda: stop(home), options.drain_seconds, _say)

    try:
        asyncio.run(take_leave())
    except (Unreachable, KajitoriError) as error:
        if not options.force:
            error.hint = error.hint or "--force ends its processes all the same"
            raise
        print(f"  the cluster keeps Node {settings.name}: {error.message}")
        stop(home)
    _remove(home, purge=options.purge)
    return 0


def _forget_unfinished(options: argparse.Namespace) -> bool:
    """Remove the folder of a join that ended before the node was there; False where there is no such folder."""
    from kajitori.laptop.settings import is_joined_home, joined_nodes_folder

    if not options.name or options.home is not None:
        return False
    home = joined_nodes_folder() / options.name
    if is_joined_home(home) or not (home / "pki").is_dir():
        return False
    _remove(home, purge=options.purge)
    _say("removed", f"{home}, of a join that was not finished")
    return True


def _remove(home: Path, *, purge: bool) -> None:
    """What is of the node goes; data of volumes stays unless asked for."""
    volumes = home / "volumes"
    keeps = not purge and volumes.is_dir() and any(volumes.iterdir())
    deadline = time.monotonic() + 5
    while True:
        try:
            for path in home.iterdir():
                if path == volumes and keeps:
                    continue
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            break
        except OSError:  # the last process writes its last words
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    if keeps:
        _say("kept", f"data of volumes in {volumes} (--purge removes them)")
    else:
        home.rmdir()
