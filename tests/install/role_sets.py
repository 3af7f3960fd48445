"""A DisaggregatedSet's life on an installation: each right of its controller is used on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kajitori.api.resource import (
    DISAGGREGATED_SET_ROLE_SCALERS,
    DISAGGREGATED_SETS,
    LEADER_WORKER_SETS,
    SERVICES,
)
from tests.install.installation import Installation

NAME = "roles"
OWN = {"labelSelector": f"disaggregatedset.x-k8s.io/name={NAME}"}


def live(cluster: Installation, run: Callable[[str], None]) -> None:
    """It is made, rolled out, sized otherwise and in the way of others. run: let the pods of such a set run."""
    _apply(cluster, "busybox:1", "External")
    _until_available(cluster, run)
    _mended(cluster)
    _apply(cluster, "busybox:2", "Static")
    _until_available(cluster, run)
    cluster.until(
        lambda: not cluster.client.get(DISAGGREGATED_SET_ROLE_SCALERS.path("default"))["items"],
        "the scaler is gone",
    )
    names = [one["metadata"]["name"] for one in _sets(cluster)]
    assert len(names) == 2
    cluster.client.delete(DISAGGREGATED_SETS.path("default", NAME))
    cluster.until(lambda: not _sets(cluster), "all that it had is gone")
    foreign = _set(names[0], "busybox:1")
    cluster.apply(foreign, LEADER_WORKER_SETS.path("default", names[0]))
    _apply(cluster, "busybox:2", "Static")

    def blocked() -> bool:
        status = cluster.client.get(DISAGGREGATED_SETS.path("default", NAME)).get("status") or {}
        return any(one["type"] == "kajitori.dev/Blocked" for one in status.get("conditions", ()))

    cluster.until(blocked, "it says what is in its way")


def _mended(cluster: Installation) -> None:
    services = SERVICES.path("default")
    found = cluster.until(lambda: cluster.client.get(services, query=OWN)["items"], "there are Services")
    name, selector = found[0]["metadata"]["name"], found[0]["spec"]["selector"]
    cluster.client.request(
        "PATCH",
        f"{services}/{name}",
        body=json.dumps({"spec": {"selector": {"more": "than-that"}}}).encode(),
        content_type="application/merge-patch+json",
    )
    cluster.until(
        lambda: cluster.client.get(f"{services}/{name}")["spec"]["selector"] == selector, "it is mended"
    )


def _sets(cluster: Installation) -> list[dict[str, Any]]:
    return cluster.client.get(LEADER_WORKER_SETS.path("default"), query=OWN)["items"]


def _group(image: str) -> dict[str, Any]:
    return {"size": 1, "workerTemplate": {"spec": {"containers": [{"name": "engine", "image": image}]}}}


def _set(name: str, image: str) -> dict[str, Any]:
    return {
        "apiVersion": LEADER_WORKER_SETS.api_version,
        "kind": LEADER_WORKER_SETS.kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": 0, "leaderWorkerTemplate": _group(image)},
    }


def _apply(cluster: Installation, image: str, mode: str) -> None:
    roles = [
        {
            "name": "prefill",
            "scaling": {"mode": mode},
            "spec": {"replicas": 1, "leaderWorkerTemplate": _group(image)},
        },
        {"name": "decode", "spec": {"replicas": 1, "leaderWorkerTemplate": _group(image)}},
    ]
    body = {
        "apiVersion": DISAGGREGATED_SETS.api_version,
        "kind": DISAGGREGATED_SETS.kind,
        "metadata": {"name": NAME, "namespace": "default"},
        "spec": {"roles": roles},
    }
    cluster.apply(body, DISAGGREGATED_SETS.path("default", NAME))


def _until_available(cluster: Installation, run: Callable[[str], None]) -> None:
    def available() -> bool:
        for one in _sets(cluster):
            run(one["metadata"]["name"])
        found = cluster.client.get(DISAGGREGATED_SETS.path("default", NAME))
        status = found.get("status") or {}
        conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        return current and conditions.get("Available") == "True"

    cluster.until(available, "the set of roles is available")
