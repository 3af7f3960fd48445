"""What a set that asks for StatefulSets plans to do, look by look."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.groups.leader_worker_sets.conftest import START, a_set

from kajitori.api.leaderworkerset import v1
from kajitori.groups.leader_worker_sets.actions import (
    ApplyStatefulSet,
    CreateRevision,
    CreateService,
    LabelPod,
    Plan,
)
from kajitori.groups.leader_worker_sets.memory import Memory
from kajitori.groups.leader_worker_sets.observed import Pod, Revision, Service, StatefulSet, World
from kajitori.groups.leader_worker_sets.options import COMPATIBILITY
from kajitori.groups.leader_worker_sets.stateful_sets.bodies import POD_INDEX_LABEL
from kajitori.groups.leader_worker_sets.stateful_sets.plan import plan_any_set

SET_UID = "set-1"


class Planned:
    """The set and what there is of it; each look sees what the one before made."""

    def __init__(self, **fields: Any) -> None:
        self.lws = a_set(annotations={COMPATIBILITY: "StatefulSet"}, uid=SET_UID, **fields)
        self.sets: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.services: list[dict[str, Any]] = []
        self.revisions: list[dict[str, Any]] = []
        self.memory = Memory(SET_UID)

    def look(self) -> Plan:
        world = World(
            set=msgspec.convert(self.lws, v1.LeaderWorkerSet),
            pods=[msgspec.convert(pod, Pod) for pod in self.pods.values()],
            services=[msgspec.convert(service, Service) for service in self.services],
            revisions=[msgspec.convert(revision, Revision) for revision in self.revisions],
            stateful_sets=[msgspec.convert(each, StatefulSet) for each in self.sets.values()],
            now=START,
            token="t",
            pods_before=self.memory.pods,
        )
        plan = plan_any_set(world)
        self.memory.note_pods(world)
        for action in (*plan.before, *plan.after):
            match action:
                case ApplyStatefulSet(body):
                    name = body["metadata"]["name"]
                    metadata = {**body["metadata"], "uid": f"sts-{name}"}
                    self.sets[name] = {**body, "metadata": metadata}
                case CreateService(body):
                    self.services.append(body)
                case CreateRevision(body):
                    self.revisions.append(body)
                case LabelPod(pod, labels):
                    self.pods[pod.name]["metadata"]["labels"] |= labels
                case _:
                    pass
        return plan

    def run_pod(self, owner: str, index: int, **status: Any) -> dict[str, Any]:
        """What the StatefulSet `owner` makes with this ordinal."""
        name = f"{owner}-{index}"
        template = self.sets[owner]["spec"]["template"]["metadata"]
        reference = {"kind": "StatefulSet", "name": owner, "uid": f"sts-{owner}", "controller": True}
        pod = {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"pod-{name}",
                "labels": {**template["labels"], POD_INDEX_LABEL: str(index)},
                "annotations": template["annotations"],
                "ownerReferences": [reference],
            },
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], **status},
        }
        self.pods[name] = pod
        return pod


def applied(plan: Plan) -> list[str]:
    return [
        action.body["metadata"]["name"]
        for action in (*plan.before, *plan.after)
        if isinstance(action, ApplyStatefulSet)
    ]


def test_leaders_come_first_then_the_workers_of_each_leader_that_is_there() -> None:
    planned = Planned(replicas=2, size=3)
    assert applied(planned.look()) == ["x"]
    assert applied(planned.look()) == []
    planned.run_pod("x", 1)
    assert applied(planned.look()) == ["x-1"]
    assert planned.pods["x-1"]["metadata"]["labels"][v1.GROUP_INDEX_LABEL] == "1"
    assert applied(planned.look()) == []


def test_workers_wait_for_a_leader_that_shall_be_ready_first() -> None:
    planned = Planned(replicas=1, size=2, startupPolicy="LeaderReady")
    planned.look()
    planned.run_pod("x", 0, conditions=[])
    assert applied(planned.look()) == []
    planned.run_pod("x", 0)
    assert applied(planned.look()) == ["x-0"]


def test_a_group_is_ready_when_its_leader_and_all_its_workers_are() -> None:
    planned = Planned(replicas=1, size=3)
    planned.look()
    planned.run_pod("x", 0)
    planned.look()
    planned.run_pod("x-0", 1)
    assert planned.look().status.ready_replicas == 0
    planned.run_pod("x-0", 2)
    assert planned.look().status.ready_replicas == 1


def test_a_failed_worker_takes_its_leader_along_workers_first_and_only_once() -> None:
    planned = Planned(replicas=1, size=2)
    planned.look()
    leader = planned.run_pod("x", 0)
    planned.look()
    planned.run_pod("x-0", 1)["metadata"]["deletionTimestamp"] = "2023-11-14T22:13:20Z"
    plan = planned.look()
    assert [(one.pod.name, one.foreground) for one in plan.deletes] == [("x-0", True)]
    leader["metadata"]["deletionTimestamp"] = "2023-11-14T22:13:20Z"
    again = planned.look()
    assert not again.deletes
    assert not [event for event in again.events if event.reason == "RecreateGroup"]


@pytest.mark.parametrize(("policy", "ends"), [("RecreateGroupOnPodRestart", ["x-0"]), ("None", [])])
def test_a_worker_that_was_replaced_before_its_end_was_seen_takes_its_leader_along(
    policy: str, ends: list[str]
) -> None:
    planned = Planned(replicas=1, size=3, restartPolicy=policy)
    planned.look()
    planned.run_pod("x", 0)
    planned.look()
    planned.run_pod("x-0", 1)
    planned.run_pod("x-0", 2)
    assert not planned.look().deletes
    del planned.pods["x-0-2"]
    assert not planned.look().deletes
    planned.run_pod("x-0", 2)["metadata"]["uid"] = "another"
    assert [one.pod.name for one in planned.look().deletes] == ends


def test_the_workers_of_an_earlier_leader_are_waited_for_and_those_of_others_are_named() -> None:
    planned = Planned(replicas=1, size=2)
    planned.look()
    planned.run_pod("x", 0)
    earlier = {"kind": "Pod", "name": "x-0", "uid": "pod-before", "controller": True}
    planned.sets["x-0"] = {
        "metadata": {"name": "x-0", "namespace": "default", "uid": "old", "ownerReferences": [earlier]}
    }
    plan = planned.look()
    assert applied(plan) == []
    assert not [one for one in plan.status.conditions if one.type == "kajitori.dev/Blocked"]
    planned.sets["x-0"]["metadata"]["ownerReferences"] = []
    plan = planned.look()
    assert applied(plan) == []
    (blocked,) = [one for one in plan.status.conditions if one.type == "kajitori.dev/Blocked"]
    assert "StatefulSet x-0 is a StatefulSet that nobody controls" in blocked.message


def test_a_set_of_leaders_that_somebody_scales_is_set_right() -> None:
    planned = Planned(replicas=2, size=1)
    planned.look()
    planned.sets["x"]["spec"]["replicas"] = 5
    assert applied(planned.look()) == ["x"]
    assert planned.sets["x"]["spec"]["replicas"] == 2
