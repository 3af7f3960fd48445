"""Jobs on a real embedded API server; a test plays the nodes and ends pods as it likes."""

from __future__ import annotations

import contextlib

import pytest

from kajitori.api.resource import CORE_EVENTS, JOBS, PODS, SERVICE_ACCOUNTS
from kajitori.base.clock import rfc3339
from kajitori.base.errors import Conflict, NotFound
from kajitori.laptop.controllers import garbage, jobs, service_accounts


class JobWorld:
    def __init__(self, world):
        self.world, self.client = world, world.client

    async def create(self, name="work", *, restart="Never", **spec):
        template = {
            "metadata": {"labels": {"app": name}},
            "spec": {"restartPolicy": restart, "containers": [{"name": "c", "image": "i"}]},
        }
        job = {"metadata": {"name": name, "namespace": "default"}, "spec": {"template": template, **spec}}
        return await self.client.create(JOBS, job)

    async def job(self, name="work"):
        return await self.client.get(JOBS, name, "default")

    async def status(self, name="work"):
        return (await self.job(name))["status"]

    async def condition(self, type_name, name="work"):
        conditions = (await self.status(name)).get("conditions", [])
        return next((c for c in conditions if c["type"] == type_name and c["status"] == "True"), None)

    async def active(self, count):
        """The active pods, once there are so many and the status says so."""

        async def check():
            pods = [
                pod
                for pod in await self.world.pods(selector="app=work")
                if pod["status"]["phase"] in ("Pending", "Running")
                and "deletionTimestamp" not in pod["metadata"]
            ]
            assert len(pods) == count
            assert (await self.status()).get("active", 0) == count
            return sorted(pods, key=lambda pod: index_of(pod) or 0)

        if count:
            return await self.world.until(check)

        async def none_left():
            return await check() == []

        return await self.world.until(none_left)

    async def finish(self, pod, code=0, conditions=()):
        now = rfc3339(self.world.clock.now())
        ended = {
            "exitCode": code,
            "finishedAt": now,
            "startedAt": now,
            "reason": "Error" if code else "Completed",
        }
        status = {
            "phase": "Failed" if code else "Succeeded",
            "conditions": [*conditions],
            "containerStatuses": [
                {"name": "c", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": {"terminated": ended}}
            ],
        }  # fmt: skip
        with contextlib.suppress(NotFound, Conflict):
            await self.client.patch(
                PODS, pod["metadata"]["name"], {"status": status}, namespace="default", subresource="status"
            )

    async def remove_deleted(self):
        for pod in await self.world.pods():
            if "deletionTimestamp" in pod["metadata"]:
                with contextlib.suppress(NotFound):
                    await self.client.delete(PODS, pod["metadata"]["name"], "default", grace_period_seconds=0)

    async def ended(self, type_name, name="work"):
        async def check():
            await self.remove_deleted()
            return await self.condition(type_name, name)

        return await self.world.until(check)

    async def events(self, name="work"):
        found = await self.client.list(CORE_EVENTS, "default", field_selector=f"involvedObject.name={name}")
        return {event["reason"]: event["message"] for event in found.items}


def index_of(pod):
    text = pod["metadata"].get("annotations", {}).get("batch.kubernetes.io/job-completion-index")
    return None if text is None else int(text)


@pytest.fixture
async def at_work(world):
    await world.start(service_accounts, garbage, jobs)

    async def account():
        return (await world.client.list(SERVICE_ACCOUNTS, "default")).items

    await world.until(account)
    return JobWorld(world)


async def test_a_job_counts_each_pod_once_and_completes(at_work):
    await at_work.create(completions=3, parallelism=2)
    first = await at_work.active(2)
    assert all("batch.kubernetes.io/job-tracking" in pod["metadata"]["finalizers"] for pod in first)
    assert all(pod["metadata"]["generateName"] == "work-" for pod in first)
    for pod in first:
        await at_work.finish(pod)
    for pod in await at_work.active(1):
        await at_work.finish(pod)
    complete = await at_work.ended("Complete")
    assert (complete["reason"], complete["message"]) == (
        "CompletionsReached",
        "Reached expected number of succeeded pods",
    )
    status = await at_work.status()
    assert [c["type"] for c in status["conditions"]] == ["SuccessCriteriaMet", "Complete"]
    assert (status["succeeded"], status["ready"], status["terminating"]) == (3, 0, 0)
    assert status["uncountedTerminatedPods"] == {} and status["completionTime"] >= status["startTime"]
    assert "active" not in status
    assert not any(pod["metadata"].get("finalizers") for pod in await at_work.world.pods())

    async def told():
        events = await at_work.events()
        assert events["Completed"] == "Job completed" and "SuccessfulCreate" in events
        return True

    await at_work.world.until(told)


async def test_each_index_gets_its_pod_with_its_number_in_name_label_hostname_and_environment(at_work):
    await at_work.create(completions=3, parallelism=3, completionMode="Indexed")
    pods = await at_work.active(3)
    assert [index_of(pod) for pod in pods] == [0, 1, 2]
    assert [pod["spec"]["hostname"] for pod in pods] == ["work-0", "work-1", "work-2"]
    assert pods[1]["metadata"]["generateName"] == "work-1-"
    assert pods[1]["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "1"
    variable = pods[1]["spec"]["containers"][0]["env"][0]
    assert variable["name"] == "JOB_COMPLETION_INDEX"
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == (
        "metadata.labels['batch.kubernetes.io/job-completion-index']"
    )
    for pod in (pods[0], pods[2]):
        await at_work.finish(pod)

    async def counted():
        return (await at_work.status()).get("completedIndexes") == "0,2"

    await at_work.world.until(counted)
    await at_work.finish(pods[1])
    await at_work.ended("Complete")
    assert (await at_work.status())["completedIndexes"] == "0-2"


async def test_failures_are_replaced_after_a_growing_pause_until_the_limit(at_work):
    await at_work.create(backoffLimit=1)
    (pod,) = await at_work.active(1)
    await at_work.finish(pod, code=1)

    async def failed_once():
        status = await at_work.status()
        return status.get("failed") == 1 and not status.get("active")

    await at_work.world.until(failed_once)
    at_work.world.clock.offset_seconds += 11
    await at_work.client.patch(JOBS, "work", {"metadata": {"labels": {"again": "yes"}}}, namespace="default")
    (pod,) = await at_work.active(1)
    await at_work.finish(pod, code=1)
    failed = await at_work.ended("Failed")
    assert (failed["reason"], failed["message"]) == (
        "BackoffLimitExceeded",
        "Job has reached the specified backoff limit",
    )
    status = await at_work.status()
    assert [c["type"] for c in status["conditions"]] == ["FailureTarget", "Failed"]
    assert status["failed"] == 2


async def test_a_pod_failure_policy_fails_the_job_at_once_or_ignores_the_failure(at_work):
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    ]
    await at_work.create(parallelism=2, completions=2, podFailurePolicy={"rules": rules})
    one, two = await at_work.active(2)
    await at_work.finish(one, code=1, conditions=[{"type": "DisruptionTarget", "status": "True"}])

    async def released():
        pods = await at_work.world.pods()
        return any(
            pod["metadata"]["name"] == one["metadata"]["name"] and not pod["metadata"].get("finalizers")
            for pod in pods
        )

    await at_work.world.until(released)
    assert "failed" not in await at_work.status()
    await at_work.finish(two, code=42)
    failed = await at_work.ended("Failed")
    assert failed["reason"] == "PodFailurePolicy"
    assert failed["message"] == (
        f"Container c for pod default/{two['metadata']['name']} failed with exit code 42 matching FailJob rule at index 1"
    )


async def test_with_a_limit_per_index_one_index_fails_and_the_others_go_on(at_work):
    await at_work.create(completions=2, parallelism=2, completionMode="Indexed", backoffLimitPerIndex=0)
    zero, one = await at_work.active(2)
    assert zero["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"] == "0"
    await at_work.finish(zero, code=1)

    async def failed():
        return (await at_work.status()).get("failedIndexes") == "0"

    await at_work.world.until(failed)
    await at_work.finish(one)
    condition = await at_work.ended("Failed")
    assert (condition["reason"], condition["message"]) == ("FailedIndexes", "Job has failed indexes")
    assert (await at_work.status())["completedIndexes"] == "1"


async def test_the_next_pod_of_an_index_takes_over_its_failure_count(at_work):
    await at_work.create(completions=1, completionMode="Indexed", backoffLimitPerIndex=1)
    (pod,) = await at_work.active(1)
    await at_work.finish(pod, code=1)

    async def idle():
        return not (await at_work.status()).get("active")

    await at_work.world.until(idle)
    at_work.world.clock.offset_seconds += 11
    await at_work.client.patch(JOBS, "work", {"metadata": {"labels": {"a": "b"}}}, namespace="default")
    (pod,) = await at_work.active(1)
    assert pod["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"] == "1"


async def test_a_success_policy_ends_the_job_and_its_other_pods(at_work):
    policy = {"rules": [{"succeededIndexes": "0", "succeededCount": 1}]}
    await at_work.create(completions=3, parallelism=3, completionMode="Indexed", successPolicy=policy)
    pods = await at_work.active(3)
    await at_work.finish(pods[0])
    complete = await at_work.ended("Complete")
    assert (complete["reason"], complete["message"]) == ("SuccessPolicy", "Matched rules at index 0")
    status = await at_work.status()
    assert status["succeeded"] == 1 and "failed" not in status
    assert len(await at_work.world.pods()) == 1


async def test_a_suspended_job_has_no_pods_and_no_start_time_until_it_is_resumed(at_work):
    await at_work.create(parallelism=2, completions=2)
    await at_work.active(2)
    await at_work.client.patch(JOBS, "work", {"spec": {"suspend": True}}, namespace="default")
    suspended = await at_work.ended("Suspended")
    assert (suspended["reason"], suspended["message"]) == ("JobSuspended", "Job suspended")

    async def gone():
        await at_work.remove_deleted()
        return not await at_work.world.pods()

    await at_work.world.until(gone)
    status = await at_work.status()
    assert "startTime" not in status and "failed" not in status
    await at_work.client.patch(JOBS, "work", {"spec": {"suspend": False}}, namespace="default")
    await at_work.active(2)
    status = await at_work.status()
    assert "startTime" in status
    assert [(c["type"], c["status"], c["reason"]) for c in status["conditions"]] == [
        ("Suspended", "False", "JobResumed")
    ]


async def test_a_deadline_that_has_passed_fails_the_job(at_work):
    await at_work.create(activeDeadlineSeconds=600)
    await at_work.active(1)
    at_work.world.clock.offset_seconds += 601
    await at_work.client.patch(JOBS, "work", {"metadata": {"labels": {"a": "b"}}}, namespace="default")
    failed = await at_work.ended("Failed")
    assert (failed["reason"], failed["message"]) == (
        "DeadlineExceeded",
        "Job was active longer than specified deadline",
    )
    assert (await at_work.status())["failed"] == 1


async def test_a_finished_job_goes_with_its_pods_after_its_time_to_live(at_work):
    await at_work.create(ttlSecondsAfterFinished=0)
    (pod,) = await at_work.active(1)
    await at_work.finish(pod)

    async def gone():
        await at_work.remove_deleted()
        return not (await at_work.client.list(JOBS, "default")).items and not await at_work.world.pods()

    await at_work.world.until(gone)


async def test_a_job_that_something_else_manages_is_left_alone(at_work):
    await at_work.create("foreign", managedBy="kueue.x-k8s.io/multikueue")
    await at_work.create()
    await at_work.active(1)
    assert not (await at_work.status("foreign"))


async def test_an_indexed_job_can_grow_and_shrink_while_it_runs(at_work):
    await at_work.create(completions=2, parallelism=2, completionMode="Indexed")
    await at_work.active(2)
    for size in (4, 1):
        await at_work.client.patch(
            JOBS, "work", {"spec": {"completions": size, "parallelism": size}}, namespace="default"
        )
        assert [index_of(pod) for pod in await at_work.active(size)] == list(range(size))
    (pod,) = await at_work.active(1)
    await at_work.finish(pod)
    await at_work.ended("Complete")


async def test_pods_that_lost_their_job_lose_its_finalizer(at_work):
    await at_work.create()
    await at_work.active(1)
    await at_work.client.delete(JOBS, "work", "default", propagation_policy="Orphan")

    async def freed():
        (left,) = await at_work.world.pods()
        return not left["metadata"].get("finalizers") and not left["metadata"].get("ownerReferences")

    await at_work.world.until(freed)
