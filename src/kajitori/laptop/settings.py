"""What a laptop cluster was asked to be: `cluster.json` in its home, and the addresses that follow from it.

Written once by `kaji up`, read by every process of the cluster. A node that joined another cluster has a home of its
own with a `node.json`, written by `kaji node join`. All addresses are loopback addresses; a cluster
holds one *slot* of the machine, sixteen values of the second octet, so that several clusters live side by side:

    127.(16 * (slot + 1) + 0..13).x.y   pods, a /22 for each node
    127.(16 * (slot + 1) + 14).x.y      pods of nodes that join this cluster, a /22 for each
    127.(16 * (slot + 1) + 15).x.y      services
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from kajitori.base.errors import UsageError

SLOTS = 14
NODES_PER_OCTET = 64
MAXIMUM_NODES = 14 * NODES_PER_OCTET


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What one node is.

    server: URL of the API server. pod_cidr: the range of its pods' addresses, which are this machine's. address: of
    the node and of pods in the host's network. port: of the kubelet API at that address; 0: on a unix socket only.
    gpus, gpu: simulated ones and their product. cpus, memory: capacity to report; None for the machine's own.
    labels, taints: further ones of the Node object. joined: to a cluster that is not this home's own.
    service_cidr: of a joined node: the range of Services whose addresses lead somewhere on this machine, or empty.
    """

    name: str
    server: str
    pod_cidr: str
    address: str = "127.0.0.1"
    port: int = 0
    gpus: int = 0
    gpu: str = "h200"
    region: str = "laptop"
    zone: str = ""
    rack: str = ""
    cpus: str | None = None
    memory: str | None = None
    labels: dict[str, str] = {}
    taints: list[dict[str, Any]] = []
    joined: bool = False
    service_cidr: str = ""


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one laptop cluster.

    port: of the API server. gateway_port: of the default gateway. nodes: how many. gpus: simulated GPUs on each
    node, 0 for none. gpu: their product, a key of the hardware catalogue such as `h200`. racks, zones: how many
    the nodes are spread over, in turn. node_cpus, node_memory: capacity that a node reports; None for the machine's own.
    gateway_only: objects and the gateway that serves them, with nothing that runs pods (`kaji gateway run`).
    gateway_address: where the gateway's listeners bind. administration_port: of /metrics and /health there; 0 for none.
    """

    slot: int = 0
    port: int = 6443
    gateway_port: int = 8080
    nodes: int = 2
    gpus: int = 0
    gpu: str = "h200"
    racks: int = 1
    zones: int = 1
    node_cpus: str | None = None
    node_memory: str | None = None
    gateway_only: bool = False
    gateway_address: str = "127.0.0.1"
    administration_port: int = 0

    @property
    def first_octet(self) -> int:
        """The first value of the second octet that belongs to this cluster."""
        return 16 * (self.slot + 1)

    @property
    def service_cidr(self) -> str:
        return f"127.{self.first_octet + 15}.0.0/16"

    @property
    def kubernetes_service_address(self) -> str:
        return f"127.{self.first_octet + 15}.0.1"

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def node_names(self) -> list[str]:
        return [f"node-{number}" for number in range(1, self.nodes + 1)]

    def pod_cidr(self, node_name: str) -> str:
        """The pods' range of a node, a /22. Raises ValueError for a name that is not `node-<number>`."""
        index = int(node_name.removeprefix("node-")) - 1
        octet, fourth = divmod(index, NODES_PER_OCTET)
        return f"127.{self.first_octet + octet}.{4 * fourth}.0/22"

    @property
    def ranges_to_give(self) -> list[str]:
        """Pods' ranges for nodes that join this cluster."""
        return [f"127.{self.first_octet + 14}.{4 * index}.0/22" for index in range(NODES_PER_OCTET)]

    def rack(self, node_name: str) -> str:
        return f"rack-{(int(node_name.removeprefix('node-')) - 1) % self.racks + 1}"

    def zone(self, node_name: str) -> str:
        """Racks fill one zone before the next begins, as in a building."""
        index = int(node_name.removeprefix("node-")) - 1
        return f"zone-{(index % self.racks if self.racks > 1 else index) % self.zones + 1}"

    def node(self, name: str) -> NodeSettings:
        """One of this cluster's own nodes."""
        return NodeSettings(
            name=name,
            server=self.server,
            pod_cidr=self.pod_cidr(name),
            gpus=self.gpus,
            gpu=self.gpu,
            zone=self.zone(name),
            rack=self.rack(name),
            cpus=self.node_cpus,
            memory=self.node_memory,
        )


def default_home() -> Path:
    """`$KAJI_HOME`, else `~/.kaji`."""
    return Path(os.environ.get("KAJI_HOME") or Path.home() / ".kaji")


def read_settings(home: Path) -> ClusterSettings:
    """The settings of the cluster in this home. Raises UsageError where there is none or it is damaged."""
    path = home / "cluster.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=ClusterSettings)
    except FileNotFoundError:
        raise UsageError(f"no cluster in {home}", hint="start one with `kaji up`") from None
    except msgspec.DecodeError as error:
        raise UsageError(
            f"{path} is damaged: {error}",
            hint="`kaji down --purge` removes the cluster, `kaji up` makes a new one",
        ) from None


def write_settings(home: Path, settings: ClusterSettings) -> None:
    """Replace the settings file as a whole, so that a reader sees the old or the new one."""
    scratch = home / "cluster.json.new"
    scratch.write_bytes(msgspec.json.format(msgspec.json.encode(settings)))
    scratch.replace(home / "cluster.json")


def joined_nodes_folder() -> Path:
    """Where the homes of joined nodes are: beside the default home, so that purging that one leaves them."""
    home = default_home()
    return home.with_name(f"{home.name}-nodes")


def is_joined_home(home: Path) -> bool:
    return (home / "node.json").exists()


def read_node_settings(home: Path) -> NodeSettings:
    """The joined node of this home. Raises UsageError where there is none or its file is damaged."""
    path = home / "node.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=NodeSettings)
    except FileNotFoundError:
        raise UsageError(f"no joined node in {home}", hint="`kaji node join --kubeconfig FILE`") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"{path} is damaged: {error}", hint="join again with --kubeconfig") from None


def write_node_settings(home: Path, settings: NodeSettings) -> None:
    """Replace the settings file as a whole."""
    scratch = home / "node.json.new"
    scratch.write_bytes(msgspec.json.format(msgspec.json.encode(settings)))
    scratch.replace(home / "node.json")
