"""JobSets on both servers: ours runs the controller among its own, beside the real one it runs in the test's process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.groups.job_sets.planned import Object
from tests.servers import Server
from tests.waiting import eventually

from kajitori.api.resource import EVENTS, JOB_SETS, JOBS, PODS
from kajitori.base.errors import AlreadyExists, NotFound
from kajitori.control.runtime import Runtime
from kajitori.groups.job_sets import controller
from kajitori.groups.job_sets.rbac import RULES
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.scheduling.gates import controller as gates
from kajitori.scheduling.rbac import RULES as GATE_RULES

USER = "job-set-tests"
EXIT = "kajitori.dev/test-exit"


class Sets:
    """The JobSets of one namespace, as a user and the nodes see them."""

    def __init__(self, server: Server, namespace: str) -> None:
        self.server = server.name
        self.client = server.client
        self.namespace = namespace

    async def apply(self, manifest: Object) -> Object:
        body = {**manifest, "metadata": {**manifest["metadata"], "namespace": self.namespace}}
        return await self.client.apply(JOB_SETS, body, field_manager="test", field_validation="Strict")

    async def get(self, name: str = "x") -> Object:
        return await self.client.get(JOB_SETS, name, self.namespace)

    async def status(self, name: str = "x") -> Object:
        return (await self.get(name)).get("status") or {}

    async def jobs(self, name: str = "x") -> dict[str, Object]:
        """By name, without those on their way out."""
        selector = f"jobset.sigs.k8s.io/jobset-name={name}"
        found = (await self.client.list(JOBS, self.namespace, label_selector=selector)).items
        return {job["metadata"]["name"]: job for job in found if "deletionTimestamp" not in job["metadata"]}

    async def pods(self, job: str) -> list[Object]:
        selector = f"batch.kubernetes.io/job-name={job}"
        found = (await self.client.list(PODS, self.namespace, label_selector=selector)).items
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    async def running(self, job: str, attempt: int = 0) -> list[Object]:
        """The pods of a Job of this attempt, once they run."""

        async def run() -> list[Object]:
            pods = await self.pods(job)
            label = "jobset.sigs.k8s.io/restart-attempt"
            fine = [
                pod
                for pod in pods
                if pod["status"].get("phase") == "Running"
                and pod["metadata"]["labels"][label] == str(attempt)
            ]
            return pods if pods and len(fine) == len(pods) else []

        return await eventually(run, f"the pods of {job} run")

    async def end(self, job: str, code: int, attempt: int = 0) -> None:
        """The containers of a Job's pods end with this code."""
        for pod in await self.running(job, attempt):
            patch = {"metadata": {"annotations": {EXIT: str(code)}}}
            with contextlib.suppress(NotFound):
                await self.client.patch(PODS, pod["metadata"]["name"], patch, namespace=self.namespace)

    async def until(self, what: str, condition: Callable[[], Awaitable[Any]]) -> Any:
        return await eventually(condition, what, 60)

    async def until_condition(self, kind: str, name: str = "x", status: str = "True") -> Object:
        async def holds() -> Object | None:
            found = (await self.status(name)).get("conditions") or []
            return next((one for one in found if (one["type"], one["status"]) == (kind, status)), None)

        return await self.until(f"{name} is {kind}: {status}", holds)

    async def until_jobs(self, *names: str, of: str = "x") -> dict[str, Object]:
        async def there() -> dict[str, Object] | None:
            jobs = await self.jobs(of)
            return jobs if set(jobs) == set(names) else None

        return await self.until(f"the Jobs of {of} are {names}", there)

    async def events(self, reason: str) -> list[str]:
        found = (await self.client.list(EVENTS, self.namespace)).items
        return [event.get("note", "") for event in found if event["reason"] == reason]


async def allow(client: Client) -> None:
    """Give the controller's user on the real server the rights that the controller says it needs, and no others."""
    api = "rbac.authorization.k8s.io"
    for plural, kind, body in (
        ("clusterroles", "ClusterRole", {"rules": [*RULES, *GATE_RULES]}),
        (
            "clusterrolebindings",
            "ClusterRoleBinding",
            {
                "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": USER},
                "subjects": [{"apiGroup": api, "kind": "User", "name": USER}],
            },
        ),
    ):
        with contextlib.suppress(AlreadyExists):
            await client.request(
                "POST",
                f"/apis/{api}/v1/{plural}",
                body={"apiVersion": f"{api}/v1", "kind": kind, "metadata": {"name": USER}, **body},
            )


@pytest.fixture
async def controller_of(server: Server) -> AsyncIterator[None]:
    """A controller that serves JobSets."""
    if server.name == "embedded":
        yield
        return
    await allow(server.client)
    config = load_config(str(server.kubeconfig_of(USER)))
    async with Client(config, user_agent="kajitori-controllers") as client:
        runtime, stop = Runtime(client, grace_seconds=2.0), asyncio.Event()
        controller.register(runtime)
        gates.register(runtime)
        running = asyncio.ensure_future(runtime.run(stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def sets(server: Server, namespace: str, nodes: list[str], controller_of: None) -> AsyncIterator[Sets]:
    found = Sets(server, namespace)
    yield found
    # A namespace that is deleted is not waited for; without their sets, Jobs go at once.
    await server.client.delete_collection(JOB_SETS, namespace)
