"""The suite's own ground: both servers serve, schedule, and let fake nodes run pods."""

from __future__ import annotations

from tests.servers import Server, pod
from tests.waiting import eventually


async def test_a_pod_is_scheduled_runs_and_is_deleted(
    server: Server, namespace: str, nodes: list[str]
) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    (await server.http.create(pods, pod("web"))).ok()

    async def running() -> bool:
        found = (await server.http.get(f"{pods}/web")).ok()
        return found["status"]["phase"] == "Running" and found["spec"]["nodeName"] in nodes

    await eventually(running, "the pod runs")
    (await server.http.delete(f"{pods}/web")).ok()

    async def gone() -> bool:
        return (await server.http.get(f"{pods}/web")).code == 404

    await eventually(gone, "the pod is gone")


async def test_a_user_without_rights_is_refused(server: Server, namespace: str) -> None:
    answer = await server.as_user("jane").get(f"/api/v1/namespaces/{namespace}/pods")
    assert answer.code == 403
    assert answer.json["message"] == (
        f'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "{namespace}"'
    )
