"""Whatever happens to pods, sets and controllers, and in whatever order, everything ends as it was asked for."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set, container, template

happenings = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "delete",
                "vanish",
                "fail",
                "restart",
                "unready",
                "ready",
                "bury",
                "reconcile",
                "crash",
                "scale",
                "update",
                "forget",
                "lose service",
                "lose revision",
                "resize",
            ]
        ),
        st.integers(0, 30),
    ),
    max_size=25,
)


@settings(max_examples=120, deadline=None)
@given(
    replicas=st.integers(0, 3),
    size=st.integers(1, 3),
    policy=st.sampled_from(["RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"]),
    startup=st.sampled_from(["LeaderCreated", "LeaderReady"]),
    subdomains=st.sampled_from(["Shared", "UniquePerReplica"]),
    surge=st.integers(0, 2),
    restart=st.sampled_from(["Recreate", "InPlace"]),
    happens=happenings,
)
def test_everything_converges(
    replicas: int,
    size: int,
    policy: str,
    startup: str,
    subdomains: str,
    surge: int,
    restart: str,
    happens: list[tuple[str, int]],
) -> None:
    rolling = {"partition": 0, "maxUnavailable": 1, "maxSurge": surge}
    cluster = PlannedCluster(
        a_set(
            replicas=replicas,
            size=size,
            annotations={"groups.kajitori.dev/restart": restart},
            restartPolicy=policy,
            startupPolicy=startup,
            networkConfig={"subdomainPolicy": subdomains},
            rolloutStrategy={"type": "RollingUpdate", "rollingUpdateConfiguration": rolling},
        )
    )
    image = "busybox:1"
    for what, number in happens:
        cluster.now += 1
        if what == "scale":
            cluster.lws["spec"]["replicas"] = number % 4
        elif what == "resize":
            size = 1 + number % 3
            cluster.lws["spec"]["leaderWorkerTemplate"]["size"] = size
        elif what == "update":
            image = f"busybox:{number % 3}"
            worker = template(container() | {"image": image})
            cluster.lws["spec"]["leaderWorkerTemplate"]["workerTemplate"] = worker
        else:
            happen(cluster, what, number)
        check_incarnations(cluster)
    cluster.settle(rounds=200)
    replicas = cluster.lws["spec"]["replicas"]
    assert len(cluster.pods) == replicas * size
    for group in range(replicas):
        assert len(cluster.uids(group)) == size
    if happens and any(what == "update" for what, _ in happens):
        images = {pod["spec"]["containers"][0]["image"] for pod in cluster.pods.values()}
        assert images <= {image}
    status = cluster.lws["status"]
    assert status.get("readyReplicas", 0) == status.get("updatedReplicas", 0) == replicas
    assert cluster.conditions()["Available"] == "True"
    assert len(cluster.services) == (1 if subdomains == "Shared" else replicas)
    assert len(cluster.revisions) == 1


def happen(cluster: PlannedCluster, what: str, number: int) -> None:
    names = list(cluster.pods)
    name = names[number % len(names)] if names else ""
    match what:
        case "reconcile":
            cluster.reconcile()
        case "crash":
            cluster.reconcile(steps=number)
        case "forget":
            cluster.memory = {"restarts": {}, "taken": {}}
        case "bury":
            cluster.bury()
        case "lose service" if cluster.services:
            cluster.services.popitem()
        case "lose revision" if cluster.revisions:
            cluster.revisions.popitem()
        case "delete" if name:
            cluster.delete(name)
        case "vanish" if name:
            del cluster.pods[name]
        case "fail" if name:
            cluster.pods[name]["status"] = {"phase": "Failed"}
        case "restart" if name:
            cluster.run(name, restarts=1)
        case "unready" if name:
            cluster.run(name, ready=False)
        case "ready" if name:
            cluster.run(name)
        case _:
            pass


def check_incarnations(cluster: PlannedCluster) -> None:
    """At no time do pods of two lives of one group live side by side."""
    lives: dict[str, set[str]] = {}
    for pod in cluster.pods.values():
        metadata = pod["metadata"]
        if "deletionTimestamp" not in metadata:
            group = metadata["labels"]["leaderworkerset.sigs.k8s.io/group-index"]
            lives.setdefault(group, set()).add(metadata["annotations"]["groups.kajitori.dev/incarnation"])
    assert all(len(found) == 1 for found in lives.values()), lives
