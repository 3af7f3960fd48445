"""The controller of JobSets on a server of ours: it may die at any write, and it asks for nothing when all is well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.groups.job_sets.loop import Loop, running_controller, running_loop
from tests.groups.job_sets.planned import job_set, replicated

from kajitori.api.resource import JOB_SETS, JOBS, PODS

NEVER = {"restartPolicy": "Never"}


@pytest.fixture
async def loop() -> AsyncIterator[Loop]:
    async with running_loop() as running:
        yield running


async def dies(loop: Loop, writes: int, done: str, name: str) -> None:
    """A controller dies after so many writes, or has come as far as `done` (a condition) without it."""
    async with running_controller(loop.server, writes) as dying:

        async def dead() -> bool:
            conditions = (await loop.get(name)).get("status", {}).get("conditions", ())
            return dying.writes_left <= 0 or any(
                (one["type"], one["status"]) == (done, "True") for one in conditions
            )

        await loop.until(dead)

    async def what_it_deleted_is_gone() -> bool:
        return not any("deletionTimestamp" in job["metadata"] for job in (await loop.jobs(name)).values())

    await loop.until(what_it_deleted_is_gone)


async def test_a_controller_that_dies_at_any_write_is_followed_by_one_that_finishes(loop: Loop) -> None:
    for writes in range(8):
        name = f"x{writes}"
        names = (f"{name}-a-0", f"{name}-a-1", f"{name}-b-0")
        await loop.apply(
            job_set(
                replicated("a", 2, pod=NEVER),
                replicated("b", pod=NEVER),
                name=name,
                failurePolicy={"maxRestarts": 1},
            )
        )
        await dies(loop, writes, "Completed", name)
        async with running_controller(loop.server):
            before = await loop.whole(name, *names)
        await loop.end(names[1], 42)

        async def failed(job: str = names[1], name: str = name) -> bool:
            return (await loop.jobs(name))[job]["status"].get("failed", 0) > 0

        await loop.until(failed)
        await dies(loop, writes, "StartupPolicyCompleted", name) if writes < 6 else None
        async with running_controller(loop.server):
            after = await loop.whole(name, *names, attempt=1)
            status = (await loop.get(name))["status"]
        assert (status["restarts"], status["restartsCountTowardsMax"]) == (1, 1)
        assert [entry["job"] for entry in status["restartHistory"]] == [names[1]]
        uids = {job["metadata"]["uid"] for job in after.values()}
        assert not uids & {job["metadata"]["uid"] for job in before.values()}
        for job in names:
            await loop.end(job, 0)
        await dies(loop, min(writes, 1), "Completed", name)
        async with running_controller(loop.server):

            async def completed(name: str = name) -> bool:
                return (await loop.get(name))["status"].get("terminalState") == "Completed"

            await loop.until(completed)
        assert {job["metadata"]["uid"] for job in (await loop.jobs(name)).values()} == uids


async def test_a_set_at_rest_costs_nothing_and_jobs_cost_one_request_each(loop: Loop) -> None:
    names = tuple(f"x-a-{index}" for index in range(12))
    await loop.apply(job_set(replicated("a", 12)))
    async with running_controller(loop.server) as transport:
        await loop.whole("x", *names)

        async def said() -> bool:
            return (await loop.get("x"))["status"]["replicatedJobsStatus"][0]["ready"] == 12

        await loop.until(said)
        assert transport.requests["POST jobs"] == 12
        # What is written of the set follows the Jobs, several at a time.
        statuses = transport.requests["PATCH x"]
        assert statuses <= 26, transport.requests
        before = transport.requests.total()
        await loop.client.patch(JOB_SETS, "x", {"metadata": {"annotations": {"a": "b"}}}, namespace="default")
        await asyncio.sleep(0.5)
        assert transport.requests.total() == before, transport.requests
        await loop.client.delete(JOB_SETS, "x", "default")

        async def gone() -> bool:
            return not await loop.jobs("x")

        await loop.until(gone)
        assert transport.requests.total() == before


async def test_agents_in_the_pods_are_told_by_the_status_which_attempt_to_be_in(loop: Loop) -> None:
    job = {"backoffLimit": 2**31 - 1, "podReplacementPolicy": "Failed"}
    policy = {"maxRestarts": 2, "restartStrategy": "InPlaceRestart"}
    await loop.apply(job_set(replicated("a", 2, job=job), failurePolicy=policy))

    async def say(job: str, attempt: int) -> None:
        (pod,) = await loop.pods(job)
        note = {"metadata": {"annotations": {"jobset.sigs.k8s.io/in-place-restart-attempt": str(attempt)}}}
        await loop.client.patch(PODS, pod["metadata"]["name"], note, namespace="default")

    async def until(**wanted: int) -> None:
        async def told() -> bool:
            status = (await loop.get("x")).get("status", {})
            return all(status.get(f"{key}InPlaceRestartAttempt") == value for key, value in wanted.items())

        await loop.until(told)

    async with running_controller(loop.server):
        before = await loop.whole("x", "x-a-0", "x-a-1")
        await say("x-a-0", 0)
        await say("x-a-1", 0)
        await until(current=0)
        await say("x-a-0", 1)
        await until(current=0, previous=0)
        await say("x-a-1", 1)
        await until(current=1, previous=0)
        after = await loop.whole("x", "x-a-0", "x-a-1")
        assert {job["metadata"]["uid"] for job in before.values()} == {
            job["metadata"]["uid"] for job in after.values()
        }
        await say("x-a-0", 3)

        async def failed() -> bool:
            return (await loop.get("x"))["status"].get("terminalState") == "Failed"

        await loop.until(failed)


async def test_a_name_that_is_in_use_is_told_once_and_stays_told(loop: Loop) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox:1"}]}}
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "x-a-0", "namespace": "default"},
        "spec": {"template": template, "suspend": True},
    }
    await loop.client.create(JOBS, body)
    await loop.apply(job_set(replicated("a")))
    async with running_controller(loop.server) as transport:

        async def blocked() -> bool:
            conditions = (await loop.get("x")).get("status", {}).get("conditions", ())
            return any((one["type"], one["status"]) == ("kajitori.dev/Blocked", "True") for one in conditions)

        await loop.until(blocked)
        before = transport.requests["POST jobs"]
        note = {"metadata": {"annotations": {"a": "b"}}}
        await loop.client.patch(JOB_SETS, "x", note, namespace="default")
        await asyncio.sleep(0.3)
        assert transport.requests["POST jobs"] == before == 1
        assert await blocked()
        assert transport.requests["PATCH x"] == 1
