"""What a plan makes of a set: pods, Services, starts, restarts, counts and conditions."""

from __future__ import annotations

import pytest
from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set, container, template

from kajitori.groups.leader_worker_sets.plan import plan_set

TWO_BY_FOUR = sorted(f"x-{group}{worker}" for group in (0, 1) for worker in ("", "-1", "-2", "-3"))


def test_two_groups_of_four_are_eight_pods_and_nothing_else() -> None:
    cluster = PlannedCluster(a_set(replicas=2, size=4)).settle()
    assert sorted(cluster.pods) == TWO_BY_FOUR
    assert list(cluster.services) == ["x"]
    assert len(cluster.revisions) == 1


def test_a_group_is_made_in_one_burst_leaders_first() -> None:
    cluster = PlannedCluster(a_set(replicas=2, size=4))
    plan = cluster.reconcile()
    assert sorted(create.name for create in plan.creates) == TWO_BY_FOUR
    assert [type(action).__name__ for action in plan.before] == ["CreateRevision", "CreateService"]


def test_size_1_makes_leaders_only() -> None:
    cluster = PlannedCluster(a_set(replicas=3, size=1)).settle()
    assert sorted(cluster.pods) == ["x-0", "x-1", "x-2"]
    assert cluster.conditions()["Available"] == "True"


def test_no_replicas_is_available_and_scales_up_and_down_again() -> None:
    cluster = PlannedCluster(a_set(replicas=0)).settle()
    assert not cluster.pods
    assert cluster.conditions() == {"Available": "True"}
    cluster.lws["spec"]["replicas"] = 2
    cluster.settle()
    assert len(cluster.pods) == 6
    cluster.lws["spec"]["replicas"] = 0
    cluster.settle()
    assert not cluster.pods


def test_scaling_touches_only_the_highest_groups() -> None:
    cluster = PlannedCluster(a_set(replicas=3, size=2)).settle()
    kept = cluster.uids(0) | cluster.uids(1)
    cluster.lws["spec"]["replicas"] = 2
    cluster.settle()
    assert {name: pod["metadata"]["uid"] for name, pod in cluster.pods.items()} == kept
    cluster.lws["spec"]["replicas"] = 4
    cluster.settle()
    assert len(cluster.pods) == 8
    assert cluster.uids(0) | cluster.uids(1) == kept
    assert "RecreateGroup" not in cluster.reasons()


def test_a_deleted_service_comes_back_and_a_changed_one_is_mended() -> None:
    cluster = PlannedCluster(a_set()).settle()
    del cluster.services["x"]
    cluster.settle()
    service = cluster.services["x"]
    assert service["spec"] == {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {"leaderworkerset.sigs.k8s.io/name": "x"},
    }
    service["spec"]["selector"] = {"app": "other"}
    cluster.settle()
    assert cluster.services["x"]["spec"]["selector"] == {"leaderworkerset.sigs.k8s.io/name": "x"}


def test_unique_subdomains_give_each_group_a_service_of_its_own() -> None:
    cluster = PlannedCluster(a_set(networkConfig={"subdomainPolicy": "UniquePerReplica"})).settle()
    assert sorted(cluster.services) == ["x-0", "x-1"]
    assert cluster.services["x-1"]["spec"]["selector"] == {
        "leaderworkerset.sigs.k8s.io/name": "x",
        "leaderworkerset.sigs.k8s.io/group-index": "1",
    }
    assert cluster.pods["x-1-2"]["spec"]["subdomain"] == "x-1"
    assert cluster.env("x-1-2")["LWS_LEADER_ADDRESS"] == "x-1.x-1.default"
    cluster.lws["spec"]["networkConfig"] = {"subdomainPolicy": "Shared"}
    cluster.settle()
    assert list(cluster.services) == ["x"]
    assert cluster.env("x-1-2")["LWS_LEADER_ADDRESS"] == "x-1.x.default"


def test_labels_and_annotations_name_the_place_of_each_pod() -> None:
    cluster = PlannedCluster(a_set(replicas=2, size=2)).settle()
    leader, worker = cluster.labels("x-1"), cluster.labels("x-1-1")
    assert (leader["name"], leader["group-index"], leader["worker-index"]) == ("x", "1", "0")
    assert (worker["name"], worker["group-index"], worker["worker-index"]) == ("x", "1", "1")
    assert leader["group-key"] == worker["group-key"] != cluster.labels("x-0")["group-key"]
    assert len(leader["group-key"]) == 40
    assert leader["template-revision-hash"] == worker["template-revision-hash"]
    assert leader["apps.kubernetes.io/pod-index"] == "1"
    assert worker["statefulset.kubernetes.io/pod-name"] == "x-1-1"
    annotations = cluster.pods["x-1-1"]["metadata"]["annotations"]
    assert annotations["leaderworkerset.sigs.k8s.io/size"] == "2"
    assert annotations["leaderworkerset.sigs.k8s.io/leader-name"] == "x-1"
    assert "leaderworkerset.sigs.k8s.io/leader-name" not in cluster.pods["x-1"]["metadata"]["annotations"]
    assert cluster.pods["x-1-1"]["spec"]["hostname"] == "x-1-1"
    assert cluster.pods["x-1-1"]["spec"]["subdomain"] == "x"


def test_the_set_owns_every_pod_so_that_deleting_it_in_the_foreground_waits_for_all() -> None:
    cluster = PlannedCluster(a_set()).settle()
    for pod in cluster.pods.values():
        (owner,) = pod["metadata"]["ownerReferences"]
        assert owner["controller"] and owner["blockOwnerDeletion"]
        assert (owner["kind"], owner["uid"]) == ("LeaderWorkerSet", "set-1")


def test_group_variables_come_first_in_every_container_and_override_the_users() -> None:
    own = [{"name": "A", "value": "$(LWS_LEADER_ADDRESS)"}, {"name": "LWS_GROUP_SIZE", "value": "99"}]
    worker = template(container(env=own), container("second"), initContainers=[container("first")])
    cluster = PlannedCluster(a_set(workerTemplate=worker)).settle()
    spec = cluster.pods["x-0-2"]["spec"]
    expected = [
        {"name": "LWS_LEADER_ADDRESS", "value": "x-0.x.default"},
        {"name": "LWS_GROUP_SIZE", "value": "3"},
        {"name": "LWS_WORKER_INDEX", "value": "2"},
    ]
    assert spec["containers"][0]["env"] == [*expected, {"name": "A", "value": "$(LWS_LEADER_ADDRESS)"}]
    assert spec["containers"][1]["env"] == expected
    assert spec["initContainers"][0]["env"] == expected


def test_the_leader_has_its_own_template_or_else_the_workers() -> None:
    leader = template(container("boss"))
    leader["metadata"] = {"labels": {"role": "leader"}, "annotations": {"a": "b"}}
    cluster = PlannedCluster(a_set(leaderTemplate=leader)).settle()
    assert cluster.pods["x-0"]["spec"]["containers"][0]["name"] == "boss"
    assert cluster.labels("x-0")["role"] == "leader"
    assert cluster.pods["x-0"]["metadata"]["annotations"]["a"] == "b"
    assert cluster.pods["x-0-1"]["spec"]["containers"][0]["name"] == "engine"


def test_leader_ready_keeps_workers_back_until_the_leader_is_ready() -> None:
    cluster = PlannedCluster(a_set(replicas=1, startupPolicy="LeaderReady"))
    cluster.reconcile()
    assert list(cluster.pods) == ["x-0"]
    cluster.run("x-0", ready=False)
    cluster.reconcile()
    assert list(cluster.pods) == ["x-0"]
    cluster.run("x-0")
    cluster.reconcile()
    assert sorted(cluster.pods) == ["x-0", "x-0-1", "x-0-2"]


def test_progressing_from_the_start_then_available_never_updating() -> None:
    cluster = PlannedCluster(a_set(replicas=2, size=2))
    cluster.reconcile()
    assert cluster.conditions() == {"Progressing": "True"}
    (condition,) = cluster.lws["status"]["conditions"]
    assert (condition["reason"], condition["message"]) == ("GroupsProgressing", "Replicas are progressing")
    assert condition["observedGeneration"] == 1
    cluster.settle()
    assert cluster.conditions() == {"Progressing": "False", "Available": "True"}
    available = next(one for one in cluster.lws["status"]["conditions"] if one["type"] == "Available")
    assert (available["reason"], available["message"]) == ("AllGroupsReady", "All replicas are ready")
    assert (
        "AllGroupsReady",
        "All replicas are ready, with 2 groups ready of total 2 groups",
    ) in cluster.events
    status = cluster.lws["status"]
    assert (status["replicas"], status["readyReplicas"], status["updatedReplicas"]) == (2, 2, 2)
    assert status["hpaPodSelector"] == (
        "leaderworkerset.sigs.k8s.io/name=x,leaderworkerset.sigs.k8s.io/worker-index=0"
    )


def test_a_group_that_is_recreated_at_the_present_revision_is_no_update() -> None:
    cluster = PlannedCluster(a_set(replicas=2, size=2)).settle()
    cluster.events.clear()
    cluster.delete("x-0-1")
    cluster.reconcile()
    cluster.settle()
    assert cluster.conditions() == {"Progressing": "False", "Available": "True"}
    assert "GroupsUpdating" not in {reason for reason, _ in cluster.events}


def test_one_unready_pod_makes_the_set_progress_again() -> None:
    cluster = PlannedCluster(a_set()).settle()
    cluster.run("x-1-2", ready=False)
    cluster.reconcile()
    assert cluster.conditions() == {"Available": "False", "Progressing": "True"}
    assert cluster.lws["status"]["readyReplicas"] == 1


def test_wiped_conditions_are_rebuilt() -> None:
    cluster = PlannedCluster(a_set()).settle()
    cluster.lws["status"]["conditions"] = []
    cluster.reconcile()
    assert cluster.conditions() == {"Available": "True"}


def test_a_settled_set_asks_for_nothing() -> None:
    cluster = PlannedCluster(a_set()).settle()
    before = cluster.lws["status"]
    plan = cluster.reconcile()
    assert not (plan.before or plan.deletes or plan.creates or plan.after or plan.events)
    assert cluster.lws["status"] == before


def test_a_set_that_is_being_deleted_gets_nothing_new() -> None:
    cluster = PlannedCluster(a_set()).settle()
    cluster.lws["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster.delete("x-0")
    plan = cluster.reconcile()
    assert not (plan.before or plan.deletes or plan.creates or plan.after)


def test_pods_of_others_are_never_adopted_or_deleted() -> None:
    cluster = PlannedCluster(a_set(replicas=1))
    foreign = {
        "metadata": {
            "name": "x-0-1",
            "namespace": "default",
            "uid": "u",
            "labels": {
                "leaderworkerset.sigs.k8s.io/name": "x",
                "leaderworkerset.sigs.k8s.io/group-index": "0",
                "leaderworkerset.sigs.k8s.io/worker-index": "1",
            },
        },
        "status": {"phase": "Running"},
    }
    cluster.pods["x-0-1"] = foreign
    plan = cluster.reconcile()
    assert not plan.creates
    assert not plan.deletes
    assert cluster.conditions()["kajitori.dev/Blocked"] == "True"
    assert any("Pod x-0-1" in message for reason, message in cluster.events if reason == "FailedCreate")
    del cluster.pods["x-0-1"]
    cluster.settle()
    assert cluster.conditions()["kajitori.dev/Blocked"] == "False"
    assert len(cluster.pods) == 3


def test_pods_of_an_earlier_set_of_the_name_are_waited_for_in_silence() -> None:
    old = PlannedCluster(a_set(replicas=1, uid="set-0")).settle()
    cluster = PlannedCluster(a_set(replicas=1))
    cluster.pods, cluster.services = old.pods, old.services
    plan = cluster.reconcile()
    assert not (plan.creates or plan.deletes)
    assert "FailedCreate" not in cluster.reasons()
    cluster.pods, cluster.services = {}, {}
    cluster.settle()
    assert len(cluster.pods) == 3


def test_a_service_of_others_keeps_the_pods_back() -> None:
    cluster = PlannedCluster(a_set())
    cluster.memory["taken"] = {"Service x": "of somebody else"}
    plan = cluster.reconcile()
    assert not plan.creates
    assert "Service x" in cluster.lws["status"]["conditions"][-1]["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"annotations": {"leaderworkerset.sigs.k8s.io/subgroup-exclusive-topology": "rack"}},
        {"annotations": {"scheduling.volcano.sh/queue-name": "q"}},
    ],
)
def test_what_is_not_honoured_is_named_aloud(fields: dict[str, object]) -> None:
    cluster = PlannedCluster(a_set(**fields)).settle()
    assert cluster.conditions()["kajitori.dev/FieldsNotHonoured"] == "True"
    assert cluster.reasons().count("FieldsNotHonoured") == 1


def test_subgroups_are_labelled() -> None:
    policy = {"subGroupPolicyType": "LeaderWorker", "subGroupSize": 2}
    cluster = PlannedCluster(a_set(replicas=1, size=4, subGroupPolicy=policy)).settle()
    found = [cluster.labels(name)["subgroup-index"] for name in ("x-0", "x-0-1", "x-0-2", "x-0-3")]
    assert found == ["0", "0", "1", "1"]
    with_extra_leader = PlannedCluster(a_set(replicas=1, size=5, subGroupPolicy=policy)).settle()
    names = ("x-0", "x-0-1", "x-0-2", "x-0-3", "x-0-4")
    assert [with_extra_leader.labels(name)["subgroup-index"] for name in names] == ["0", "0", "0", "1", "1"]
    excluded = {"subGroupPolicyType": "LeaderExcluded", "subGroupSize": 2}
    without = PlannedCluster(a_set(replicas=1, size=5, subGroupPolicy=excluded)).settle()
    assert "subgroup-index" not in without.labels("x-0")
    assert [without.labels(name)["subgroup-index"] for name in names[1:]] == ["0", "0", "1", "1"]


def test_each_pod_has_claims_of_its_own_that_outlive_it() -> None:
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    worker = template(volumes=[{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}])
    cluster = PlannedCluster(a_set(size=2, volumeClaimTemplates=[claim], workerTemplate=worker)).settle()
    assert sorted(cluster.claims) == ["data-x-0", "data-x-0-1", "data-x-1", "data-x-1-1"]
    assert cluster.claims["data-x-0"]["spec"] == claim["spec"]
    assert cluster.pods["x-0-1"]["spec"]["volumes"] == [
        {"name": "tmp", "emptyDir": {}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-x-0-1"}},
    ]
    kept = {name: one["metadata"]["uid"] for name, one in cluster.claims.items()}
    cluster.delete("x-0-1")
    cluster.settle()
    cluster.lws["spec"]["replicas"] = 1
    cluster.settle()
    assert {name: one["metadata"]["uid"] for name, one in cluster.claims.items()} == kept


def test_claims_go_when_the_set_says_so() -> None:
    fields = {
        "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
    }
    cluster = PlannedCluster(a_set(size=2, **fields)).settle()
    assert all(one["metadata"]["ownerReferences"][0]["uid"] == "set-1" for one in cluster.claims.values())
    cluster.lws["spec"]["replicas"] = 1
    cluster.settle()
    assert sorted(cluster.claims) == ["data-x-0", "data-x-0-1"]
    group = cluster.lws["spec"]["leaderWorkerTemplate"]
    group["persistentVolumeClaimRetentionPolicy"] = {"whenDeleted": "Retain"}
    cluster.settle()
    assert not any(one["metadata"]["ownerReferences"] for one in cluster.claims.values())


GROUP_KEY = "leaderworkerset.sigs.k8s.io/group-key"


def test_exclusive_topology_keeps_a_group_together_and_others_out() -> None:
    own = {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}}
    annotations = {"leaderworkerset.sigs.k8s.io/exclusive-topology": "rack"}
    lws = a_set(annotations=annotations, workerTemplate=template(affinity=own))
    cluster = PlannedCluster(lws).settle()
    for name in ("x-1", "x-1-2"):
        key = cluster.pods[name]["metadata"]["labels"][GROUP_KEY]
        affinity = cluster.pods[name]["spec"]["affinity"]
        assert affinity["podAffinity"] == {
            **own["podAffinity"],
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {
                    "labelSelector": {
                        "matchExpressions": [{"key": GROUP_KEY, "operator": "In", "values": [key]}]
                    },
                    "topologyKey": "rack",
                }
            ],
        }
        (term,) = affinity["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["labelSelector"]["matchExpressions"] == [
            {"key": GROUP_KEY, "operator": "Exists"},
            {"key": GROUP_KEY, "operator": "NotIn", "values": [key]},
        ]
        annotation = cluster.pods[name]["metadata"]["annotations"]
        assert annotation["leaderworkerset.sigs.k8s.io/exclusive-topology"] == "rack"
    assert "kajitori.dev/FieldsNotHonoured" not in cluster.conditions()


def test_subgroups_may_be_exclusive_too() -> None:
    annotations = {"leaderworkerset.sigs.k8s.io/subgroup-exclusive-topology": "host"}
    policy = {"subGroupPolicyType": "LeaderExcluded", "subGroupSize": 2}
    cluster = PlannedCluster(
        a_set(replicas=1, size=5, annotations=annotations, subGroupPolicy=policy)
    ).settle()
    assert "affinity" not in cluster.pods["x-0"]["spec"]
    first, second, third = (cluster.pods[name]["spec"]["affinity"] for name in ("x-0-1", "x-0-2", "x-0-3"))
    assert first == second != third


def tpu_container(name: str = "engine", **fields: object) -> dict[str, object]:
    return container(name, resources={"limits": {"google.com/tpu": "4"}}, **fields)


def test_tpu_variables_name_all_workers_and_the_leader_if_it_asks_too() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=3, workerTemplate=template(tpu_container()))).settle()
    env = cluster.env("x-0-2")
    assert env["TPU_WORKER_HOSTNAMES"] == "x-0.x,x-0-1.x,x-0-2.x"
    assert env["TPU_WORKER_ID"] == "2"
    assert env["TPU_NAME"] == "x-0"
    assert env["TPU_PROCESS_PORT"] == "8476"
    assert env["TPU_PROCESS_ADDRESSES"] == "x-0.x:8476,x-0-1.x:8476,x-0-2.x:8476"
    workers_only = PlannedCluster(
        a_set(replicas=1, size=3, leaderTemplate=template(), workerTemplate=template(tpu_container()))
    ).settle()
    assert workers_only.env("x-0-2")["TPU_WORKER_HOSTNAMES"] == "x-0-1.x,x-0-2.x"
    assert workers_only.env("x-0-2")["TPU_WORKER_ID"] == "1"
    assert "TPU_NAME" not in workers_only.env("x-0")


def test_tpu_variables_of_the_user_are_respected() -> None:
    own = tpu_container(env=[{"name": "TPU_WORKER_ID", "value": "7"}])
    cluster = PlannedCluster(a_set(replicas=1, workerTemplate=template(own))).settle()
    assert cluster.env("x-0-1")["TPU_WORKER_ID"] == "7"
    assert "TPU_NAME" not in cluster.env("x-0-1")


def test_the_same_world_gives_the_same_plan() -> None:
    world = PlannedCluster(a_set()).world()
    assert plan_set(world) == plan_set(world)
