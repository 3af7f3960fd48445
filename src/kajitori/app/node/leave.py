"""Take a joined node out of its cluster: drain it, end its processes, remove what its joining made.

Pods go by eviction, so that disruption budgets are heard; those that do not go in time are deleted. What DaemonSets
own would only come back, and goes with the Node. Data of volumes stays in the home.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from kajitori.api.resource import LEASES, NODES, PODS
from kajitori.app.node.join import Say
from kajitori.app.node.rights import grants
from kajitori.base.errors import ApiError, Forbidden, NotFound
from kajitori.kube.client import Client
from kajitori.laptop.node.certificates import SIGNING_REQUESTS, USER_PREFIX

LEASE_NAMESPACE = "kube-node-lease"
_LOOK_SECONDS = 0.3
_EVICTION_SECONDS = 5.0
_AFTER_DELETION_SECONDS = 40.0


async def leave(
    client: Client, name: str, stop: Callable[[], object], drain_seconds: float, say: Say
) -> None:
    """stop: ends the node's processes. drain_seconds: how long pods may take to be evicted. Raises KajitoriError."""
    with contextlib.suppress(NotFound):
        await client.patch(NODES, name, {"spec": {"unschedulable": True}})
        evicted = await _drain(client, name, drain_seconds)
        say("drained", f"{evicted} pod{'s' if evicted != 1 else ''}")
    await asyncio.to_thread(stop)
    say("stopped", "runner and agent")
    for pod in await _pods(client, name):
        await _delete(client, PODS, pod["metadata"]["name"], pod["metadata"]["namespace"], grace=0)
    await _delete(client, NODES, name)
    await _delete(client, LEASES, name, LEASE_NAMESPACE)
    for grant in grants(name):
        await _delete(client, grant.resource, grant.name, grant.namespace or None)
    try:
        requests = (await client.list(SIGNING_REQUESTS)).items
    except Forbidden:
        requests = []
    for request in requests:
        asker = request["spec"].get("username")
        if asker == USER_PREFIX + name or request["metadata"]["name"].startswith(f"node-{name}-client-"):
            await _delete(client, SIGNING_REQUESTS, request["metadata"]["name"])
    say("removed", f"Node {name}, its lease, bindings and certificate requests")


async def _pods(client: Client, name: str) -> list[dict[str, Any]]:
    return (await client.list(PODS, field_selector=f"spec.nodeName={name}")).items


def _goes_by_eviction(pod: dict[str, Any]) -> bool:
    owners = pod["metadata"].get("ownerReferences") or ()
    over = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return not over and not any(owner["kind"] == "DaemonSet" for owner in owners)


async def _drain(client: Client, name: str, seconds: float) -> int:
    """How many pods have gone. Those that stay are deleted, and then waited for as long as that takes a kubelet."""
    deadline = time.monotonic() + seconds
    asked: dict[str, float] = {}
    deleted = False
    while True:
        pods = [pod for pod in await _pods(client, name) if _goes_by_eviction(pod)]
        if not pods:
            return len(asked)
        now = time.monotonic()
        if now > deadline and deleted:
            return len(asked)
        for pod in pods:
            uid, metadata = pod["metadata"]["uid"], pod["metadata"]
            if metadata.get("deletionTimestamp"):
                asked.setdefault(uid, now)
                continue
            if now > deadline:
                await _delete(client, PODS, metadata["name"], metadata["namespace"])
            elif now - asked.get(uid, -_EVICTION_SECONDS) >= _EVICTION_SECONDS:
                asked[uid] = now
                await _evict(client, metadata["namespace"], metadata["name"])
        if now > deadline:
            deleted, deadline = True, now + _AFTER_DELETION_SECONDS
        await asyncio.sleep(_LOOK_SECONDS)


async def _evict(client: Client, namespace: str, name: str) -> None:
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
    }
    try:
        await client.create(PODS, body, subresource="eviction")
    except NotFound:
        return
    except ApiError as error:
        if error.code != 429:  # a budget that has nothing to spare now
            raise


async def _delete(
    client: Client, resource: Any, name: str, namespace: str | None = None, *, grace: int | None = None
) -> None:
    with contextlib.suppress(NotFound):
        await client.delete(resource, name, namespace, grace_period_seconds=grace)
