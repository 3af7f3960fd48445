"""A more important pod that fits nowhere makes less important ones go, on both servers alike."""

from __future__ import annotations

from typing import Any

from tests.servers import Server, pod
from tests.waiting import eventually

CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
GPU = "nvidia.com/gpu"


def gpus(name: str, count: int, node: str, **spec: Any) -> dict[str, Any]:
    resources = {"limits": {GPU: str(count)}}
    made = pod(name, nodeSelector={"kubernetes.io/hostname": node}, **spec)
    made["spec"]["containers"][0]["resources"] = resources
    return made


async def test_a_pod_of_a_higher_class_takes_the_place_of_the_least_that_must_go(
    server: Server, namespace: str, nodes: list[str]
) -> None:
    high, low = f"high-{namespace}", f"low-{namespace}"
    for name, value in ((high, 1000), (low, -10)):
        body = {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
        }
        (await server.http.create(CLASSES, body)).ok()
    pods = f"/api/v1/namespaces/{namespace}/pods"

    async def runs(name: str) -> bool:
        answer = await server.http.get(f"{pods}/{name}")
        return answer.code == 200 and answer.json.get("status", {}).get("phase") == "Running"

    for name, count, more in (("small", 2, {"priorityClassName": low}), ("large", 6, {})):
        (await server.http.create(pods, gpus(name, count, nodes[1], **more))).ok()
        await eventually(lambda name=name: runs(name), f"{name} runs")
    async with server.http.watch(pods, fieldSelector="metadata.name=small") as watch:
        await watch.next()
        (await server.http.create(pods, gpus("urgent", 2, nodes[1], priorityClassName=high))).ok()
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["type"] != "DELETED":
            seen.append(await watch.next(30))
    conditions = {one["type"]: one for one in seen[-1]["object"]["status"]["conditions"]}
    told = conditions["DisruptionTarget"]
    assert (told["status"], told["reason"]) == ("True", "PreemptionByScheduler")
    assert told["message"] == "default-scheduler: preempting to accommodate a higher priority pod"
    await eventually(lambda: runs("urgent"), "the urgent pod runs")
    assert await runs("large")
    urgent = (await server.http.get(f"{pods}/urgent")).ok()
    assert urgent["spec"]["priority"] == 1000

    async def told_so() -> bool:
        path = f"/api/v1/namespaces/{namespace}/events"
        found = (await server.http.get(path, fieldSelector="involvedObject.name=small,reason=Preempted")).ok()
        return any(
            event["message"] == f"Preempted by pod {urgent['metadata']['uid']} on node {nodes[1]}"
            for event in found["items"]
        )

    await eventually(told_so, "an event says for whom")
    for name in ("urgent", "large"):
        await server.http.delete(f"{pods}/{name}")
    for name in (high, low):
        await server.http.delete(f"{CLASSES}/{name}")


async def test_a_class_that_never_preempts_waits(server: Server, namespace: str, nodes: list[str]) -> None:
    patient = f"patient-{namespace}"
    body = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": patient},
        "value": 1000,
        "preemptionPolicy": "Never",
    }
    (await server.http.create(CLASSES, body)).ok()
    pods = f"/api/v1/namespaces/{namespace}/pods"
    (await server.http.create(pods, gpus("all", 8, nodes[1]))).ok()

    async def phase(name: str, wanted: str) -> bool:
        return (await server.http.get(f"{pods}/{name}")).ok().get("status", {}).get("phase") == wanted

    await eventually(lambda: phase("all", "Running"), "the first runs")
    (await server.http.create(pods, gpus("waits", 8, nodes[1], priorityClassName=patient))).ok()

    async def told() -> bool:
        waiting = (await server.http.get(f"{pods}/waits")).ok()
        return any(
            one["type"] == "PodScheduled" and one.get("reason") == "Unschedulable"
            for one in waiting.get("status", {}).get("conditions", ())
        )

    await eventually(told, "the second is told that it waits")
    assert await phase("all", "Running")
    for name in ("all", "waits"):
        await server.http.delete(f"{pods}/{name}")
    await server.http.delete(f"{CLASSES}/{patient}")
