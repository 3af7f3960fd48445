"""What a StatefulSet does next, decided on made-up worlds; whole rolls are played to their end."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.api.kubernetes.core_v1 import PodCondition
from kajitori.api.kubernetes.meta_v1 import OwnerReference
from kajitori.base.clock import rfc3339
from kajitori.control.cache import Metadata
from kajitori.laptop.controllers.revisions import RevisionView, data_hash, data_of, keeps, obsolete
from kajitori.laptop.controllers.stateful_sets import identity, retention
from kajitori.laptop.controllers.stateful_sets.plan import (
    CreatePod,
    DeletePod,
    FixPod,
    MakeClaims,
    OwnClaim,
    World,
    find_update_revision,
    plan_actions,
)
from kajitori.laptop.controllers.stateful_sets.status import plan_status
from kajitori.laptop.controllers.stateful_sets.views import StatefulSetView
from kajitori.laptop.controllers.views import (
    ClaimSourceView,
    PodSpecView,
    PodStatusView,
    PodView,
    View,
    VolumeView,
)

NOW = 1_700_000_000.0
TEMPLATE = {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
NEWER = {**TEMPLATE, "spec": {"containers": [{"name": "c", "image": "i:2"}]}}


def revision(name, template=TEMPLATE, number=1):
    return RevisionView(metadata=Metadata(name=name, uid=name), revision=number, data=data_of(template))


OLD, NEW = revision("db-old"), revision("db-new", NEWER, 2)


def stateful_set(replicas=3, *, status=None, uid="set", **spec):
    wanted = {"replicas": replicas, "selector": {"matchLabels": {"app": "db"}}, "template": TEMPLATE, **spec}
    metadata = {"name": "db", "namespace": "default", "uid": uid, "generation": 4}
    return msgspec.convert({"metadata": metadata, "spec": wanted, "status": status or {}}, StatefulSetView)


def pod(name, rev=OLD, *, ready=True, phase="Running", deleting=False, ready_for=100, volumes=(), uid=None):
    condition = PodCondition(type="Ready", status=str(ready), last_transition_time=rfc3339(NOW - ready_for))
    labels = {"app": "db", identity.POD_NAME_LABEL: name, identity.REVISION_LABEL: rev.metadata.name}
    return PodView(
        metadata=Metadata(
            name=name, namespace="default", uid=uid or name, labels=labels,
            deletion_timestamp=rfc3339(NOW) if deleting else None,
        ),
        spec=PodSpecView(
            volumes=[
                VolumeView(name=v, persistent_volume_claim=ClaimSourceView(claim_name=f"{v}-{name}"))
                for v in volumes
            ]
        ),
        status=PodStatusView(phase=phase, conditions=[condition]),
    )  # fmt: skip


def claim(name, *owners, deleting=False):
    return View(
        metadata=Metadata(
            name=name, namespace="default", uid=name, owner_references=list(owners),
            deletion_timestamp=rfc3339(NOW) if deleting else None,
        )
    )  # fmt: skip


def world(the_set, pods, claims=(), current=OLD, update=None):
    return World(
        stateful_set=the_set, pods=list(pods), claims={c.metadata.name: c for c in claims},
        current=current, update=update or current, now=NOW,
    )  # fmt: skip


def told(actions):
    """Actions in short: +name, -name, ~name, claim=..."""
    out = []
    for action in actions:
        match action:
            case CreatePod():
                out.append(
                    f"+{action.body['metadata']['name']}@{action.body['metadata']['labels'][identity.REVISION_LABEL]}"
                )
            case DeletePod():
                out.append(f"-{action.pod.metadata.name}")
            case FixPod():
                out.append(f"~{action.pod.metadata.name}")
            case MakeClaims():
                out.append(f"claims {action.pod_name}")
            case OwnClaim():
                out.append(f"{action.claim.metadata.name}:{','.join(o.name for o in action.owners)}")
    return out  # fmt: skip


def test_an_ordered_set_makes_one_pod_and_waits_until_it_is_available():
    the_set = stateful_set(3, minReadySeconds=30)
    assert told(plan_actions(world(the_set, []))) == ["+db-0@db-old"]
    assert plan_actions(world(the_set, [pod("db-0", phase="Pending", ready=False)])) == []
    assert plan_actions(world(the_set, [pod("db-0", ready=False)])) == []
    assert plan_actions(world(the_set, [pod("db-0", ready_for=29)])) == []
    assert told(plan_actions(world(the_set, [pod("db-0", ready_for=30)]))) == ["+db-1@db-old"]


def test_a_parallel_set_makes_all_pods_and_deletes_all_surplus_at_once():
    parallel = {"podManagementPolicy": "Parallel"}
    assert told(plan_actions(world(stateful_set(3, **parallel), []))) == [
        "+db-0@db-old", "+db-1@db-old", "+db-2@db-old",
    ]  # fmt: skip
    pods = [pod(f"db-{n}", ready=n != 2) for n in range(4)]
    assert told(plan_actions(world(stateful_set(1, **parallel), pods))) == ["-db-3", "-db-2", "-db-1"]


def test_ordinals_start_where_the_spec_says_and_what_lies_below_goes():
    the_set = stateful_set(2, ordinals={"start": 5})
    assert told(plan_actions(world(the_set, []))) == ["+db-5@db-old"]
    pods = [pod("db-5"), pod("db-6"), pod("db-0"), pod("db-1")]
    assert told(plan_actions(world(the_set, pods))) == ["-db-1"]


def test_scaling_down_takes_the_highest_first_and_waits_for_the_others_to_be_well():
    the_set = stateful_set(1)
    pods = [pod("db-0"), pod("db-1"), pod("db-2")]
    assert told(plan_actions(world(the_set, pods))) == ["-db-2"]
    assert plan_actions(world(the_set, [*pods[:2], pod("db-2", deleting=True)])) == []
    assert (
        plan_actions(world(the_set, [pod("db-0"), pod("db-1", ready=False), pod("db-2", ready=False)])) == []
    )
    assert told(plan_actions(world(the_set, [pod("db-0"), pod("db-1", ready=False)]))) == ["-db-1"]
    assert plan_actions(world(the_set, [pod("db-0", ready=False), pod("db-1")])) == []


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_ended_is_deleted_and_made_again_once_it_is_gone(phase):
    assert told(plan_actions(world(stateful_set(1), [pod("db-0", phase=phase, ready=False)]))) == ["-db-0"]
    gone = pod("db-0", phase=phase, ready=False, deleting=True)
    assert plan_actions(world(stateful_set(1), [gone])) == []


def test_a_set_that_is_being_deleted_does_nothing():
    ending = stateful_set(3)
    ending = msgspec.structs.replace(
        ending, metadata=msgspec.structs.replace(ending.metadata, deletion_timestamp=rfc3339(NOW))
    )
    assert plan_actions(world(ending, [pod("db-7")])) == []


def test_an_update_goes_from_the_highest_ordinal_to_the_partition_one_by_one():
    the_set = stateful_set(3, updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 1}})
    pods = [pod("db-0"), pod("db-1"), pod("db-2")]
    assert told(plan_actions(world(the_set, pods, update=NEW))) == ["-db-2"]
    assert told(plan_actions(world(the_set, pods[:2], update=NEW))) == ["+db-2@db-new"]
    pods[2] = pod("db-2", NEW)
    assert told(plan_actions(world(the_set, pods, update=NEW))) == ["-db-1"]
    pods[1] = pod("db-1", NEW)
    assert plan_actions(world(the_set, pods, update=NEW)) == []
    assert told(plan_actions(world(the_set, pods[1:], update=NEW))) == ["+db-0@db-old"]


def test_without_a_rolling_update_section_new_pods_follow_what_is_current():
    the_set = stateful_set(
        2, updateStrategy={"type": "RollingUpdate"}, status={"replicas": 2, "currentReplicas": 1}
    )
    assert told(plan_actions(world(the_set, [], update=NEW))) == ["+db-0@db-old"]
    assert told(plan_actions(world(the_set, [pod("db-0")], update=NEW))) == ["+db-1@db-new"]


def test_on_delete_updates_only_what_somebody_deletes():
    the_set = stateful_set(2, updateStrategy={"type": "OnDelete"})
    assert plan_actions(world(the_set, [pod("db-0"), pod("db-1")], update=NEW)) == []
    assert told(plan_actions(world(the_set, [pod("db-0")], update=NEW))) == ["+db-1@db-new"]


def test_max_unavailable_lets_several_go_at_once_and_counts_those_that_are_down():
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": "50%"}}
    the_set = stateful_set(4, updateStrategy=rolling, podManagementPolicy="Parallel")
    pods = [pod(f"db-{n}") for n in range(4)]
    assert told(plan_actions(world(the_set, pods, update=NEW))) == ["-db-3", "-db-2"]
    pods[0] = pod("db-0", ready=False)
    assert told(plan_actions(world(the_set, pods, update=NEW))) == ["-db-3"]
    pods[1] = pod("db-1", ready=False)
    assert plan_actions(world(the_set, pods, update=NEW)) == []


CLAIMS = [
    {"metadata": {"name": "data", "labels": {"tier": "db"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}
]


def test_a_new_pod_carries_its_identity_and_its_claims():
    template = {
        **TEMPLATE,
        "spec": {
            **TEMPLATE["spec"],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
        },
    }
    the_set = stateful_set(1, serviceName="dbs", volumeClaimTemplates=CLAIMS, template=template)
    (create,) = plan_actions(world(the_set, [], current=revision("db-old", template)))
    metadata, spec = create.body["metadata"], create.body["spec"]
    assert metadata["labels"] == {
        "app": "db",
        "statefulset.kubernetes.io/pod-name": "db-0",
        "apps.kubernetes.io/pod-index": "0",
        "controller-revision-hash": "db-old",
    }
    assert (metadata["generateName"], spec["hostname"], spec["subdomain"]) == ("db-", "db-0", "dbs")
    assert spec["volumes"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    assert create.claims["data-db-0"]["metadata"]["labels"] == {"tier": "db", "app": "db"}
    assert [o["kind"] for o in metadata["ownerReferences"]] == ["StatefulSet"]  # fmt: skip


def test_a_pod_that_waits_gets_its_lost_claim_again():
    the_set = stateful_set(1, volumeClaimTemplates=CLAIMS)
    waiting = pod("db-0", phase="Pending", ready=False, volumes=["data"])
    assert told(plan_actions(world(the_set, [waiting]))) == ["claims db-0"]
    assert plan_actions(world(the_set, [waiting], [claim("data-db-0")])) == []


def test_a_pod_without_its_labels_or_claims_is_fixed():
    nameless = pod("db-0")
    nameless.metadata.labels.pop(identity.POD_NAME_LABEL)
    assert told(plan_actions(world(stateful_set(1), [nameless]))) == ["~db-0"]
    the_set = stateful_set(1, volumeClaimTemplates=CLAIMS)
    assert told(plan_actions(world(the_set, [pod("db-0")]))) == ["~db-0"]


def owner(kind, name, uid, controller=True):
    version = "apps/v1" if kind == "StatefulSet" else "v1"
    return OwnerReference(api_version=version, kind=kind, name=name, uid=uid, controller=controller)


SET_OWNER, POD_OWNER = owner("StatefulSet", "db", "set"), owner("Pod", "db-0", "db-0")


@pytest.mark.parametrize(
    ("deleted", "scaled", "inside", "beyond"),
    [
        ("Retain", "Retain", [], []),
        ("Delete", "Retain", ["db"], ["db"]),
        ("Retain", "Delete", [], ["db-0"]),
        ("Delete", "Delete", ["db"], ["db-0"]),
    ],
)
def test_claims_are_owned_as_the_retention_policy_says(deleted, scaled, inside, beyond):
    policy = {"whenDeleted": deleted, "whenScaled": scaled}
    for replicas, wanted in ((1, inside), (0, beyond)):
        the_set = stateful_set(
            replicas, persistentVolumeClaimRetentionPolicy=policy, volumeClaimTemplates=CLAIMS
        )
        held = pod("db-0", volumes=["data"])
        for before in ([], [SET_OWNER], [POD_OWNER], [owner("StatefulSet", "db", "set", controller=False)]):
            found = retention.wanted_owners(claim("data-db-0", *before), the_set, held)
            owners = [o.name for o in (before if found is None else found)]
            assert owners == wanted, (replicas, before)
            settled = before if found is None else found
            assert retention.wanted_owners(claim("data-db-0", *settled), the_set, held) is None


def test_claims_with_owners_that_nobody_expects_are_left_alone():
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    the_set = stateful_set(1, persistentVolumeClaimRetentionPolicy=policy, volumeClaimTemplates=CLAIMS)
    held, other = pod("db-0", volumes=["data"]), owner("Widget", "w", "w")
    assert retention.wanted_owners(claim("c", owner("StatefulSet", "db", "earlier")), the_set, held) is None
    assert retention.wanted_owners(claim("c", other), the_set, held) is None
    assert retention.wanted_owners(claim("c", other, SET_OWNER), the_set, held) == [other]
    assert retention.has_foreign_controller(claim("c", other), the_set, held)


def test_a_pod_waits_for_the_claim_of_its_scaled_away_predecessor_to_go():
    policy = {"whenScaled": "Delete", "whenDeleted": "Retain"}
    the_set = stateful_set(1, persistentVolumeClaimRetentionPolicy=policy, volumeClaimTemplates=CLAIMS)
    dying = claim("data-db-0", owner("Pod", "db-0", "earlier"), deleting=True)
    assert plan_actions(world(the_set, [], [dying])) == []
    assert told(plan_actions(world(the_set, [], [claim("data-db-0")]))) == ["+db-0@db-old"]


def test_a_finished_update_becomes_the_current_revision():
    the_set = stateful_set(2)
    half = plan_status(world(the_set, [pod("db-0"), pod("db-1", NEW)], update=NEW), 0, 0)
    assert (half.current_revision, half.current_replicas, half.updated_replicas) == ("db-old", 1, 1)
    done = plan_status(world(the_set, [pod("db-0", NEW), pod("db-1", NEW)], update=NEW), 0, 0)
    assert (done.current_revision, done.update_revision, done.current_replicas) == ("db-new", "db-new", 2)


def test_going_back_to_an_old_template_gives_its_revision_a_new_number():
    revisions = [revision("a"), revision("b", NEWER, 2)]
    back = find_update_revision(stateful_set(1), revisions)
    assert (back.found.metadata.name, back.number) == ("a", 3)
    same = find_update_revision(stateful_set(1, template=NEWER), revisions)
    assert (same.found.metadata.name, same.number) == ("b", 2)
    fresh = find_update_revision(stateful_set(1, template={**TEMPLATE, "spec": {}}), revisions)
    assert (fresh.found, fresh.number) == (None, 3)
    assert keeps(revisions[0], {**TEMPLATE, "metadata": {"labels": {"app": "db"}, "creationTimestamp": None}})


def test_history_keeps_what_is_in_use_and_the_newest_of_the_rest():
    revisions = [revision(name, number=n) for n, name in enumerate("abcde")]
    assert [one.metadata.name for one in obsolete(revisions, {"a"}, 2)] == ["b", "c"]
    assert obsolete(revisions, set(), 5) == []


def test_names_of_revisions_are_those_that_a_real_controller_gives():
    # Seen on a real cluster: FNV-1 over Go's JSON, which writes <, > and & as escapes.
    assert data_hash({"a": "<&>"}, 0) != data_hash({"a": "<&>"}, 1)
    assert set(data_hash(data_of(TEMPLATE), 0)) <= set("bcdfghjklmnpqrstvwxz2456789")


@settings(max_examples=60, deadline=None)
@given(
    replicas=st.integers(0, 4),
    before=st.integers(0, 4),
    parallel=st.booleans(),
    partition=st.integers(0, 3),
    start=st.sampled_from([0, 3]),
    most=st.sampled_from([None, 2]),
)
def test_every_roll_and_scaling_ends_where_the_spec_says(replicas, before, parallel, partition, start, most):
    rolling = {"partition": partition} | ({"maxUnavailable": most} if most else {})
    spec = {
        "podManagementPolicy": "Parallel" if parallel else "OrderedReady", "ordinals": {"start": start},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
    }  # fmt: skip
    pods = {f"db-{start + n}": pod(f"db-{start + n}") for n in range(before)}
    the_set, least = stateful_set(replicas, **spec), min(before, replicas)
    for _ in range(40):
        actions = plan_actions(world(the_set, pods.values(), update=NEW))
        if not actions:
            break
        for action in actions:
            if isinstance(action, DeletePod):
                del pods[action.pod.metadata.name]
            else:
                name = action.body["metadata"]["name"]
                made = action.body["metadata"]["labels"][identity.REVISION_LABEL]
                pods[name] = pod(name, NEW if made == "db-new" else OLD)
        if not parallel:
            assert len(actions) <= (most or 1)
        inside = [name for name in pods if the_set.has_ordinal(identity.parent_and_ordinal(name)[1])]
        assert len(inside) >= least - (most or 1)
        least = max(least, len(inside))
    assert sorted(pods) == sorted(f"db-{start + n}" for n in range(replicas))
    for n in range(replicas):
        wanted = "db-new" if n >= partition else "db-old"
        assert identity.revision_of(pods[f"db-{start + n}"]) == wanted
