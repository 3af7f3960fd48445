"""What `kaji rollout status` makes of an object's status."""

from __future__ import annotations

from typing import Any

import pytest

from kajitori.cli.rollout_status import progress


def a_set(*conditions: tuple[str, str], generation: int = 2, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "x", "generation": generation, "annotations": status.pop("annotations", {})},
        "spec": {"replicas": 4, "rolloutStrategy": {"rollingUpdateConfiguration": {"partition": 0}}},
        "status": {
            "observedGeneration": 2,
            "replicas": 5,
            "readyReplicas": 3,
            "updatedReplicas": 2,
            "conditions": [
                {"type": kind, "status": "True", "reason": "R", "message": message}
                for kind, message in conditions
            ],
        }
        | status,
    }


def test_a_set_is_done_when_it_is_available_at_its_newest_generation() -> None:
    done = progress(
        "LeaderWorkerSet", a_set(("Available", "All replicas are ready"), replicas=4, readyReplicas=4)
    )
    assert (done.state, done.text) == ("done", "2 of 4 groups updated, 4 ready")
    late = progress("LeaderWorkerSet", a_set(("Available", ""), generation=3))
    assert late.state == "going"
    assert "has not seen generation 3" in late.text


def test_a_set_that_rolls_is_told_with_its_counts() -> None:
    going = progress("LeaderWorkerSet", a_set(("Progressing", "Replicas are progressing")))
    assert (going.state, going.text) == ("going", "2 of 4 groups updated, 3 ready, 1 more than wanted")


def test_an_update_is_over_when_what_was_in_excess_is_gone() -> None:
    lws = a_set(("Available", ""), updatedReplicas=5, readyReplicas=4)
    last = progress("LeaderWorkerSet", lws)
    assert (last.state, last.text) == ("going", "4 of 4 groups updated, 4 ready, 1 more than wanted")
    lws["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]["partition"] = 2
    assert progress("LeaderWorkerSet", lws).state == "done"


def test_the_partition_is_told() -> None:
    lws = a_set(("Available", ""))
    lws["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]["partition"] = 2
    assert "(groups below partition 2 keep their revision)" in progress("LeaderWorkerSet", lws).text


@pytest.mark.parametrize("kind", ["Blocked", "DoesNotFit", "GroupsFailed"])
def test_what_stands_in_the_way_is_told_with_its_reason(kind: str) -> None:
    stuck = progress("LeaderWorkerSet", a_set((f"kajitori.dev/{kind}", "names of this set are in use")))
    assert stuck.state == "stuck"
    assert stuck.text.endswith("names of this set are in use")


def test_a_pause_counts_as_long_as_the_set_asks_for_it() -> None:
    paused = {"groups.kajitori.dev/paused": "true"}
    condition = ("kajitori.dev/Paused", "the rollout to revision a is paused")
    assert progress("LeaderWorkerSet", a_set(condition, annotations=paused)).state == "stuck"
    assert progress("LeaderWorkerSet", a_set(condition)).state == "going"
    done = a_set(condition, ("Available", ""), annotations=paused, replicas=4)
    assert progress("LeaderWorkerSet", done).state == "done"


def test_a_set_of_roles_tells_each() -> None:
    obj = {
        "metadata": {"name": "d", "generation": 1},
        "spec": {
            "slices": 2,
            "roles": [
                {"name": "prefill", "spec": {"replicas": 2}},
                {"name": "decode", "spec": {"replicas": 1}},
            ],
        },
        "status": {
            "observedGeneration": 1,
            "roleStatuses": [
                {"name": "prefill", "replicas": 4, "readyReplicas": 3, "updatedReplicas": 4},
                {"name": "decode", "replicas": 2, "readyReplicas": 2, "updatedReplicas": 1},
            ],
            "conditions": [{"type": "Progressing", "status": "True", "reason": "RolloutInProgress"}],
        },
    }
    told = progress("DisaggregatedSet", obj)
    assert told.text == "prefill: 4 of 4 groups updated, 3 ready; decode: 1 of 2 groups updated, 2 ready"
    assert told.state == "going"
    obj["metadata"]["annotations"] = {"groups.kajitori.dev/paused": "true"}
    obj["status"]["conditions"][0]["message"] = "The rollout to revision a is paused"
    assert progress("DisaggregatedSet", obj).state == "stuck"


def a_job_set(*conditions: str, suspend: bool = False, ready: int = 0, succeeded: int = 0) -> dict[str, Any]:
    return {
        "metadata": {"name": "j", "generation": 1},
        "spec": {"suspend": suspend, "replicatedJobs": [{"name": "workers", "replicas": 2}]},
        "status": {
            "replicatedJobsStatus": [{"name": "workers", "ready": ready, "succeeded": succeeded}],
            "conditions": [{"type": kind, "status": "True", "message": kind.lower()} for kind in conditions],
        },
    }


def test_a_job_set_is_done_when_its_jobs_run_or_have_ended_well() -> None:
    assert progress("JobSet", a_job_set(ready=1)).state == "going"
    assert progress("JobSet", a_job_set(ready=1, succeeded=1)).state == "done"
    assert progress("JobSet", a_job_set("Completed", succeeded=2)).text.endswith("it is completed")
    assert progress("JobSet", a_job_set("Failed")).state == "failed"
    assert progress("JobSet", a_job_set(suspend=True)).state == "stuck"


def test_what_is_being_deleted_will_not_be_done() -> None:
    lws = a_set(("Available", ""))
    lws["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert progress("LeaderWorkerSet", lws).state == "failed"
