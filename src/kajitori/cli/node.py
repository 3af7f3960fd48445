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
from pathlib import Path
from typing import TYPE_CHECKING

from kajitori.base.errors import KajitoriError
from kajitori.cli.joined_nodes import home_of, joined_nodes
from kajitori.cli.local import ask_supervisor
from kajitori.cli.node_join import join_cluster
from kajitori.cli.node_leave import leave_cluster

if TYPE_CHECKING:
    pass

_DRAIN_SECONDS = 60.0


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
    verbs = {"join": join_cluster, "leave": leave_cluster, "status": _status, "list": _list}
    return verbs[options.verb](options)


def _list(options: argparse.Namespace) -> int:
    rows = [("NAME", "STATE", "CLUSTER", "ADDRESS", "PODS")]
    for home, settings in joined_nodes():
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

    home, settings = home_of(options)
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
