"""Plans of JobSets: what is made, when, and what the status says, without any server."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.groups.job_sets.planned import Planned, job_set, replicated

MAX_INT = 2147483647


def test_each_job_says_its_place_in_the_set_in_labels_and_annotations_of_itself_and_its_pods() -> None:
    planned = Planned(
        job_set(replicated("a", 2), replicated("b", 3, groupName="rest"), replicated("c", groupName="rest"))
    ).settle()
    assert planned.created == ["x-a-0", "x-a-1", "x-b-0", "x-b-1", "x-b-2", "x-c-0"]
    labels = planned.labels("x-c-0")
    assert labels == {
        "jobset-name": "x",
        "jobset-uid": "set-uid",
        "replicatedjob-name": "c",
        "replicatedjob-replicas": "1",
        "global-replicas": "6",
        "job-index": "0",
        "job-global-index": "5",
        # Of "default/x-c-0".
        "job-key": "ab5419b99804d8ea62eed97d556b7637772bd276",
        "group-name": "rest",
        "group-replicas": "4",
        "job-group-index": "3",
        "restart-attempt": "0",
        "job-restart-attempt": "0",
    }
    for marks in (planned.jobs["x-c-0"]["metadata"], planned.pod("x-c-0")["metadata"]):
        assert marks["labels"] == marks["annotations"]
        assert marks["labels"]["jobset.sigs.k8s.io/job-global-index"] == "5"
    (owner,) = planned.jobs["x-a-0"]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("JobSet", "set-uid", True)


def test_what_a_manifest_leaves_out_has_the_defaults_that_upstreams_webhook_writes() -> None:
    planned = Planned(job_set(replicated("a"))).settle()
    spec = planned.jobs["x-a-0"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["template"]["spec"]["restartPolicy"] == "OnFailure"
    assert spec["template"]["spec"]["subdomain"] == "x"
    assert planned.services["x"]["spec"] == {
        "clusterIP": "None",
        "selector": {"jobset.sigs.k8s.io/jobset-name": "x"},
        "publishNotReadyAddresses": True,
    }


def test_pods_have_no_subdomain_and_there_is_no_service_without_host_names() -> None:
    planned = Planned(job_set(replicated("a"), network={"enableDNSHostnames": False})).settle()
    assert not planned.services
    assert "subdomain" not in planned.pod("x-a-0")["spec"]


def test_the_coordinators_address_is_on_every_job_and_pod() -> None:
    planned = Planned(
        job_set(
            replicated("a", pods=2),
            replicated("b", 2, 4),
            network={"subdomain": "net"},
            coordinator={"replicatedJob": "b", "jobIndex": 1, "podIndex": 3},
        )
    ).settle()
    key = "jobset.sigs.k8s.io/coordinator"
    assert planned.pod("x-a-0")["metadata"]["annotations"][key] == "x-b-1-3.net"
    assert planned.jobs["x-b-0"]["metadata"]["labels"][key] == "x-b-1-3.net"


@pytest.mark.parametrize(
    ("policy", "done", "completed"),
    [
        ({"operator": "All"}, ["x-a-0", "x-a-1"], False),
        ({"operator": "All"}, ["x-a-0", "x-a-1", "x-b-0"], True),
        ({"operator": "All", "targetReplicatedJobs": ["a"]}, ["x-a-0", "x-a-1"], True),
        ({"operator": "Any"}, ["x-b-0"], True),
        ({"operator": "Any", "targetReplicatedJobs": ["a"]}, ["x-b-0"], False),
        ({"operator": "Any", "targetReplicatedJobs": ["a"]}, ["x-a-1"], True),
    ],
)
def test_a_set_has_succeeded_when_all_or_any_of_the_chosen_jobs_have(
    policy: dict[str, object], done: list[str], completed: bool
) -> None:
    planned = Planned(job_set(replicated("a", 2), replicated("b"), successPolicy=policy)).settle()
    planned.ready().complete(*done).settle()
    assert planned.status.get("terminalState") == ("Completed" if completed else None)
    if completed:
        assert planned.why("Completed") == "AllJobsCompleted: jobset completed successfully"
        assert set(planned.jobs) == set(done), "what still ran is gone, what succeeded stays"


def test_without_a_failure_policy_the_first_failed_job_fails_the_set_and_stops_the_rest() -> None:
    planned = Planned(job_set(replicated("a", 3))).settle().ready()
    planned.fail("x-a-2").fail("x-a-1").settle()
    assert planned.why("Failed") == (
        "FailedJobs: jobset failed due to one or more job failures (first failed job: x-a-2)"
    )
    assert planned.status["terminalState"] == "Failed"
    assert set(planned.jobs) == {"x-a-1", "x-a-2"}


def rules(*found: dict[str, object], **policy: object) -> dict[str, object]:
    return {"maxRestarts": 1, "rules": list(found), **policy}


def test_a_set_restarts_as_often_as_it_may_and_then_fails() -> None:
    planned = Planned(job_set(replicated("a", 2), failurePolicy=rules())).settle().ready()
    planned.fail("x-a-0").settle().ready()
    assert (planned.status["restarts"], planned.status["restartsCountTowardsMax"]) == (1, 1)
    assert planned.labels("x-a-1")["restart-attempt"] == "1"
    assert planned.created == ["x-a-0", "x-a-1"] * 2
    assert planned.condition("RestartingJobSet") == "True"
    planned.settle()
    assert planned.why("RestartingJobSet") == "JobsReady: all jobs are ready"
    planned.fail("x-a-1").settle()
    assert planned.why("Failed").startswith("ReachedMaxRestarts: jobset failed due to reaching max number")
    assert planned.status["restarts"] == 1


def test_the_first_rule_that_matches_decides_and_of_its_jobs_the_one_that_failed_first() -> None:
    planned = Planned(
        job_set(
            replicated("a", 2),
            replicated("b"),
            failurePolicy=rules(
                {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]},
                {"name": "mine", "action": "RestartJobSet", "targetReplicatedJobs": ["a"]},
            ),
        )
    ).settle()
    planned.ready().fail("x-b-0").fail("x-a-1").fail("x-a-0").settle()
    assert planned.why("RestartingJobSet") == (
        "FailurePolicy_mine: applying RestartJobSet failure policy action (first failed job: x-a-1)"
    )
    planned.ready().fail("x-b-0", "PodFailurePolicy").settle()
    assert planned.why("Failed").startswith("FailJobSetFailurePolicyAction")


def test_patterns_are_those_of_re2_and_one_of_them_must_be_found_in_the_message() -> None:
    policy = rules(
        {"action": "FailJobSet", "onJobFailureMessagePatterns": ["^no$", r"exit code \d{3} \pL+"]},
        {"action": "RestartJobSetAndIgnoreMaxRestarts"},
        maxRestarts=0,
    )
    planned = Planned(job_set(replicated("a"), failurePolicy=policy)).settle().ready()
    planned.fail("x-a-0", message="ended with exit code 42 matching").settle().ready()
    assert planned.status["restarts"] == 1
    planned.fail("x-a-0", message="ended with exit code 137 matching").settle()
    assert planned.status["terminalState"] == "Failed"


def test_restarts_that_are_not_counted_never_end() -> None:
    policy = rules({"action": "RestartJobSetAndIgnoreMaxRestarts"}, maxRestarts=0)
    planned = Planned(job_set(replicated("a"), failurePolicy=policy)).settle()
    for _ in range(4):
        planned.ready().fail("x-a-0").settle()
    assert planned.status["restarts"] == 4
    assert "restartsCountTowardsMax" not in planned.status
    assert planned.why("RestartingJobSet").startswith("FailurePolicy_failurePolicyRule0")


def test_a_job_that_restarts_alone_leaves_the_others_running_and_counts_too() -> None:
    policy = rules({"action": "RestartJob"})
    planned = Planned(job_set(replicated("a", 3), failurePolicy=policy)).settle().ready()
    others = {name: planned.jobs[name]["metadata"]["uid"] for name in ("x-a-0", "x-a-2")}
    planned.fail("x-a-1").settle().ready().settle()
    assert {name: planned.jobs[name]["metadata"]["uid"] for name in others} == others
    assert planned.labels("x-a-1")["job-restart-attempt"] == "1"
    numbers = planned.numbers("a")
    assert numbers["jobRestarts"] == numbers["jobRestartsCountTowardsMax"] == [0, 1, 0]
    assert planned.status["restarts"] == 0
    assert "RestartJobFailurePolicyAction" in planned.reasons()
    planned.fail("x-a-2").settle()
    assert planned.why("Failed").startswith("ReachedMaxRestarts")


def test_a_job_that_upstreams_controller_made_restarts_alone_too_and_once() -> None:
    policy = rules({"action": "RestartJob"}, maxRestarts=5)
    planned = Planned(job_set(replicated("a", 2), failurePolicy=policy)).settle().ready()
    for job in planned.jobs.values():
        del job["metadata"]["labels"]["jobset.sigs.k8s.io/job-restart-attempt"]
    planned.fail("x-a-1").settle()
    assert planned.numbers("a")["jobRestarts"] == [0, 1]
    assert planned.created == ["x-a-0", "x-a-1", "x-a-1"]


def test_a_job_that_restarts_alone_uncounted_may_do_so_for_ever() -> None:
    policy = rules({"action": "RestartJobAndIgnoreMaxRestarts"}, maxRestarts=0)
    planned = Planned(job_set(replicated("a", 2), failurePolicy=policy)).settle()
    for _ in range(3):
        planned.ready().fail("x-a-1").settle()
    assert planned.numbers("a")["jobRestarts"] == [0, 3]
    assert not planned.numbers("a").get("jobRestartsCountTowardsMax")


def test_a_blocking_restart_makes_no_job_before_the_last_of_the_attempt_before_is_gone() -> None:
    def made_while_one_lingers(strategy: str) -> list[str]:
        policy = rules(restartStrategy=strategy)
        planned = Planned(job_set(replicated("a", 2), failurePolicy=policy)).settle().ready()
        planned.fail("x-a-0").look()
        planned.look()
        del planned.jobs["x-a-0"]
        before = len(planned.created)
        planned.look()
        return planned.created[before:]

    assert made_while_one_lingers("Recreate") == ["x-a-0"]
    assert made_while_one_lingers("BlockingRecreate") == []


def test_replicated_jobs_start_in_order_each_when_the_one_before_is_ready() -> None:
    planned = Planned(
        job_set(replicated("a", 2), replicated("b"), startupPolicy={"startupPolicyOrder": "InOrder"})
    ).settle()
    assert set(planned.jobs) == {"x-a-0", "x-a-1"}
    assert planned.condition("StartupPolicyInProgress") == "True"
    planned.ready("x-a-0").settle()
    assert set(planned.jobs) == {"x-a-0", "x-a-1"}
    planned.ready("x-a-1").settle()
    assert "x-b-0" in planned.jobs
    planned.ready().settle()
    assert planned.condition("StartupPolicyInProgress") == "False"
    assert planned.why("StartupPolicyCompleted").startswith("InOrderStartupPolicyCompleted")


@pytest.mark.parametrize("wanted", ["Ready", "Complete"])
def test_a_replicated_job_waits_for_those_that_it_depends_on(wanted: str) -> None:
    planned = Planned(
        job_set(
            replicated("a", 2), replicated("b", dependsOn=[{"name": "a", "status": wanted}]), replicated("c")
        )
    ).settle()
    assert set(planned.jobs) == {"x-a-0", "x-a-1", "x-c-0"}
    planned.ready("x-a-0", "x-a-1").settle()
    assert ("x-b-0" in planned.jobs) is (wanted == "Ready")
    planned.complete("x-a-0", "x-a-1").settle()
    assert "x-b-0" in planned.jobs


def test_a_suspended_set_has_suspended_jobs_and_takes_over_where_its_pods_may_run_when_it_goes_on() -> None:
    planned = Planned(job_set(replicated("a", 2), suspend=True)).settle()
    assert all(job["spec"]["suspend"] for job in planned.jobs.values())
    assert planned.why("Suspended") == "SuspendedJobs: jobset is suspended"
    template = planned.set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    template["metadata"] = {"labels": {"queue": "q"}, "annotations": {"why": "room"}}
    template["spec"] |= {
        "nodeSelector": {"pool": "p"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "schedulingGates": [{"name": "acme.io/wait"}],
    }
    planned.set["spec"]["suspend"] = False
    planned.settle()
    pod = planned.pod("x-a-1")
    assert pod["metadata"]["labels"]["queue"] == "q"
    assert pod["metadata"]["labels"]["jobset.sigs.k8s.io/job-index"] == "1", "what was there stays"
    assert pod["spec"]["nodeSelector"] == {"pool": "p"}
    assert [one["key"] for one in pod["spec"]["tolerations"]] == ["gpu"]
    assert pod["spec"]["schedulingGates"] == [{"name": "acme.io/wait"}]
    assert planned.why("Suspended") == "ResumeJobs: jobset is resumed"
    planned.set["spec"]["suspend"] = True
    planned.settle()
    assert planned.numbers("a")["suspended"] == 2


def test_a_job_that_still_has_pods_is_sent_elsewhere_only_when_they_are_gone() -> None:
    planned = Planned(job_set(replicated("a"))).settle().ready()
    planned.set["spec"]["suspend"] = True
    planned.settle()
    pod = planned.set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    pod["nodeSelector"] = {"pool": "p"}
    planned.set["spec"]["suspend"] = False
    assert planned.settle().jobs["x-a-0"]["spec"]["suspend"]
    planned.jobs["x-a-0"]["status"] = {}
    planned.settle()
    assert not planned.jobs["x-a-0"]["spec"]["suspend"]
    assert planned.pod("x-a-0")["spec"]["nodeSelector"] == {"pool": "p"}


def test_jobs_of_a_suspended_set_go_on_in_order() -> None:
    planned = Planned(
        job_set(
            replicated("a"),
            replicated("b"),
            suspend=True,
            startupPolicy={"startupPolicyOrder": "InOrder"},
        )
    ).settle()
    assert set(planned.jobs) == {"x-a-0", "x-b-0"}
    planned.set["spec"]["suspend"] = False
    planned.settle()
    assert [job["spec"]["suspend"] for job in planned.jobs.values()] == [False, True]
    planned.ready("x-a-0").settle()
    assert [job["spec"]["suspend"] for job in planned.jobs.values()] == [False, False]


def test_a_finished_set_is_deleted_when_its_time_is_over() -> None:
    planned = Planned(job_set(replicated("a"), ttlSecondsAfterFinished=60)).settle()
    planned.complete("x-a-0").settle()
    assert planned.plan().again_after_seconds == pytest.approx(60)
    planned.now += 59
    planned.look()
    assert not planned.gone
    planned.now += 1
    planned.look()
    assert planned.gone


def test_the_hands_stay_off_a_set_that_another_controller_serves() -> None:
    planned = Planned(job_set(replicated("a"), managedBy="kueue.x-k8s.io/multikueue")).settle()
    assert not planned.jobs and not planned.status
    assert Planned(
        job_set(replicated("a"), managedBy="jobset.sigs.k8s.io/jobset-controller")
    ).settle().created == ["x-a-0"]


def terms(pod: dict[str, object], kind: str) -> list[dict[str, object]]:
    affinity: dict[str, dict[str, list[dict[str, object]]]] = pod["spec"]["affinity"]  # type: ignore[index]
    return affinity[kind]["requiredDuringSchedulingIgnoredDuringExecution"]


def test_exclusive_placement_keeps_the_pods_of_a_job_together_and_all_other_jobs_out() -> None:
    own = {"annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "zone"}}
    planned = Planned(
        job_set(
            replicated("a"),
            replicated("b", meta=own),
            annotations={"alpha.jobset.sigs.k8s.io/exclusive-topology": "rack"},
        )
    ).settle()
    key = planned.jobs["x-a-0"]["metadata"]["labels"]["jobset.sigs.k8s.io/job-key"]
    (together,) = terms(planned.pod("x-a-0"), "podAffinity")
    (apart,) = terms(planned.pod("x-a-0"), "podAntiAffinity")
    assert together == {
        "topologyKey": "rack",
        "namespaceSelector": {},
        "labelSelector": {
            "matchExpressions": [
                {"key": "jobset.sigs.k8s.io/job-key", "operator": "In", "values": [key]},
            ]
        },
    }
    assert [one["operator"] for one in apart["labelSelector"]["matchExpressions"]] == ["Exists", "NotIn"]  # type: ignore[index,call-overload]
    assert terms(planned.pod("x-b-0"), "podAffinity")[0]["topologyKey"] == "zone"
    annotations = planned.pod("x-b-0")["metadata"]["annotations"]
    assert annotations["alpha.jobset.sigs.k8s.io/exclusive-topology"] == "zone"


def test_exclusive_placement_by_node_selector_asks_for_nodes_with_the_jobs_name() -> None:
    prefix = "alpha.jobset.sigs.k8s.io"
    asked = {f"{prefix}/exclusive-topology": "rack", f"{prefix}/node-selector": "true"}
    planned = Planned(job_set(replicated("a"), annotations=asked)).settle()
    spec = planned.pod("x-a-0")["spec"]
    assert spec["nodeSelector"] == {f"{prefix}/namespaced-job": "default_x-a-0"}
    assert spec["tolerations"] == [
        {"key": f"{prefix}/no-schedule", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert "affinity" not in spec


CLAIM = {
    "metadata": {"name": "data", "labels": {"own": "label"}},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}},
}


def with_mount(name: str) -> dict[str, object]:
    mounts = [{"name": name, "mountPath": "/data"}]
    return {"containers": [{"name": "worker", "image": "busybox:1", "volumeMounts": mounts}]}


def test_claims_are_made_once_for_all_jobs_and_mounted_where_a_container_asks_for_them() -> None:
    planned = Planned(
        job_set(
            replicated("a", 2, pod=with_mount("data")),
            replicated("b"),
            volumeClaimPolicies=[{"templates": [CLAIM]}],
        )
    ).settle()
    claim = planned.claims["data-x"]
    assert claim["metadata"]["labels"] == {"own": "label", "jobset.sigs.k8s.io/jobset-name": "x"}
    assert claim["metadata"]["ownerReferences"][0]["uid"] == "set-uid"
    assert planned.pod("x-a-1")["spec"]["volumes"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-x"}}
    ]
    assert "volumes" not in planned.pod("x-b-0")["spec"]


def test_a_claim_that_is_kept_has_no_owner_and_one_that_nobody_mounts_is_named() -> None:
    policy = {"templates": [CLAIM], "retentionPolicy": {"whenDeleted": "Retain"}}
    planned = Planned(job_set(replicated("a"), volumeClaimPolicies=[policy])).settle()
    assert "ownerReferences" not in planned.claims["data-x"]["metadata"]
    assert "no container has a volumeMount named data" in planned.why("kajitori.dev/FieldsNotHonoured")


def test_the_pods_of_a_job_are_a_gang_where_the_set_asks_for_it() -> None:
    asked = {"groups.kajitori.dev/gang": "Auto", "alpha.jobset.sigs.k8s.io/exclusive-topology": "rack"}
    planned = Planned(job_set(replicated("a", 2, 4), annotations=asked)).settle()
    pod = planned.pod("x-a-1")
    assert pod["metadata"]["labels"]["scheduling.kajitori.dev/gang"] == "x-a-1"
    assert pod["metadata"]["annotations"]["scheduling.kajitori.dev/gang-size"] == "4"
    assert pod["metadata"]["annotations"]["scheduling.kajitori.dev/required-topology"] == "rack"
    assert "schedulingGates" not in pod["spec"]
    assert "scheduling.kajitori.dev/gang" not in str(Planned(job_set(replicated("a"))).settle().jobs)


def test_all_pods_of_a_set_can_be_one_gang_and_wait_at_a_gate() -> None:
    asked = {"groups.kajitori.dev/gang": "Gate", "groups.kajitori.dev/gang-unit": "JobSet"}
    planned = Planned(job_set(replicated("a", 2, 4), replicated("b"), annotations=asked)).settle()
    pods = [planned.pod(name) for name in planned.jobs]
    assert len({pod["metadata"]["labels"]["scheduling.kajitori.dev/gang"] for pod in pods}) == 1
    assert {pod["metadata"]["annotations"]["scheduling.kajitori.dev/gang-size"] for pod in pods} == {"9"}
    assert all(pod["spec"]["schedulingGates"] == [{"name": "scheduling.kajitori.dev/gang"}] for pod in pods)


@pytest.mark.parametrize("unit", ["Job", "JobSet"])
def test_a_gang_that_was_given_up_is_taken_back_without_a_failure_and_made_again(unit: str) -> None:
    asked = {"groups.kajitori.dev/gang": "Gate", "groups.kajitori.dev/gang-unit": unit}
    planned = Planned(job_set(replicated("a", 2, 2), annotations=asked)).settle().ready()
    planned.settle()
    planned.pods = [
        {
            "metadata": {
                "name": "p",
                "labels": {"batch.kubernetes.io/job-name": "x-a-1"},
                "annotations": {"scheduling.kajitori.dev/gang-released": "no node fits"},
            }
        }
    ]
    planned.settle()
    suspended = [job["spec"]["suspend"] for job in planned.jobs.values()]
    assert suspended == ([False, True] if unit == "Job" else [True, True])
    assert "GangReleased" in planned.reasons()
    planned.pods = []
    assert planned.settle().jobs["x-a-1"]["spec"]["suspend"], "its controller has not deleted its pods yet"
    for job in planned.jobs.values():
        job["status"] = {}
    planned.settle()
    assert not any(job["spec"]["suspend"] for job in planned.jobs.values())
    assert planned.status["restarts"] == 0


def test_a_set_whose_jobs_wait_for_each_other_is_no_gang_and_says_so() -> None:
    asked = {"groups.kajitori.dev/gang": "Auto", "groups.kajitori.dev/gang-unit": "JobSet"}
    planned = Planned(
        job_set(replicated("a"), startupPolicy={"startupPolicyOrder": "InOrder"}, annotations=asked)
    ).settle()
    assert "each Job is a gang of its own" in planned.why("kajitori.dev/FieldsNotHonoured")
    wrong = Planned(job_set(replicated("a"), annotations={"groups.kajitori.dev/gang": "Yes"})).settle()
    assert "'Yes' is not one of None, Auto, Gate" in wrong.why("kajitori.dev/FieldsNotHonoured")


def test_a_job_of_somebody_else_is_not_touched_and_stands_in_the_way_aloud() -> None:
    planned = Planned(job_set(replicated("a", 2)))
    planned.jobs["x-a-0"] = {
        "metadata": {
            "name": "x-a-0",
            "namespace": "default",
            "uid": "other",
            "labels": {"jobset.sigs.k8s.io/jobset-name": "x", "jobset.sigs.k8s.io/restart-attempt": "0"},
        },
        "spec": {},
    }
    planned.settle()
    assert planned.created == ["x-a-1"]
    assert planned.jobs["x-a-0"]["metadata"]["uid"] == "other"
    assert planned.why("kajitori.dev/Blocked").startswith("NameTaken: names are in use: Job x-a-0")


def test_the_history_of_restarts_says_which_pod_began_each_and_stays_short() -> None:
    policy = rules(maxRestarts=100)
    planned = Planned(job_set(replicated("a"), failurePolicy=policy)).settle().ready()
    planned.pods = [
        {
            "metadata": {"name": "x-a-0-0-abcde", "namespace": "default"},
            "spec": {"nodeName": "n1"},
            "status": {
                "phase": "Failed",
                "containerStatuses": [{"name": "worker", "state": {"terminated": {"exitCode": 42}}}],
            },
        }
    ]
    for _ in range(12):
        planned.ready().fail("x-a-0").settle()
    history = planned.status["restartHistory"]
    assert len(history) == 10
    assert (history[-1]["pod"], history[-1]["container"], history[-1]["exitCode"]) == (
        "x-a-0-0-abcde",
        "worker",
        42,
    )
    assert history[-1]["job"] == "x-a-0"


def test_where_the_set_asks_for_it_each_restart_waits_twice_as_long_as_the_one_before() -> None:
    asked = {"groups.kajitori.dev/restart-backoff-seconds": "10"}
    policy = rules(maxRestarts=100)
    planned = Planned(job_set(replicated("a"), failurePolicy=policy, annotations=asked)).settle()
    for wait in (10, 20, 40, 80, 160, 320, 600, 600):
        planned.ready().fail("x-a-0").settle()
        assert not planned.jobs
        assert planned.plan().again_after_seconds == pytest.approx(wait, abs=1)
        planned.now += wait - 1
        assert not planned.settle().jobs
        planned.now += 1
        assert planned.settle().jobs


def in_place() -> Planned:
    job = {"backoffLimit": MAX_INT, "podReplacementPolicy": "Failed"}
    policy = {"maxRestarts": 2, "restartStrategy": "InPlaceRestart"}
    return Planned(job_set(replicated("a", 2, 2, job=job), failurePolicy=policy)).settle().ready()


def agents_say(planned: Planned, *attempts: int | None, restarts: int = 0) -> Planned:
    planned.pods = [
        {
            "metadata": {
                "name": f"p{number}",
                "annotations": {}
                if attempt is None
                else {"jobset.sigs.k8s.io/in-place-restart-attempt": str(attempt)},
            },
            "status": {"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": restarts}]},
        }
        for number, attempt in enumerate(attempts)
    ]
    return planned.settle()


def test_agents_are_told_when_all_are_in_the_same_attempt_and_which_one_to_leave() -> None:
    planned = in_place()
    assert "currentInPlaceRestartAttempt" not in agents_say(planned, 0, 0, 0, None).status
    assert agents_say(planned, 0, 0, 0, 0).status["currentInPlaceRestartAttempt"] == 0
    agents_say(planned, 1, 0, 0, 0)
    assert planned.status["previousInPlaceRestartAttempt"] == 0
    assert planned.status["currentInPlaceRestartAttempt"] == 0
    assert agents_say(planned, 1, 1, 1, 1).status["currentInPlaceRestartAttempt"] == 1
    assert planned.created == ["x-a-0", "x-a-1"], "nothing was made anew"


def test_too_many_restarts_in_place_fail_the_set() -> None:
    assert agents_say(in_place(), 3, 2, 2, 2).why("Failed").startswith("ReachedMaxRestarts")
    assert agents_say(in_place(), None, None, restarts=3).why("Failed").startswith("ReachedMaxRestarts")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_jobs_do_restarts_are_counted_once_and_the_set_ends_or_is_whole(data: st.DataObject) -> None:
    actions = ["RestartJobSet", "RestartJob", "RestartJobSetAndIgnoreMaxRestarts"]
    action = data.draw(st.sampled_from(actions))
    limit = data.draw(st.integers(0, 3))
    policy = {"maxRestarts": limit, "rules": [{"action": action}]}
    planned = Planned(job_set(replicated("a", 2), replicated("b"), failurePolicy=policy)).settle()
    failures = 0
    for _ in itertools.repeat(None, data.draw(st.integers(0, 6))):
        if planned.status.get("terminalState"):
            break
        planned.ready()
        planned.fail(data.draw(st.sampled_from(sorted(planned.jobs))))
        failures += 1
        # The controller may look again before it sees what it wrote or did.
        for _ in range(data.draw(st.integers(0, 3))):
            planned.plan()
        planned.settle()
    alone = sum(sum(one.get("jobRestarts") or []) for one in planned.status["replicatedJobsStatus"])
    done = planned.status["restarts"] + alone
    if action != "RestartJobSetAndIgnoreMaxRestarts":
        assert done == min(failures, limit)
        assert bool(planned.status.get("terminalState")) is (failures > limit)
    else:
        assert done == failures
    if not planned.status.get("terminalState"):
        assert set(planned.jobs) == {"x-a-0", "x-a-1", "x-b-0"}
        assert len(planned.created) == 3 + planned.status["restarts"] * 3 + alone
