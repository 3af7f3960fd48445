"""Which daemons a DaemonSet makes and deletes, decided on made-up worlds; whole rolls are played to their end."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.base.clock import rfc3339
from kajitori.laptop.controllers.daemon_sets.backoff import FailureBackoff
from kajitori.laptop.controllers.daemon_sets.history import find_present, obsolete
from kajitori.laptop.controllers.daemon_sets.placement import Rules, pod_body, target_node, with_tolerations
from kajitori.laptop.controllers.daemon_sets.plan import Layout, World, plan_changes, plan_status
from kajitori.laptop.controllers.daemon_sets.views import DaemonSetView
from kajitori.laptop.controllers.revisions import RevisionView, data_of
from kajitori.laptop.controllers.views import NodeView, PodView

NOW = 1_700_000_000.0


def daemon_set(surge=0, unavailable=1, strategy="RollingUpdate", pod_spec=None, **spec):
    rolling = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    update = {"type": strategy} | (rolling if strategy == "RollingUpdate" else {})
    template = {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [], **(pod_spec or {})}}
    obj = {
        "metadata": {"name": "d", "namespace": "default", "uid": "ds", "generation": 2},
        "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": template, "updateStrategy": update, **spec},
    }  # fmt: skip
    return msgspec.convert(obj, DaemonSetView)


def node(name, taints=(), **labels):
    spec = {"taints": [dict(zip(("key", "effect"), taint, strict=True)) for taint in taints]}
    return msgspec.convert({"metadata": {"name": name, "labels": labels}, "spec": spec}, NodeView)


def pod(name, on, hash="new", *, phase="Running", ready=True, deleting=False, bound=True, created=0):
    metadata = {
        "name": name, "namespace": "default", "uid": name, "labels": {"app": "d", "controller-revision-hash": hash},
        "creationTimestamp": rfc3339(NOW + created),
    }  # fmt: skip
    if deleting:
        metadata["deletionTimestamp"] = rfc3339(NOW)
    spec = {"nodeName": on} if bound else pod_body(daemon_set(), hash, on)["spec"]
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": rfc3339(NOW - 100)}]
    return msgspec.convert(
        {"metadata": metadata, "spec": spec, "status": {"phase": phase, "conditions": conditions}}, PodView
    )


NODES = [node("a"), node("b"), node("c")]


def layout(the_set, pods, nodes=NODES, backoff=None):
    return Layout(
        World(
            daemon_set=the_set,
            nodes=nodes,
            pods=list(pods),
            hash="new",
            backoff_seconds=backoff or {},
            now=NOW,
        )
    )


def told(changes):
    return [f"+{name}" for name in changes.create] + [f"-{one.metadata.name}" for one in changes.delete]


def test_each_node_that_suits_gets_one_pod_and_no_other_keeps_one():
    the_set = daemon_set(pod_spec={"nodeSelector": {"disk": "ssd"}})
    nodes = [node("a", disk="ssd"), node("b"), node("c", disk="ssd")]
    pods = [pod("p-b", "b"), pod("p-c", "c"), pod("p-c2", "c", created=5)]
    assert told(plan_changes(layout(the_set, pods, nodes))) == ["+a", "-p-b", "-p-c2"]


def test_a_taint_keeps_new_pods_away_and_only_no_execute_drives_old_ones_out():
    nodes = [node("a", [("x", "NoSchedule")]), node("b", [("x", "NoExecute")])]
    assert told(plan_changes(layout(daemon_set(), [], nodes))) == []
    assert told(plan_changes(layout(daemon_set(), [pod("p-a", "a"), pod("p-b", "b")], nodes))) == ["-p-b"]


def test_a_node_in_trouble_keeps_its_daemons():
    troubled = [
        node("a", [(f"node.kubernetes.io/{key}", effect)])
        for key, effect in (
            ("not-ready", "NoExecute"), ("unreachable", "NoExecute"), ("disk-pressure", "NoSchedule"),
            ("memory-pressure", "NoSchedule"), ("pid-pressure", "NoSchedule"), ("unschedulable", "NoSchedule"),
        )
    ]  # fmt: skip
    rules = Rules(daemon_set())
    assert all(rules.place(one).run for one in troubled)
    cut_off = node("a", [("node.kubernetes.io/network-unavailable", "NoSchedule")])
    assert not rules.place(cut_off).run
    assert Rules(daemon_set(pod_spec={"hostNetwork": True})).place(cut_off).run


def test_required_affinity_and_a_node_name_in_the_template_choose_nodes():
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z"]}]}
    affinity = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    }
    rules = Rules(daemon_set(pod_spec={"affinity": affinity}))
    assert rules.place(node("a", zone="z")).run and not rules.place(node("a", zone="y")).stay
    named = Rules(daemon_set(pod_spec={"nodeName": "a"}))
    assert named.place(node("a")).run and not named.place(node("b")).stay


def test_a_pod_is_bound_to_its_node_by_name_and_keeps_its_other_affinity():
    preferred = [{"weight": 1, "preference": {"matchFields": []}}]
    affinity = {
        "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred},
        "podAffinity": {},
    }
    body = pod_body(daemon_set(pod_spec={"affinity": affinity}), "hash", "a")
    made = body["spec"]["affinity"]
    assert made["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] == preferred
    assert made["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] == {
        "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]
    }
    assert body["metadata"]["labels"] == {"app": "d", "controller-revision-hash": "hash"}
    assert target_node(pod("p", "a", bound=False)) == "a"


def test_tolerations_of_every_daemon_replace_those_with_a_time():
    given = {
        "key": "node.kubernetes.io/not-ready",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 5,
    }
    tolerations = with_tolerations({"tolerations": [given]})["tolerations"]
    assert len(tolerations) == 6 and "tolerationSeconds" not in tolerations[0]


def test_pods_that_ended_are_replaced_failed_ones_after_their_back_off():
    pods = [pod("f", "a", phase="Failed"), pod("s", "b", phase="Succeeded"), pod("ok", "c")]
    now = plan_changes(layout(daemon_set(), pods))
    assert told(now) == ["-f", "-s"] and [one.metadata.name for one in now.failed] == ["f"]
    later = plan_changes(layout(daemon_set(), pods, backoff={"a": 7.0}))
    assert told(later) == ["-s"] and later.wait_seconds == 7.0


def test_a_pod_for_a_node_that_is_gone_is_deleted_unless_it_was_bound():
    pods = [pod(f"p-{n}", n) for n in "abc"]
    changes = plan_changes(layout(daemon_set(), [*pods, pod("lost", "x", bound=False), pod("kept", "y")]))
    assert told(changes) == ["-lost"]


def test_an_update_takes_as_many_pods_down_as_may_be_unavailable():
    old = [pod(f"o-{n}", n, "old") for n in "abc"]
    assert told(plan_changes(layout(daemon_set(), old))) == ["-o-a"]
    assert told(plan_changes(layout(daemon_set(unavailable="50%"), old))) == ["-o-a", "-o-b"]
    waiting = [pod("n-a", "a", ready=False), *old[1:]]
    assert told(plan_changes(layout(daemon_set(), waiting))) == []
    broken = [pod("n-a", "a", ready=False), pod("o-b", "b", "old", ready=False), old[2]]
    assert told(plan_changes(layout(daemon_set(), broken))) == ["-o-b"]
    assert told(plan_changes(layout(daemon_set(strategy="OnDelete"), old))) == []


def test_a_surging_update_makes_the_new_pod_first_and_drops_the_old_one_once_it_serves():
    the_set = daemon_set(surge=1, unavailable=0)
    old = [pod(f"o-{n}", n, "old") for n in "abc"]
    assert told(plan_changes(layout(the_set, old))) == ["+a"]
    assert told(plan_changes(layout(the_set, [*old, pod("n-a", "a", ready=False, created=1)]))) == []
    assert told(plan_changes(layout(the_set, [*old, pod("n-a", "a", created=1)]))) == ["-o-a"]
    assert told(plan_changes(layout(the_set, [pod("o-a", "a", "old", ready=False), *old[1:]]))) == [
        "+a",
        "+b",
    ]


def test_status_counts_nodes_not_pods():
    nodes = [*NODES, node("d", [("x", "NoExecute")])]
    pods = [pod("a", "a"), pod("a2", "a"), pod("b", "b", "old", ready=False), pod("d", "d")]
    status = plan_status(layout(daemon_set(), pods, nodes))
    assert (status.desired_number_scheduled, status.current_number_scheduled, status.number_misscheduled) == (
        3,
        2,
        1,
    )
    assert (status.number_ready, status.updated_number_scheduled) == (1, 1)
    assert (status.number_available, status.number_unavailable) == (1, 2)


def test_a_node_s_failures_are_replaced_ever_more_slowly_until_they_are_forgotten():
    backoff, now = FailureBackoff(), 0.0
    for wanted in (1, 2, 4, 8):
        assert backoff.remaining_seconds("n", now) == 0
        backoff.note("n", now)
        assert backoff.remaining_seconds("n", now) == wanted
        now += wanted
    assert backoff.remaining_seconds("n", now + 3600) == 0
    backoff.note("n", now + 3600)
    assert backoff.remaining_seconds("n", now + 3600) == 1


def revision(name, template, number):
    labels = {"controller-revision-hash": name}
    metadata = {"name": f"d-{name}", "uid": name, "labels": labels}
    return msgspec.convert(
        {"metadata": metadata, "revision": number, "data": data_of(template)}, RevisionView
    )


def test_history_knows_the_template_again_and_keeps_what_pods_carry():
    the_set = daemon_set()
    template, other = the_set.spec.template, {"spec": {"containers": [{"name": "x"}]}}
    present = find_present(
        the_set, [revision("a", template, 1), revision("b", other, 2), revision("c", template, 1)]
    )
    assert present.found is not None and present.found.metadata.name == "d-c"
    assert (present.number, [one.metadata.name for one in present.doubles]) == (3, ["d-a"])
    old = [revision(name, other, number) for number, name in enumerate("xyz")]
    assert [one.metadata.name for one in obsolete(old, {"x"}, 1)] == ["d-y", "d-z"]
    assert find_present(the_set, old).number == 3


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 6), surge=st.integers(0, 2), unavailable=st.integers(0, 3), seed=st.integers(0, 3)
)
def test_every_roll_ends_with_one_new_pod_on_each_node_and_within_its_limits(count, surge, unavailable, seed):
    nodes = [node(f"n{i}") for i in range(count)]
    pods = {f"o{i}": pod(f"o{i}", f"n{i}", "old", ready=i >= seed) for i in range(count)}
    the_set, most = daemon_set(surge=surge, unavailable=unavailable), max(unavailable, 1) if not surge else 0
    down_before = min(seed, count)
    for step in range(60):
        changes = plan_changes(layout(the_set, pods.values(), nodes))
        if changes.is_empty:
            break
        for one in changes.delete:
            del pods[one.metadata.name]
        serving = {target_node(one) for one in pods.values() if one.is_ready}
        assert len(serving) >= count - max(most, down_before)
        for place in changes.create:
            name = f"new-{step}-{place}"
            pods[name] = pod(name, place, created=step + 1)
    assert sorted(target_node(one) for one in pods.values()) == sorted(one.metadata.name for one in nodes)
    assert all(one.metadata.labels["controller-revision-hash"] == "new" for one in pods.values())


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_ended_and_goes_leaves_its_node_free(phase):
    pods = [pod("gone", "a", phase=phase, deleting=True), pod("b", "b"), pod("c", "c")]
    assert told(plan_changes(layout(daemon_set(), pods))) == ["+a"]
