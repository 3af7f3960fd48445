"""`kaji node join`: makes this machine a node of a cluster, or starts again one that it is."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kajitori.base.errors import UsageError
from kajitori.cli.joined_nodes import joined_nodes, say
from kajitori.cli.local import ask_supervisor
from kajitori.cli.output import paint

if TYPE_CHECKING:
    from kajitori.app.node.join import Wanted
    from kajitori.laptop.settings import NodeSettings

_READY_SECONDS = 120.0
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


def join_cluster(options: argparse.Namespace) -> int:
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
        settings = asyncio.run(join.prepare(home, wanted, _ports_of_others(home), say))
        write_node_settings(home, settings)
        supervisor = _start(home, foreground=options.foreground)
    try:
        asyncio.run(
            join.wait_until_ready(
                home, wanted, settings, lambda: _is_alive(home, supervisor), _READY_SECONDS, say
            )
        )
    except BaseException:
        if supervisor is not None and options.foreground:
            supervisor.terminate()
            supervisor.wait()
        raise
    gpus = f", {settings.gpus} × {settings.gpu.upper()} (simulated)" if settings.gpus else ""
    say("ready", f"{name} at {settings.address}:{settings.port}, pods {settings.pod_cidr}{gpus}")
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
    return {settings.port for other, settings in joined_nodes() if other != home}


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
