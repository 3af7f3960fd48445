import asyncio

from hypothesis import given
from hypothesis import strategies as st

from kajitori.api.kubernetes.core_v1 import PodCondition
from kajitori.api.kubernetes.meta_v1 import LabelSelector, OwnerReference
from kajitori.api.resource import CORE_EVENTS, PODS, REPLICA_SETS, SERVICE_ACCOUNTS
from kajitori.base.clock import rfc3339
from kajitori.control.cache import Metadata
from kajitori.kube.objects import owner_reference
from kajitori.laptop.controllers import garbage, replica_sets, service_accounts
from kajitori.laptop.controllers.pods import claim_pods, is_available
from kajitori.laptop.controllers.replica_sets.plan import plan_scaling
from kajitori.laptop.controllers.views import (
    ContainerStatusView,
    PodSpecView,
    PodStatusView,
    PodView,
    ReplicaSetSpecView,
    ReplicaSetView,
)

NOW = 1_700_000_000.0


def replica_set(replicas, **spec):
    return ReplicaSetView(
        metadata=Metadata(name="web", namespace="default", uid="rs"),
        spec=ReplicaSetSpecView(
            replicas=replicas, selector=LabelSelector(match_labels={"app": "web"}), **spec
        ),
    )


def pod(
    name,
    *,
    phase="Running",
    ready=True,
    node="n1",
    restarts=0,
    cost=None,
    ready_for=100,
    owner="rs",
    labels=None,
    deleting=False,
):
    owners = [OwnerReference(uid=owner, kind="ReplicaSet", name="web", controller=True)] if owner else []
    condition = PodCondition(
        type="Ready", status="True" if ready else "False", last_transition_time=rfc3339(NOW - ready_for)
    )
    return PodView(
        metadata=Metadata(
            name=name, namespace="default", uid=name, owner_references=owners, creation_timestamp=rfc3339(NOW - 1000),
            labels={"app": "web"} if labels is None else labels,
            annotations={"controller.kubernetes.io/pod-deletion-cost": str(cost)} if cost is not None else {},
            deletion_timestamp=rfc3339(NOW) if deleting else None,
        ),
        spec=PodSpecView(node_name=node),
        status=PodStatusView(phase=phase, conditions=[condition], container_statuses=[ContainerStatusView(restart_count=restarts)]),
    )  # fmt: skip


def victims(pods, keep):
    return [p.metadata.name for p in plan_scaling(replica_set(keep), pods, pods, NOW).delete]


def test_what_serves_least_goes_first():
    pods = [
        pod("serving"),
        pod("unbound", node="", phase="Pending", ready=False),
        pod("pending", phase="Pending", ready=False),
        pod("unready", ready=False),
        pod("restarting", restarts=5),
        pod("cheap", cost=-10),
        pod("dear", cost=10),
    ]
    assert victims(pods, 1) == ["unbound", "pending", "unready", "cheap", "restarting", "serving"]


def test_a_crowded_node_gives_first_and_the_newcomer_before_the_veteran():
    assert victims([pod("a", node="n1"), pod("b", node="n2"), pod("c", node="n2")], 2)[0] in ("b", "c")
    assert victims([pod("old", ready_for=10_000), pod("new", ready_for=5)], 1) == ["new"]


@given(
    st.integers(0, 12),
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from(["Running", "Pending", "Failed"])),
        max_size=12,
    ),
)
def test_scaling_ends_exactly_at_the_wanted_number(wanted, drawn):
    pods = [
        pod(f"p{n}", ready=ready, deleting=deleting, phase=phase)
        for n, (ready, deleting, phase) in enumerate(drawn)
    ]
    scaling = plan_scaling(replica_set(wanted), pods, pods, NOW)
    active = [p for p in pods if p.is_active]
    assert len(active) + scaling.create - len(scaling.delete) == wanted
    assert not (scaling.create and scaling.delete)
    assert all(p in active for p in scaling.delete)
    if any(not p.is_ready and p.status.phase == "Running" for p in active if p not in scaling.delete):
        assert not any(p.is_ready and p.status.phase == "Running" for p in scaling.delete)


def test_pods_of_others_are_left_alone_and_strays_are_taken():
    pods = [
        pod("mine"),
        pod("other", owner="someone"),
        pod("stray", owner=None),
        pod("unlike", labels={"app": "db"}),
    ]
    web = replica_set(1)
    claims = claim_pods(web, web.spec.selector, pods, adoptable=lambda pod: pod.is_active)
    assert [[p.metadata.name for p in group] for group in (claims.mine, claims.adopt, claims.release)] == [
        ["mine"], ["stray"], ["unlike"]
    ]  # fmt: skip


def test_available_means_ready_for_long_enough():
    assert is_available(pod("a", ready_for=30), 30, NOW) and not is_available(pod("a", ready_for=29), 30, NOW)
    assert not is_available(pod("a", ready=False), 0, NOW)


def manifest(name="web", replicas=3, **spec):
    return {
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}, "annotations": {"a": "b"}},
                         "spec": {"containers": [{"name": "c", "image": "busybox"}]}},
            **spec,
        },
    }  # fmt: skip


async def started(world):
    await world.start(service_accounts, replica_sets, garbage)
    await world.until(lambda: world.client.get(SERVICE_ACCOUNTS, "default", "default"))


def count(world, number, **status):
    async def check():
        stored = (await world.client.get(REPLICA_SETS, "web", "default"))["status"]
        pods = [p for p in await world.pods() if "deletionTimestamp" not in p["metadata"]]
        assert len(pods) == number, len(pods)
        for key, value in status.items():
            assert stored.get(key, 0) == value, stored
        return True

    return check


async def test_pods_are_created_replaced_and_removed_and_the_status_counts_them(world):
    await started(world)
    await world.client.create(REPLICA_SETS, manifest())
    await world.until(count(world, 3, replicas=3, fullyLabeledReplicas=3, readyReplicas=0))
    pods = await world.pods()
    assert pods[0]["metadata"]["annotations"] == {"a": "b"}
    assert pods[0]["metadata"]["ownerReferences"][0]["controller"] is True
    await world.run_pods()
    await world.until(count(world, 3, readyReplicas=3, availableReplicas=3))
    await world.client.delete(PODS, pods[0]["metadata"]["name"], "default")
    await world.until(count(world, 3, readyReplicas=2))
    await world.client.set_scale(REPLICA_SETS, "web", 1, "default")
    await world.until(count(world, 1, replicas=1, readyReplicas=1))
    events = {e["reason"] for e in (await world.client.list(CORE_EVENTS, "default")).items}
    assert {"SuccessfulCreate", "SuccessfulDelete"} <= events


async def test_a_failed_pod_is_replaced(world):
    await started(world)
    await world.client.create(REPLICA_SETS, manifest(replicas=1))
    await world.until(count(world, 1))
    first = (await world.pods())[0]["metadata"]["name"]
    await world.set_pod(first, ready=False, phase="Failed")
    await world.until(count(world, 2, replicas=1))


async def test_a_stray_pod_is_adopted_and_one_whose_label_is_taken_away_is_released(world):
    await started(world)
    stray = {"metadata": {"name": "stray", "namespace": "default", "labels": {"app": "web"}},
             "spec": {"containers": [{"name": "c", "image": "busybox"}]}}  # fmt: skip
    await world.client.create(PODS, stray)
    await world.client.create(REPLICA_SETS, manifest(replicas=2))
    await world.until(count(world, 2, replicas=2))
    owner = (await world.client.get(PODS, "stray", "default"))["metadata"]["ownerReferences"][0]
    assert owner["name"] == "web"
    await world.client.patch(PODS, "stray", {"metadata": {"labels": {"app": "mine"}}}, namespace="default")

    async def released():
        assert not (await world.client.get(PODS, "stray", "default"))["metadata"].get("ownerReferences")
        return len(await world.pods(selector="app=web")) == 2

    await world.until(released)


async def test_a_set_deleted_with_orphaning_leaves_its_pods_and_the_next_one_takes_them(world):
    await started(world)
    await world.client.create(REPLICA_SETS, manifest(replicas=2))
    await world.until(count(world, 2, replicas=2))
    before = {p["metadata"]["uid"] for p in await world.pods()}
    await world.client.delete(REPLICA_SETS, "web", "default", propagation_policy="Orphan")

    async def orphaned():
        owned = any(p["metadata"].get("ownerReferences") for p in await world.pods())
        return not owned and not (await world.client.list(REPLICA_SETS, "default")).items

    await world.until(orphaned)
    await world.client.create(REPLICA_SETS, manifest(replicas=2))
    await world.until(count(world, 2, replicas=2))
    assert {p["metadata"]["uid"] for p in await world.pods()} == before


async def test_pods_that_cannot_be_created_are_told_in_status_and_event(world):
    await started(world)
    bad = manifest(replicas=2)
    bad["spec"]["template"]["spec"]["serviceAccountName"] = "missing"
    await world.client.create(REPLICA_SETS, bad)

    async def told():
        conditions = (await world.client.get(REPLICA_SETS, "web", "default"))["status"]["conditions"]
        assert conditions[0]["type"] == "ReplicaFailure" and "missing" in conditions[0]["message"]
        return "FailedCreate" in {
            e["reason"] for e in (await world.client.list(CORE_EVENTS, "default")).items
        }

    await world.until(told)


async def test_a_hundred_pods_are_created_once_each_though_the_controller_starts_anew_in_between(world):
    await started(world)
    await world.client.create(REPLICA_SETS, manifest(replicas=100))
    await asyncio.sleep(0.1)
    await world.stop()
    await world.start(replica_sets)
    await world.until(count(world, 100, replicas=100))
    await asyncio.sleep(0.3)
    assert len(await world.pods()) == 100
    owner = await world.client.get(REPLICA_SETS, "web", "default")
    assert owner_reference(owner)["uid"] == (await world.pods())[0]["metadata"]["ownerReferences"][0]["uid"]
