"""JobSets on our API server and on the real one, with each one's own Job controller."""

from __future__ import annotations

import asyncio

import pytest
from tests.groups.job_sets.conftest import Sets
from tests.groups.job_sets.planned import Object, job_set, replicated

from kajitori.api.resource import JOB_SETS, JOBS, PERSISTENT_VOLUME_CLAIMS, PODS, SERVICES
from kajitori.base.errors import ApiError, NotFound

NEVER = {"restartPolicy": "Never"}


async def gone(sets: Sets, resource: object, name: str) -> bool:
    try:
        await sets.client.get(resource, name, sets.namespace)  # type: ignore[arg-type]
    except NotFound:
        return True
    return False


async def test_a_set_makes_its_jobs_and_service_succeeds_with_them_and_takes_all_along_when_deleted(
    sets: Sets,
) -> None:
    await sets.apply(
        job_set(
            replicated("driver", pod=NEVER),
            replicated("worker", 2, 2, pod=NEVER),
            coordinator={"replicatedJob": "driver"},
        )
    )
    jobs = await sets.until_jobs("x-driver-0", "x-worker-0", "x-worker-1")
    service = await sets.client.get(SERVICES, "x", sets.namespace)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"jobset.sigs.k8s.io/jobset-name": "x"}
    pods = await sets.running("x-worker-1")
    assert {(pod["spec"]["hostname"], pod["spec"]["subdomain"]) for pod in pods} == {
        ("x-worker-1-0", "x"),
        ("x-worker-1-1", "x"),
    }
    assert pods[0]["metadata"]["labels"]["jobset.sigs.k8s.io/coordinator"] == "x-driver-0-0.x"

    async def ready() -> bool:
        found = (await sets.status()).get("replicatedJobsStatus") or []
        return {(one["name"], one["ready"]) for one in found} == {("driver", 1), ("worker", 2)}

    await sets.until("all are ready", ready)
    await asyncio.gather(*(sets.end(name, 0) for name in jobs))
    completed = await sets.until_condition("Completed")
    assert completed["message"] == "jobset completed successfully"
    status = await sets.status()
    assert status["terminalState"] == "Completed"
    assert {one["name"]: one["succeeded"] for one in status["replicatedJobsStatus"]} == {
        "driver": 1,
        "worker": 2,
    }
    await sets.client.delete(JOB_SETS, "x", sets.namespace)

    async def nothing() -> bool:
        return not await sets.jobs() and await gone(sets, SERVICES, "x")

    await sets.until("everything is gone", nothing)


async def test_a_failed_job_restarts_the_set_until_it_may_not_any_more(sets: Sets) -> None:
    await sets.apply(
        job_set(replicated("a", 2, pod=NEVER), failurePolicy={"maxRestarts": 1}, ttlSecondsAfterFinished=3600)
    )
    first = await sets.until_jobs("x-a-0", "x-a-1")
    await sets.end("x-a-1", 42)
    await sets.running("x-a-0", attempt=1)
    jobs = await sets.jobs()
    assert not {job["metadata"]["uid"] for job in jobs.values()} & {
        job["metadata"]["uid"] for job in first.values()
    }
    status = await sets.status()
    assert (status["restarts"], status["restartsCountTowardsMax"]) == (1, 1)
    (entry,) = status["restartHistory"]
    assert (entry["job"], entry["container"], entry["exitCode"]) == ("x-a-1", "worker", 42)

    async def said() -> list[str]:
        return await sets.events("RestartJobSetFailurePolicyAction")

    (note,) = await sets.until("the restart is said", said)
    assert "first failed job: x-a-1" in note and "ended with exit code 42" in note
    await sets.end("x-a-0", 1, attempt=1)
    failed = await sets.until_condition("Failed")
    assert failed["reason"] == "ReachedMaxRestarts"
    assert (await sets.status())["terminalState"] == "Failed"
    await sets.until_jobs("x-a-0")


async def test_the_reason_of_a_failure_chooses_between_one_job_and_none(sets: Sets) -> None:
    codes = {"operator": "In", "values": [3]}
    given_up = {"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": codes}]}}
    await sets.apply(
        job_set(
            replicated("a", 2, pod=NEVER, job=given_up),
            failurePolicy={
                "maxRestarts": 5,
                "rules": [
                    {
                        "action": "FailJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                        "onJobFailureMessagePatterns": [r"exit code \d+ matching"],
                    },
                    {"name": "alone", "action": "RestartJob"},
                ],
            },
        )
    )
    first = await sets.until_jobs("x-a-0", "x-a-1")
    await sets.end("x-a-0", 1)

    async def again() -> bool:
        job = (await sets.jobs()).get("x-a-0")
        return job is not None and job["metadata"]["uid"] != first["x-a-0"]["metadata"]["uid"]

    await sets.until("the Job is there anew", again)
    jobs = await sets.jobs()
    assert jobs["x-a-0"]["metadata"]["labels"]["jobset.sigs.k8s.io/job-restart-attempt"] == "1"
    assert jobs["x-a-1"]["metadata"]["uid"] == first["x-a-1"]["metadata"]["uid"]
    (numbers,) = (await sets.status())["replicatedJobsStatus"]
    assert numbers["jobRestarts"] == [1, 0]
    await sets.end("x-a-1", 3)
    failed = await sets.until_condition("Failed")
    assert failed["reason"] == "FailJobSetFailurePolicyAction"


async def test_jobs_begin_in_order_or_when_what_they_depend_on_is_done(sets: Sets) -> None:
    order = {"startupPolicy": {"startupPolicyOrder": "InOrder"}}
    held = {"marks": {"annotations": {"kajitori.dev/test-ready": "false"}}}
    await sets.apply(job_set(replicated("a", **held), replicated("b"), name="ordered", **order))
    await sets.apply(
        job_set(
            replicated("a", pod=NEVER),
            replicated("b", dependsOn=[{"name": "a", "status": "Complete"}]),
            replicated("c", dependsOn=[{"name": "a", "status": "Ready"}]),
            name="needy",
        )
    )
    await sets.until_condition("StartupPolicyInProgress", "ordered")
    await sets.until_jobs("needy-a-0", "needy-c-0", of="needy")
    await sets.until_jobs("ordered-a-0", of="ordered")
    (pod,) = await sets.running("ordered-a-0")
    ready = {"metadata": {"annotations": {"kajitori.dev/test-ready": "true"}}}
    await sets.client.patch(PODS, pod["metadata"]["name"], ready, namespace=sets.namespace)
    await sets.until_jobs("ordered-a-0", "ordered-b-0", of="ordered")
    await sets.until_condition("StartupPolicyCompleted", "ordered")
    await sets.end("needy-a-0", 0)
    await sets.until_jobs("needy-a-0", "needy-b-0", "needy-c-0", of="needy")


async def test_a_suspended_set_takes_over_where_a_queue_sends_it_and_can_be_held_back_again(
    sets: Sets,
) -> None:
    manifest = job_set(replicated("a", 2), suspend=True)
    await sets.apply(manifest)
    jobs = await sets.until_jobs("x-a-0", "x-a-1")
    assert all(job["spec"]["suspend"] for job in jobs.values())
    await sets.until_condition("Suspended")

    async def admitted(node: str, suspend: bool) -> None:
        template = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
        template["metadata"] = {"labels": {"queue": node}}
        template["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
        manifest["spec"]["suspend"] = suspend
        await sets.apply(manifest)

    await admitted("fake-2", suspend=True)
    manifest["spec"]["suspend"] = False
    await sets.apply(manifest)
    (pod,) = await sets.running("x-a-1")
    assert pod["spec"]["nodeName"] == "fake-2"
    assert pod["metadata"]["labels"]["queue"] == "fake-2"
    await sets.until_condition("Suspended", status="False")
    manifest["spec"]["suspend"] = True
    await sets.apply(manifest)

    async def none_runs() -> bool:
        return not await sets.pods("x-a-0") and not await sets.pods("x-a-1")

    await sets.until("no pod runs", none_runs)
    # It had started, so the queue may send it elsewhere only after its start is forgotten.
    await admitted("fake-1", suspend=True)
    manifest["spec"]["suspend"] = False
    await sets.apply(manifest)
    (pod,) = await sets.running("x-a-1")
    assert pod["spec"]["nodeName"] == "fake-1"
    uids = {job["metadata"]["uid"] for job in (await sets.jobs()).values()}
    assert uids == {job["metadata"]["uid"] for job in jobs.values()}, "the same Jobs all along"


async def test_any_success_ends_a_set_whose_time_is_over_at_once(sets: Sets) -> None:
    await sets.apply(
        job_set(replicated("a", 2, pod=NEVER), successPolicy={"operator": "Any"}, ttlSecondsAfterFinished=0)
    )
    await sets.until_jobs("x-a-0", "x-a-1")
    await sets.end("x-a-1", 0)

    async def over() -> bool:
        return await gone(sets, JOB_SETS, "x") and not await sets.jobs()

    await sets.until("the set and its Jobs are gone", over)


async def test_each_job_has_a_domain_of_its_own_and_claims_are_kept_where_the_set_says_so(sets: Sets) -> None:
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    policy = {"templates": [claim], "retentionPolicy": {"whenDeleted": "Retain"}}
    exclusive = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "topology.kubernetes.io/zone"}
    await sets.apply(job_set(replicated("a", 2, 3), annotations=exclusive))
    mounts = [{"name": "data", "mountPath": "/data"}]
    pod = {"containers": [{"name": "worker", "image": "busybox:1", "volumeMounts": mounts}]}
    await sets.apply(
        job_set(replicated("a", pod=pod, job={"parallelism": 0}), name="y", volumeClaimPolicies=[policy])
    )
    zero, one = await sets.running("x-a-0"), await sets.running("x-a-1")
    assert len({pod["spec"]["nodeName"] for pod in zero}) == 1
    assert {pod["spec"]["nodeName"] for pod in zero} != {pod["spec"]["nodeName"] for pod in one}
    await sets.until_jobs("y-a-0", of="y")
    made = await sets.client.get(PERSISTENT_VOLUME_CLAIMS, "data-y", sets.namespace)
    assert not made["metadata"].get("ownerReferences")
    assert made["metadata"]["labels"] == {"jobset.sigs.k8s.io/jobset-name": "y"}


async def test_a_job_that_is_in_the_way_is_named_and_the_set_goes_on_when_it_is_gone(sets: Sets) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox:1"}]}}
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "x-a-0",
            "namespace": sets.namespace,
            "labels": {"jobset.sigs.k8s.io/jobset-name": "x"},
        },
        "spec": {"template": template, "suspend": True},
    }
    await sets.client.create(JOBS, body)
    await sets.apply(job_set(replicated("a")))
    await sets.apply(job_set(replicated("a"), name="m", managedBy="acme.io/elsewhere"))
    blocked = await sets.until_condition("kajitori.dev/Blocked")
    assert "Job x-a-0" in blocked["message"]
    found = await sets.client.get(JOBS, "x-a-0", sets.namespace)
    assert not found["metadata"].get("ownerReferences")
    await sets.client.delete(JOBS, "x-a-0", sets.namespace, propagation_policy="Background")
    await sets.running("x-a-0")
    await sets.until_condition("kajitori.dev/Blocked", status="False")
    assert not await sets.jobs("m"), "another controller's set"
    assert not (await sets.status("m"))


async def test_gangs_of_whole_sets_run_one_after_the_other_where_only_one_fits(sets: Sets) -> None:
    # Our binder needs no gate.
    method = "Auto" if sets.server == "embedded" else "Gate"
    gang = {"groups.kajitori.dev/gang": method, "groups.kajitori.dev/gang-unit": "JobSet"}
    whole_node = {"limits": {"nvidia.com/gpu": "8"}}
    pod = {"containers": [{"name": "worker", "image": "busybox:1", "resources": whole_node}], **NEVER}
    for name in ("first", "second"):
        await sets.apply(job_set(replicated("a", 2, pod=pod), name=name, annotations=gang))
        await sets.until_jobs(f"{name}-a-0", f"{name}-a-1", of=name)
        if name == "first":
            for job in ("first-a-0", "first-a-1"):
                await sets.running(job)

    async def waits() -> bool:
        pods = [*await sets.pods("second-a-0"), *await sets.pods("second-a-1")]
        return len(pods) == 2 and not any(pod["spec"].get("nodeName") for pod in pods)

    await sets.until("the second waits", waits)
    await sets.end("first-a-0", 0)
    await asyncio.sleep(0.5)
    assert await waits(), "half of it would fit now"
    await sets.end("first-a-1", 0)
    for job in ("second-a-0", "second-a-1"):
        await sets.running(job)


async def test_a_template_that_makes_no_job_says_why_on_the_set(sets: Sets) -> None:
    await sets.apply(job_set(replicated("a", pod={"containers": [{"name": "worker"}]})))
    blocked = await sets.until_condition("kajitori.dev/Blocked")
    assert blocked["reason"] == "JobCreationFailed"
    assert "spec.template.spec.containers[0].image" in blocked["message"]


def bad(change: Object, *jobs: Object, name: str = "x") -> Object:
    return job_set(*(jobs or (replicated("a"), replicated("b"))), name=name, **change)


REFUSED: dict[str, tuple[Object, str, str]] = {
    "a name that is no host name": (bad({}, name="1x"), "JobSet", "a letter first"),
    "a name that would not fit": (bad({}, replicated("a" * 40), name="x" * 30), "JobSet", "fit 63"),
    "pods whose names would not fit": (
        bad({}, replicated("a" * 25, pods=100), name="x" * 30),
        "JobSet",
        "POD-abcde",
    ),
    "depending on a later job": (
        bad({}, replicated("a", dependsOn=[{"name": "b", "status": "Ready"}]), replicated("b")),
        "spec.replicatedJobs",
        "stand before",
    ),
    "depending on what is not there": (
        bad({}, replicated("a"), replicated("b", dependsOn=[{"name": "z", "status": "Ready"}])),
        "spec.replicatedJobs",
        "stand before",
    ),
    "order by two means": (
        bad(
            {"startupPolicy": {"startupPolicyOrder": "InOrder"}},
            replicated("a"),
            replicated("b", dependsOn=[{"name": "a", "status": "Ready"}]),
        ),
        "spec.startupPolicy",
        "exclude",
    ),
    "success of nobody": (
        bad({"successPolicy": {"operator": "All", "targetReplicatedJobs": ["z"]}}),
        "spec.successPolicy.targetReplicatedJobs",
        "of this set",
    ),
    "a rule for nobody": (
        bad({"failurePolicy": {"rules": [{"action": "FailJobSet", "targetReplicatedJobs": ["z"]}]}}),
        "spec.failurePolicy.rules",
        "of this set",
    ),
    "rules of one name": (
        bad({"failurePolicy": {"rules": [{"name": "n", "action": "FailJobSet"}] * 2}}),
        "spec.failurePolicy.rules",
        "differ",
    ),
    "an unknown reason": (
        bad({"failurePolicy": {"rules": [{"action": "FailJobSet", "onJobFailureReasons": ["Bored"]}]}}),
        "spec.failurePolicy.rules[0].onJobFailureReasons[0]",
        "Unsupported value",
    ),
    "a pattern that is none": (
        bad({"failurePolicy": {"rules": [{"action": "FailJobSet", "onJobFailureMessagePatterns": ["("]}]}}),
        "spec.failurePolicy.rules[0].onJobFailureMessagePatterns",
        "",
    ),
    "single restarts of too many": (
        bad({"failurePolicy": {"rules": [{"action": "RestartJob"}]}}, replicated("a", 1025)),
        "spec.replicatedJobs",
        "1024",
    ),
    "restarts in place of Jobs that fail": (
        bad({"failurePolicy": {"restartStrategy": "InPlaceRestart"}}),
        "spec.failurePolicy.restartStrategy",
        "backoffLimit 2147483647",
    ),
    "a coordinator that is not there": (
        bad({"coordinator": {"replicatedJob": "a", "jobIndex": 1}}),
        "spec.coordinator",
        "jobIndex",
    ),
    "a coordinator's pod that is not there": (
        bad({"coordinator": {"replicatedJob": "a", "podIndex": 1}}),
        "spec.coordinator.podIndex",
        "completions above podIndex",
    ),
    "a coordinator's address that would not fit": (
        bad({"coordinator": {"replicatedJob": "a"}}, name="x" * 35),
        "JobSet",
        "coordinator's address",
    ),
    "a manager without a path": (bad({"managedBy": "me"}), "spec.managedBy", "should match"),
    "a subdomain that is no Service": (
        bad({"network": {"subdomain": "9"}}),
        "spec.network.subdomain",
        "match",
    ),
    "a group that is no name": (bad({}, replicated("a", groupName="A")), "groupName", "match"),
    "a claim elsewhere": (
        bad({"volumeClaimPolicies": [{"templates": [{"metadata": {"name": "c", "namespace": "n"}}]}]}),
        "spec.volumeClaimPolicies[0].templates[0].metadata.namespace",
        "",
    ),
    "more pods than can be counted": (
        bad({}, replicated("a", 3, job={"parallelism": 2**30, "completions": None})),
        "spec.replicatedJobs[0].replicas",
        "counted",
    ),
}


@pytest.fixture
async def quiet(server: object, namespace: str) -> Sets:
    """Without nodes: what is refused needs none."""
    return Sets(server, namespace)  # type: ignore[arg-type]


async def test_what_makes_no_sense_is_refused_with_its_field_and_a_sentence(quiet: Sets) -> None:
    for what, (manifest, where, sentence) in REFUSED.items():
        with pytest.raises(ApiError) as refused:
            await quiet.apply(manifest)
        text = str(refused.value)
        assert where in text and sentence in text, f"{what}: {text}"


async def test_a_set_cannot_change_but_for_what_a_queue_may_write_while_it_is_suspended(quiet: Sets) -> None:
    def changed(path: str, value: object, **spec: object) -> Object:
        manifest = job_set(replicated("a"), replicated("b"), **spec)
        *way, last = path.split(".")
        place: Object = manifest["spec"]["replicatedJobs"][0]
        for step in way:
            place = place[step]
        place[last] = value
        return manifest

    managed = {"managedBy": "acme.io/elsewhere"}
    await quiet.apply(changed("replicas", 1, **managed))
    pod = "template.spec.template"
    container = [{"name": "worker", "image": "busybox:2"}]
    for path, value in (
        ("replicas", 2),
        ("groupName", "g"),
        ("template.metadata", {"labels": {"a": "b"}}),
        ("template.spec.parallelism", 0),
        ("template.spec.activeDeadlineSeconds", 5),
        (f"{pod}.spec.containers", container),
        (f"{pod}.spec.nodeSelector", {"a": "b"}),
        (f"{pod}.metadata", {"labels": {"a": "b"}}),
    ):
        with pytest.raises(ApiError, match="change"):
            await quiet.apply(changed(path, value, **managed))
    with pytest.raises(ApiError, match="added, removed"):
        await quiet.apply(job_set(replicated("a"), **managed))
    with pytest.raises(ApiError, match="cannot change"):
        await quiet.apply(job_set(replicated("a"), replicated("b"), managedBy="acme.io/other"))
    with pytest.raises(ApiError, match="cannot change"):
        await quiet.apply(changed("replicas", 1, **managed, network={"subdomain": "n"}))
    await quiet.apply(changed("replicas", 1, **managed, suspend=True, ttlSecondsAfterFinished=5))
    await quiet.apply(changed(f"{pod}.spec.nodeSelector", {"a": "b"}, **managed, suspend=True))
    with pytest.raises(ApiError, match="pods cannot change"):
        await quiet.apply(changed(f"{pod}.spec.containers", container, **managed, suspend=True))
    await quiet.apply(changed(f"{pod}.spec.nodeSelector", {"a": "b"}, **managed, suspend=False))
