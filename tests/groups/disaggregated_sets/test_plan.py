"""Plans of whole sets, without a server: what is made, what is left alone, what is said."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.groups.disaggregated_sets.conftest import EXTERNAL, a_role, a_set, rolling
from tests.groups.disaggregated_sets.planned import PlannedSet

from kajitori.api.disaggregatedset import v1

Object = dict[str, Any]
QUEUE = {"kueue.x-k8s.io/queue-name": "team"}
PLACED = {"type": "ExclusiveTopology", "topology": "rack"}


def converged(manifest: Object) -> PlannedSet:
    cluster = PlannedSet(manifest)
    cluster.converge()
    return cluster


def by_role(cluster: PlannedSet, slice: int = 0) -> dict[str, Object]:
    """LeaderWorkerSets of a slice with one revision."""
    return {child.role: cluster.sets[child.name] for child in cluster.children() if child.slice == slice}


def image(cluster: PlannedSet, role: str) -> set[str]:
    return {
        body["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["image"]
        for body in cluster.sets.values()
        if body["metadata"]["labels"][v1.ROLE_LABEL] == role
    }


def test_labels_are_on_the_sets_and_their_pods_and_win_over_the_users() -> None:
    labels = {**QUEUE, v1.ROLE_LABEL: "other", "app": "mine"}
    group = {
        "leaderTemplate": {"metadata": {"labels": {"app": "mine", "k": "v"}}, "spec": {"containers": []}}
    }
    cluster = converged(
        a_set(
            a_role("prefill", metadata={"labels": labels, "annotations": {"a": "b"}}, group=group),
            a_role("decode"),
        )
    )
    made = by_role(cluster)["prefill"]
    revision = made["metadata"]["labels"][v1.REVISION_LABEL]
    ours = {
        "app": "x-0-prefill",
        v1.NAME_LABEL: "x",
        v1.ROLE_LABEL: "prefill",
        v1.SLICE_LABEL: "0",
        v1.REVISION_LABEL: revision,
    }
    assert made["metadata"]["name"] == f"x-0-{revision}-prefill"
    assert len(revision) == v1.REVISION_LENGTH
    assert made["metadata"]["labels"] == {**QUEUE, **ours}
    assert made["metadata"]["annotations"]["a"] == "b"
    template = made["spec"]["leaderWorkerTemplate"]
    assert template["workerTemplate"]["metadata"]["labels"] == ours
    assert template["leaderTemplate"]["metadata"]["labels"] == {"k": "v", **ours}
    assert "rolloutStrategy" not in made["spec"]


def test_fields_that_a_newer_definition_knows_reach_the_sets() -> None:
    cluster = converged(a_set(a_role("prefill", someday={"a": 1}), a_role("decode")))
    assert by_role(cluster)["prefill"]["spec"]["someday"] == {"a": 1}


def test_only_templates_and_names_of_roles_make_a_revision() -> None:
    manifest = a_set()
    cluster = converged(manifest)
    before = set(cluster.sets)
    changed = a_set(
        a_role(
            "prefill", 3, metadata={"labels": QUEUE}, startupPolicy="LeaderReady", rolloutStrategy=rolling(2)
        ),
        a_role("decode"),
        slices=2,
        placementPolicy=PLACED,
    )
    cluster.write(changed)
    cluster.converge()
    assert before < set(cluster.sets)
    assert len({child.revision for child in cluster.children()}) == 1
    assert by_role(cluster)["prefill"]["spec"]["replicas"] == 3
    assert by_role(cluster)["prefill"]["spec"]["startupPolicy"] == "LeaderReady"


def test_labels_and_annotations_of_a_role_follow_without_a_rollout_and_go_again() -> None:
    cluster = converged(a_set())
    named = a_role("prefill", metadata={"labels": QUEUE, "annotations": {"a": "b"}})
    cluster.write(a_set(named, a_role("decode")))
    cluster.converge()
    made = by_role(cluster)["prefill"]["metadata"]
    assert QUEUE.items() <= made["labels"].items()
    assert made["annotations"]["a"] == "b"
    cluster.write(a_set())
    cluster.converge()
    made = by_role(cluster)["prefill"]["metadata"]
    assert not QUEUE.keys() & made["labels"].keys()
    assert "a" not in made["annotations"]


def test_an_affinity_is_added_beside_the_users_when_a_set_is_made() -> None:
    own = {"topologyKey": "host", "labelSelector": {"matchLabels": {"k": "v"}}}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    role = a_role("prefill")
    role["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["affinity"] = {
        "podAffinity": {required: [own]}
    }
    cluster = converged(a_set(role, a_role("decode"), slices=2, placementPolicy=PLACED))
    for slice in (0, 1):
        made = by_role(cluster, slice)["prefill"]["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]
        together = made["affinity"]["podAffinity"][required]
        assert together[0] == own
        assert together[1]["topologyKey"] == "rack"
        keys = [
            [
                (one["key"].rpartition("/")[2], one["operator"])
                for one in term["labelSelector"]["matchExpressions"]
            ]
            for term in made["affinity"]["podAntiAffinity"][required]
        ]
        others = [("slice", "Exists")] if slice == 0 else []
        assert keys == [
            [("name", "In"), *others, ("slice", "NotIn")],
            [("name", "Exists"), ("name", "NotIn")],
            [("name", "Exists")],
        ]
    same = a_set(
        role, a_role("decode"), slices=2, placementPolicy={"type": "ExclusiveSlice", "topology": "zone"}
    )
    cluster.write(same)
    cluster.converge()
    assert "placementPolicy: LeaderWorkerSet x-0-" in cluster.condition("kajitori.dev/FieldsNotHonoured")[2]


def test_a_set_that_an_upstream_controller_made_is_taken_over_without_a_rollout() -> None:
    """Of v0.9.0: no slice in name and labels, and another hash."""
    cluster = converged(a_set())
    for name in list(cluster.sets):
        body = cluster.sets.pop(name)
        metadata = body["metadata"]
        role = metadata["labels"][v1.ROLE_LABEL]
        labels = {v1.NAME_LABEL: "x", v1.ROLE_LABEL: role, v1.REVISION_LABEL: "0abcdef1"}
        metadata |= {"name": f"x-0abcdef1-{role}", "labels": labels, "annotations": {}}
        template = body["spec"]["leaderWorkerTemplate"]["workerTemplate"]
        template["metadata"] = {"labels": dict(labels), "creationTimestamp": None}
        template["spec"]["containers"][0]["resources"] = {}
        cluster.sets[metadata["name"]] = body
    cluster.services.clear()
    before = copy.deepcopy(cluster.sets)
    cluster.converge()
    assert {name: body["spec"] for name, body in cluster.sets.items()} == {
        name: body["spec"] for name, body in before.items()
    }
    assert sorted(cluster.services) == ["x-0abcdef1-decode-prv", "x-0abcdef1-prefill-prv"]
    assert v1.SLICE_LABEL not in cluster.services["x-0abcdef1-decode-prv"]["spec"]["selector"]
    cluster.write(a_set(slices=2))
    cluster.converge()
    assert before.keys() < cluster.sets.keys()
    # Its selector would find pods of slice 1.
    assert sorted(cluster.services) == [f"x-1-0abcdef1-{role}-prv" for role in ("decode", "prefill")]
    assert "spec.slices" in cluster.condition("kajitori.dev/FieldsNotHonoured")[2]
    cluster.write(a_set(a_role("prefill", image="engine:2"), a_role("decode"), slices=2))
    cluster.converge()
    assert all(child.sliced for child in cluster.children())
    assert len(cluster.services) == 4


def test_services_have_no_ports_and_appear_when_every_role_has_a_ready_group() -> None:
    cluster = PlannedSet(a_set())
    cluster.look()
    prefill, decode = (
        next(name for name in cluster.sets if name.endswith(role)) for role in ("prefill", "decode")
    )
    cluster.serve(prefill)
    cluster.look()
    assert not cluster.services
    cluster.serve(decode)
    cluster.look()
    assert sorted(cluster.services) == sorted([f"{prefill}-prv", f"{decode}-prv"])
    spec = cluster.services[f"{prefill}-prv"]["spec"]
    assert spec["clusterIP"] == "None"
    assert "ports" not in spec
    assert sorted(key.rpartition("/")[2] for key in spec["selector"]) == ["name", "revision", "role", "slice"]


def test_a_selector_that_somebody_changed_is_set_right() -> None:
    cluster = converged(a_set())
    name, found = next(iter(cluster.services.items()))
    wanted = dict(found["spec"]["selector"])
    found["spec"]["selector"] = {v1.NAME_LABEL: "x", "more": "than that"}
    cluster.converge()
    assert cluster.services[name]["spec"]["selector"] == wanted


def test_services_of_an_old_revision_go_before_its_last_groups_and_one_deleted_by_hand_comes_back() -> None:
    cluster = converged(a_set())
    cluster.services.popitem()
    cluster.converge()
    assert len(cluster.services) == 2

    def never_dangling() -> None:
        for name in cluster.services:
            assert cluster.sets[name.removesuffix("-prv")]["spec"]["replicas"] > 0

    cluster.always = never_dangling
    cluster.write(a_set(a_role("prefill", image="engine:2"), a_role("decode")))
    cluster.converge()
    assert len(cluster.services) == 2
    assert image(cluster, "prefill") == {"engine:2"}


def test_a_rollout_waits_while_a_group_of_the_new_revision_is_not_ready_and_can_be_taken_back() -> None:
    first = a_set()
    cluster = converged(first)
    old = set(cluster.sets)
    cluster.write(a_set(a_role("prefill", image="broken"), a_role("decode")))
    for _ in range(10):
        cluster.look()
        for name in cluster.sets:
            cluster.serve(name, ready=name in old)
    replicas = cluster.replicas()
    assert sorted(replicas[name] for name in old) == [2, 2]
    assert sorted(replicas[name] for name in replicas.keys() - old) == [1, 1]
    assert cluster.condition("Progressing")[:2] == ("True", "RolloutInProgress")
    assert cluster.condition("Available")[0] == "False"
    assert len(cluster.said("RollingUpdateStarted")) == 1
    cluster.write(first)
    cluster.converge()
    assert cluster.sets.keys() == old
    assert not any(
        v1.INITIAL_REPLICAS_ANNOTATION in one["metadata"]["annotations"] for one in cluster.sets.values()
    )
    assert cluster.condition("Available")[:2] == ("True", "AllRolesReady")
    assert cluster.said("LWSDeleted")
    assert cluster.said("RollingUpdateCompleted")


def test_a_paused_rollout_stays_where_it_is() -> None:
    cluster = converged(a_set())
    cluster.paused = True
    cluster.write(a_set(a_role("prefill", image="engine:2"), a_role("decode")))
    cluster.converge()
    assert sorted(cluster.replicas().values()) == [0, 0, 2, 2]
    assert cluster.condition("Progressing")[2].endswith("is paused")
    cluster.paused = False
    cluster.converge()
    assert len(cluster.sets) == 2


def test_what_makes_no_sense_or_is_of_a_newer_definition_is_named() -> None:
    manifest = a_set(a_role("prefill", metadata={"name": "mine", "labels": QUEUE}), a_role("decode"))
    manifest["spec"]["roles"][1]["subRoles"] = [{"name": "short"}]
    manifest["metadata"]["annotations"] = {"groups.kajitori.dev/paused": "yes"}
    cluster = converged(manifest)
    message = cluster.condition("kajitori.dev/FieldsNotHonoured")[2]
    assert "spec.roles[prefill].metadata.name: " in message
    assert "spec.roles[decode].subRoles: " in message
    assert "annotation groups.kajitori.dev/paused: 'yes' is not true or false" in message
    manifest = a_set(
        a_role("prefill", networkConfig={"subdomainPolicy": "UniquePerReplica"}), a_role("decode")
    )
    cluster.write(manifest)
    cluster.converge()
    message = cluster.condition("kajitori.dev/FieldsNotHonoured")[2]
    assert message.startswith("spec.roles[prefill].spec.networkConfig: x-0-")
    assert "; " not in message
    cluster.write(a_set())
    cluster.converge()
    assert cluster.condition("kajitori.dev/FieldsNotHonoured")[:2] == ("False", "Resolved")


def test_no_groups_are_wanted_in_the_middle_of_a_rollout_that_hangs() -> None:
    cluster = converged(a_set())
    cluster.write(a_set(a_role("prefill", image="broken"), a_role("decode")))
    for _ in range(4):
        cluster.look()
    cluster.write(a_set(a_role("prefill", 0, image="broken"), a_role("decode", 0)))
    for _ in range(4):
        cluster.look()
    assert not any(cluster.replicas().values())


def test_a_set_of_a_foreign_owner_is_left_alone_and_named() -> None:
    cluster = PlannedSet(a_set())
    name = next(iter(converged(a_set()).sets))
    cluster.foreign = {name: "of somebody else"}
    cluster.look()
    assert name not in cluster.sets
    assert cluster.condition("kajitori.dev/Blocked")[2].startswith(
        f"LeaderWorkerSet {name} is of somebody else"
    )
    cluster.look()
    assert len(cluster.said("NameTaken")) == 1
    cluster.foreign = {}
    cluster.converge()
    assert cluster.condition("kajitori.dev/Blocked")[0] == "False"
    assert cluster.condition("Available")[0] == "True"


def external(replicas: int | None = None, **prefill: Any) -> Object:
    return a_set(a_role("prefill", replicas, scaling=EXTERNAL, **prefill), a_role("decode"))


def test_a_new_external_role_begins_with_one_group_and_one_that_was_static_with_what_it_has() -> None:
    cluster = converged(external())
    assert cluster.scalers["x-prefill"]["spec"]["replicas"] == 1
    status = cluster.scalers["x-prefill"]["status"]
    assert (status["replicas"], status["conditions"][0]["reason"]) == (1, "Bound")
    assert status["selector"] == (
        "disaggregatedset.x-k8s.io/name=x,disaggregatedset.x-k8s.io/role=prefill,"
        "leaderworkerset.sigs.k8s.io/worker-index=0"
    )
    cluster = converged(a_set(a_role("prefill", 5), a_role("decode")))
    cluster.write(external(5))
    cluster.converge()
    assert by_role(cluster)["prefill"]["spec"]["replicas"] == 5
    assert "spec.roles[prefill].spec.replicas" in cluster.condition("kajitori.dev/FieldsNotHonoured")[2]
    assert cluster.said("ScalerCreated") == ["Created scaler x-prefill for role prefill with 5 groups"]
    cluster.write(a_set())
    cluster.converge()
    assert not cluster.scalers
    assert by_role(cluster)["prefill"]["spec"]["replicas"] == 2
    assert cluster.said("ScalerDeleted")


def test_a_scaler_that_shrinks_in_a_rollout_does_not_undo_it() -> None:
    cluster = converged(external())
    cluster.scalers["x-prefill"]["spec"]["replicas"] = 6
    cluster.converge()
    cluster.write(external(image="engine:2"))
    high = 0

    def watch() -> None:
        nonlocal high
        groups, left = (
            sum(body["spec"]["replicas"] for body in cluster.sets.values() if image_of(body) == image)
            for image in ("engine:2", "engine:1")
        )
        if left:
            assert groups >= high, "the new revision shrank"
            high = groups

    cluster.always = watch
    for _ in range(6):
        cluster.look()
        for name in list(cluster.sets):
            cluster.serve(name)
    assert 0 < high < 6
    cluster.scalers["x-prefill"]["spec"]["replicas"] = 1
    cluster.converge()
    assert by_role(cluster)["prefill"]["spec"]["replicas"] == 1


def image_of(body: Object) -> str:
    containers = body["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"]
    return containers[0]["image"] if body["metadata"]["labels"][v1.ROLE_LABEL] == "prefill" else ""


def test_a_foreign_scaler_is_not_adopted_and_its_role_stays_as_it_is() -> None:
    cluster = converged(a_set(a_role("prefill", 3), a_role("decode")))
    cluster.foreign_scalers = {"x-prefill": "of somebody else"}
    cluster.write(external())
    cluster.converge()
    assert not cluster.scalers
    assert by_role(cluster)["prefill"]["spec"]["replicas"] == 3
    assert len(cluster.said("ScalerConflict")) == 1
    assert "x-prefill" in cluster.condition("kajitori.dev/Blocked")[2]


def test_fewer_slices_delete_the_highest_alone() -> None:
    cluster = converged(a_set(slices=3))
    kept = {child.name for child in cluster.children() if child.slice == 0}
    cluster.write(a_set(slices=1))
    cluster.converge()
    assert set(cluster.sets) == kept
    assert set(cluster.services) == {f"{name}-prv" for name in kept}
    assert not cluster.said("ScalingDown")


images = st.sampled_from(["engine:1", "engine:2", "engine:3"])


@st.composite
def manifests(draw: st.DrawFn) -> Object:
    names = draw(
        st.lists(st.sampled_from(["prefill", "decode", "encode"]), min_size=2, max_size=3, unique=True)
    )
    empty = draw(st.integers(0, 7)) == 0
    roles = [
        a_role(
            name,
            0 if empty else draw(st.integers(1, 4)),
            image=draw(images),
            rolloutStrategy=rolling(
                *draw(st.sampled_from([(1, 0), (0, 1), (2, 1), ("50%", "25%"), ("0%", "30%")]))
            ),
        )
        for name in names
    ]
    return a_set(*roles, slices=draw(st.integers(1, 2)))


@given(
    st.lists(manifests(), min_size=2, max_size=3),
    st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 3)), max_size=14),
)
@settings(max_examples=120, deadline=None)
def test_whatever_is_written_and_wherever_it_dies_revisions_stay_whole_and_it_ends(
    written: list[Object], course: list[tuple[int, bool, int]]
) -> None:
    """course: after how many requests the process dies, whether groups become ready, when the next version comes."""
    versions = iter(written)
    cluster = PlannedSet(next(versions))

    def rule() -> None:
        for name in cluster.services:
            # Its groups may be going, but nobody is led to a revision that lacks a role.
            assert name.removesuffix("-prv") in cluster.sets

    cluster.always = rule
    for requests, ready, change in course:
        if change == 0 and (version := next(versions, None)) is not None:
            cluster.write(version)
        cluster.look(requests)
        for name in list(cluster.sets):
            if ready or len(name) % 2:
                cluster.serve(name, ready)
    for version in versions:
        cluster.write(version)
    cluster.converge()
    spec = cluster.manifest["spec"]
    wanted = {
        (number, role["name"]): role["spec"]["replicas"]
        for number in range(spec["slices"])
        for role in spec["roles"]
    }
    assert {(child.slice, child.role): child.replicas for child in cluster.children()} == wanted
    assert len(cluster.sets) == len(wanted)
    assert cluster.condition("Available")[0] == "True"
    done = len(cluster.requests)
    cluster.look()
    assert len(cluster.requests) == done, "nothing to do when steady"
