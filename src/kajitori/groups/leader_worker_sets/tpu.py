"""What TPU programs read to find their peers: variables for the containers that ask for `google.com/tpu`.

The lists name the workers of a group, or of a subgroup, and the leader if it asks for TPUs too. A pod with
several such containers counts as several workers, each with a port of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TPU_RESOURCE = "google.com/tpu"
FIRST_PORT = 8476


def requests_tpus(pod_spec: dict[str, Any]) -> bool:
    """Whether any container asks for TPUs."""
    return any(_asks(container) for container in pod_spec.get("containers", ()))


def tpu_variables(
    pod_spec: dict[str, Any], members: Sequence[str], place: int, leader_name: str
) -> dict[int, list[dict[str, str]]]:
    """Variables by container index; none at all if a container brings its own.

    members: host names of the pods with TPUs, in order. place: this pod's among them.
    """
    indexes = [index for index, container in enumerate(pod_spec.get("containers", ())) if _asks(container)]
    if not indexes or any(_brings_its_own(pod_spec["containers"][index]) for index in indexes):
        return {}
    ports = range(FIRST_PORT, FIRST_PORT + len(indexes))
    names = ",".join(member for member in members for _ in ports)
    addresses = ",".join(f"{member}:{port}" for member in members for port in ports)
    return {
        index: [
            {"name": "TPU_WORKER_HOSTNAMES", "value": names},
            {"name": "TPU_PROCESS_ADDRESSES", "value": addresses},
            {"name": "TPU_PROCESS_PORT", "value": str(ports[order])},
            {"name": "TPU_WORKER_ID", "value": str(place * len(indexes) + order)},
            {"name": "TPU_NAME", "value": leader_name},
        ]
        for order, index in enumerate(indexes)
    }


def _asks(container: dict[str, Any]) -> bool:
    resources = container.get("resources") or {}
    return any(TPU_RESOURCE in (resources.get(part) or {}) for part in ("limits", "requests"))


def _brings_its_own(container: dict[str, Any]) -> bool:
    names = {variable.get("name") for variable in container.get("env") or ()}
    return bool(names & {"TPU_WORKER_HOSTNAMES", "TPU_WORKER_ID"})
