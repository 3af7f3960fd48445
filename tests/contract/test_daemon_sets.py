"""DaemonSets behave alike on both servers."""

from __future__ import annotations

import pytest
from tests.contract.workloads import Workload, needs_kubectl, workload
from tests.servers import Server
from tests.waiting import eventually

# Other tests' nodes come and go: these stay on the two that are always there.
ON_FAKES = {"nodeSelector": {"kajitori.dev/fake": "true"}}


def daemon(image: str = "i:1", **spec: object) -> dict[str, object]:
    made = workload("DaemonSet", image=image, **spec)
    made["spec"]["template"]["spec"].update(ON_FAKES)
    return made


@pytest.fixture
def daemons(server: Server, namespace: str, nodes: list[str]) -> Workload:
    return Workload(server, namespace, "daemonsets")


async def settled(daemons: Workload, image: str) -> None:
    async def done() -> bool:
        return await daemons.images() == [image] * 2

    await daemons.until_status(desiredNumberScheduled=2, numberAvailable=2, updatedNumberScheduled=2)
    await eventually(done, f"pods of {image}")


async def test_each_node_has_one_pod_that_is_meant_for_it(daemons: Workload, nodes: list[str]) -> None:
    made = await daemons.create(daemon())
    assert made["metadata"]["annotations"] == {"deprecated.daemonset.template.generation": "1"}
    await settled(daemons, "i:1")
    pods = await daemons.pods()
    assert sorted(pod["spec"]["nodeName"] for pod in pods) == nodes
    pod = pods[0]
    (kept,) = await daemons.list("apps/v1/controllerrevisions")
    assert pod["metadata"]["labels"] == {
        "app": "w",
        "controller-revision-hash": kept["metadata"]["labels"]["controller-revision-hash"],
        "pod-template-generation": "1",
        "topology.kubernetes.io/zone": pod["spec"]["nodeName"].replace("fake", "zone"),
    }
    field = {"key": "metadata.name", "operator": "In", "values": [pod["spec"]["nodeName"]]}
    required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    assert pod["spec"]["affinity"] == {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
    }
    effects = {
        "disk-pressure": "NoSchedule", "memory-pressure": "NoSchedule", "not-ready": "NoExecute",
        "pid-pressure": "NoSchedule", "unreachable": "NoExecute", "unschedulable": "NoSchedule",
    }  # fmt: skip
    assert sorted(pod["spec"]["tolerations"], key=lambda one: one["key"]) == [
        {"effect": effect, "key": f"node.kubernetes.io/{key}", "operator": "Exists"}
        for key, effect in sorted(effects.items())
    ]
    await daemons.told(("Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}"))


async def test_the_status_has_these_fields_and_no_others(daemons: Workload) -> None:
    await daemons.create(daemon())
    await settled(daemons, "i:1")
    assert (await daemons.get())["status"] == {
        "currentNumberScheduled": 2,
        "desiredNumberScheduled": 2,
        "numberAvailable": 2,
        "numberMisscheduled": 0,
        "numberReady": 2,
        "observedGeneration": 1,
        "updatedNumberScheduled": 2,
    }
    (kept,) = await daemons.list("apps/v1/controllerrevisions")
    hash = kept["metadata"]["labels"]["controller-revision-hash"]
    assert kept["metadata"]["labels"] == {"app": "w", "controller-revision-hash": hash}
    assert (kept["metadata"]["name"], kept["revision"]) == (f"w-{hash}", 1)
    assert kept["metadata"]["annotations"] == {"deprecated.daemonset.template.generation": "1"}


async def test_an_update_goes_through_and_its_history_is_kept_to_the_limit(daemons: Workload) -> None:
    await daemons.create(daemon(revisionHistoryLimit=1))
    await settled(daemons, "i:1")
    for number in (2, 3):
        await daemons.set_image(f"i:{number}")
        await settled(daemons, f"i:{number}")
    labels = {pod["metadata"]["labels"]["pod-template-generation"] for pod in await daemons.pods()}
    assert labels == {"3"}

    async def trimmed() -> bool:
        kept = await daemons.list("apps/v1/controllerrevisions")
        return sorted(one["revision"] for one in kept) == [2, 3]

    await eventually(trimmed, "two revisions are left")


async def test_a_surging_update_keeps_the_old_pod_until_the_new_one_serves(daemons: Workload) -> None:
    update = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await daemons.create(daemon(updateStrategy=update))
    await settled(daemons, "i:1")
    held = {"metadata": {"annotations": {"kajitori.dev/test-ready": "false"}}}
    held["spec"] = {"containers": [{"name": "c", "image": "i:2"}]}
    await daemons.patch({"spec": {"template": held}})

    async def beside() -> bool:
        return sorted(await daemons.images()) == ["i:1", "i:1", "i:2"]

    await eventually(beside, "one new pod beside the old ones")


async def test_on_delete_leaves_it_to_the_user(daemons: Workload) -> None:
    await daemons.create(daemon(updateStrategy={"type": "OnDelete"}))
    await settled(daemons, "i:1")
    await daemons.set_image("i:2")
    await daemons.until_status(updatedNumberScheduled=None, numberAvailable=2)
    first = (await daemons.pods())[0]["metadata"]["name"]
    (await daemons.server.http.delete(f"/api/v1/namespaces/{daemons.namespace}/pods/{first}")).ok()
    await daemons.until_status(updatedNumberScheduled=1, numberAvailable=2)


async def test_a_failed_daemon_is_replaced_and_told(daemons: Workload) -> None:
    await daemons.create(daemon())
    await settled(daemons, "i:1")
    pod = (await daemons.pods())[0]
    name = pod["metadata"]["name"]
    path = f"/api/v1/namespaces/{daemons.namespace}/pods/{name}/status"
    await daemons.server.http.merge(path, {"status": {"phase": "Failed"}})

    async def replaced() -> bool:
        names = [one["metadata"]["name"] for one in await daemons.pods()]
        return len(names) == 2 and name not in names

    await eventually(replaced, "another pod")
    where = f"{daemons.namespace}/{name} on node {pod['spec']['nodeName']}"
    await daemons.told(
        ("Warning", "FailedDaemonPod", f"Found failed daemon pod {where}, will try to kill it"),
        ("Normal", "SuccessfulDelete", f"Deleted pod: {name}"),
    )


@needs_kubectl
async def test_kubectl_rolls_out_shows_history_undoes_and_restarts(daemons: Workload) -> None:
    await daemons.create(daemon())
    await settled(daemons, "i:1")
    await daemons.kubectl("set", "image", "daemonset/w", "c=i:2")
    done = 'daemon set "w" successfully rolled out'
    assert done in await daemons.kubectl("rollout", "status", "daemonset/w")
    assert await daemons.kubectl("rollout", "history", "daemonset/w") == (
        "daemonset.apps/w \nREVISION  CHANGE-CAUSE\n1         <none>\n2         <none>\n\n"
    )
    await daemons.kubectl("rollout", "undo", "daemonset/w")
    await settled(daemons, "i:1")
    await daemons.kubectl("rollout", "restart", "daemonset/w")
    assert done in await daemons.kubectl("rollout", "status", "daemonset/w")
