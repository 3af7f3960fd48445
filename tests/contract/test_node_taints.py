"""Nodes are tainted alike on both servers."""

from __future__ import annotations

from tests.servers import Server
from tests.waiting import eventually


async def test_a_cordoned_node_is_tainted_until_it_is_uncordoned(server: Server, namespace: str) -> None:
    path = f"/api/v1/nodes/{namespace}"
    node = {"metadata": {"name": namespace}, "spec": {"unschedulable": True}}
    (await server.http.create("/api/v1/nodes", node)).ok()

    async def mark() -> dict[str, str] | None:
        taints = (await server.http.get(path)).ok()["spec"].get("taints", [])
        return next((one for one in taints if one["key"] == "node.kubernetes.io/unschedulable"), None)

    taint = await eventually(mark, "the taint")
    assert taint.keys() == {"key", "effect", "timeAdded"} and taint["effect"] == "NoSchedule"
    (await server.http.merge(path, {"spec": {"unschedulable": None}})).ok()

    async def unmarked() -> bool:
        return await mark() is None

    await eventually(unmarked, "no taint")
    (await server.http.delete(path)).ok()
