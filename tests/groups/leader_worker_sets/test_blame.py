"""Who began it, in words: what Kubernetes and the container's log say, short and without secrets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set

from kajitori.base.clock import rfc3339
from kajitori.groups.leader_worker_sets.last_lines import MOST_CHARACTERS, MOST_LINES, last_lines
from kajitori.groups.leader_worker_sets.restart import Blame


def message_of(cluster: PlannedCluster, reason: str = "RecreateGroup") -> str:
    return next(message for said, message in reversed(cluster.events) if said == reason)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("PreemptionByScheduler", "preempted by the scheduler for a pod of higher priority"),
        ("EvictionByEvictionAPI", "evicted through the API, as a drain does"),
        ("DeletionByTaintManager", "driven out by a taint of its node"),
        ("DeletionByPodGC", "removed because its node was lost"),
    ],
)
def test_a_pod_that_kubernetes_took_away_says_why(reason: str, words: str) -> None:
    cluster = PlannedCluster(a_set(size=2)).settle()
    conditions = cluster.pods["x-0-1"]["status"]["conditions"]
    conditions.append({"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "..."})
    cluster.delete("x-0-1")
    cluster.reconcile()
    assert message_of(cluster).endswith(f"pod x-0-1 on node-1 was deleted: {words}")
    assert cluster.lws["status"]["restarts"][-1]["reason"] == reason


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"reason": "Evicted", "message": "The node was low on memory"}, "failed: Evicted: The node was low"),
        ({"reason": "NodeLost"}, "failed: NodeLost"),
        ({"reason": "Preempting", "message": "for a critical pod"}, "failed: Preempting: for a critical pod"),
        (
            {
                "conditions": [
                    {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
                ]
            },
            "failed: TerminationByKubelet",
        ),
    ],
)
def test_a_pod_that_its_node_gave_up_says_why(status: dict[str, Any], words: str) -> None:
    cluster = PlannedCluster(a_set(size=2)).settle()
    cluster.pods["x-0-1"]["status"] = {"phase": "Failed", **status}
    cluster.reconcile()
    assert f"pod x-0-1 on node-1 {words}" in message_of(cluster)


def test_a_container_that_ran_out_of_memory_says_so_in_a_pod_that_restarts_and_in_one_that_fails() -> None:
    ended = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": rfc3339(0)}
    cluster = PlannedCluster(a_set(size=2)).settle()
    cluster.run("x-0-1", restarts=1)
    cluster.pods["x-0-1"]["status"]["containerStatuses"][0]["lastState"] = {"terminated": ended}
    cluster.pods["x-1-1"]["status"] = {
        "phase": "Failed",
        "containerStatuses": [{"name": "engine", "state": {"terminated": ended}}],
    }
    cluster.reconcile()
    told = sorted(text for reason, text in cluster.events if reason == "RecreateGroup")
    assert told[0].endswith("pod x-0-1 on node-1 restarted: exit code 137, signal 9, OOMKilled")
    assert told[1].endswith("pod x-1-1 on node-1 failed, exit code 137, signal 9, OOMKilled")
    assert {record["reason"] for record in cluster.lws["status"]["restarts"]} == {"OOMKilled"}


def test_the_message_that_a_container_left_is_told_without_its_secrets() -> None:
    cluster = PlannedCluster(a_set(size=2)).settle()
    cluster.run("x-0-1", restarts=1, exit_code=1)
    ended = cluster.pods["x-0-1"]["status"]["containerStatuses"][0]["lastState"]["terminated"]
    ended["message"] = "cannot load\npassword=hunter2 refused"
    cluster.reconcile()
    assert message_of(cluster).endswith("exit code 1; it last wrote: cannot load | password=*** refused")
    assert cluster.lws["status"]["restarts"][-1]["lastLog"] == "cannot load\npassword=*** refused"
    because = "groups.kajitori.dev/restarted-because"
    cluster.settle()
    assert cluster.pods["x-0"]["metadata"]["annotations"][because].endswith("restarted: exit code 1")


def test_a_leader_that_vanished_unseen_is_blamed_and_counted() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=2)).settle()
    del cluster.pods["x-0"]
    cluster.settle()
    assert "pod x-0 is gone without a trace" in message_of(cluster)
    assert cluster.pods["x-0"]["metadata"]["annotations"]["groups.kajitori.dev/restarts"] == "1"


def test_a_node_that_is_not_well_is_named_with_its_pod() -> None:
    blame = Blame(pod="x-0", how="deleted", node="node-1", node_state="does not report since T")
    assert blame.sentence() == "pod x-0 on node-1, which does not report since T, was deleted"


def test_of_a_log_the_last_lines_are_told_without_colours() -> None:
    text = "".join(f"line {number}\r\n\n" for number in range(9)) + "\x1b[31mRuntimeError\x1b[0m: a\x00b"
    assert last_lines(text).splitlines() == ["line 5", "line 6", "line 7", "line 8", "RuntimeError: ab"]
    assert last_lines("") == last_lines("\n \n") == ""


def test_a_long_line_keeps_its_end() -> None:
    told = last_lines("x " * 1000 + "the end")
    assert len(told) == MOST_CHARACTERS
    assert told.startswith("...")
    assert told.endswith("the end")


@given(st.text(max_size=3000))
def test_whatever_a_container_writes_little_of_it_is_told(text: str) -> None:
    told = last_lines(text)
    assert len(told) <= MOST_CHARACTERS
    assert len(told.splitlines()) <= MOST_LINES
    assert last_lines(told) == told or told.startswith("...")
