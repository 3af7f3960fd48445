"""The controller on an embedded API server with its Job controller and garbage collector, and a node that runs nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.definitions import install_definitions
from tests.groups.job_sets.planned import Object
from tests.groups.leader_worker_sets.loop import CountingTransport, FakeNode
from tests.groups.leader_worker_sets.loop import running_controller as running_one
from tests.waiting import eventually

from kajitori.api.resource import JOB_SETS, JOBS, PODS, SERVICE_ACCOUNTS
from kajitori.base.errors import NotFound
from kajitori.control.runtime import Runtime
from kajitori.groups.job_sets import controller
from kajitori.groups.job_sets.rbac import RULES
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import RunningApiServer, running_api_server
from kajitori.laptop.controllers import garbage, jobs


class Loop:
    """What a test sees of it, as an administrator."""

    def __init__(self, server: RunningApiServer, client: Client) -> None:
        self.server = server
        self.client = client

    async def apply(self, manifest: Object) -> Object:
        return await self.client.apply(JOB_SETS, manifest, field_manager="test", field_validation="Strict")

    async def get(self, name: str) -> Object:
        return await self.client.get(JOB_SETS, name, "default")

    async def jobs(self, name: str) -> dict[str, Object]:
        selector = f"jobset.sigs.k8s.io/jobset-name={name}"
        found = (await self.client.list(JOBS, "default", label_selector=selector)).items
        return {job["metadata"]["name"]: job for job in found}

    async def pods(self, job: str) -> list[Object]:
        selector = f"batch.kubernetes.io/job-name={job}"
        return (await self.client.list(PODS, "default", label_selector=selector)).items

    async def end(self, job: str, code: int) -> None:
        """The pods of a Job end with this code."""
        for pod in await self.pods(job):
            ended = {"terminated": {"exitCode": code, "startedAt": None, "finishedAt": None}}
            container = {"name": "worker", "ready": False, "restartCount": 0, "image": "i", "imageID": ""}
            status = {
                "phase": "Failed" if code else "Succeeded",
                "containerStatuses": [container | {"state": ended}],
            }
            with contextlib.suppress(NotFound):
                await self.client.patch(
                    PODS,
                    pod["metadata"]["name"],
                    {"status": status},
                    namespace="default",
                    subresource="status",
                )

    async def until(self, what: Callable[[], Awaitable[Any]]) -> Any:
        return await eventually(what)

    async def whole(self, name: str, *names: str, attempt: int = 0) -> dict[str, Object]:
        """Wait until these Jobs, and no others, are there in this attempt with a running pod each."""

        async def check() -> dict[str, Object] | None:
            jobs = await self.jobs(name)
            label = "jobset.sigs.k8s.io/restart-attempt"
            fine = all(
                job["metadata"]["labels"][label] == str(attempt)
                and "deletionTimestamp" not in job["metadata"]
                and job.get("status", {}).get("ready") == 1
                for job in jobs.values()
            )
            return jobs if fine and set(jobs) == set(names) else None

        return await self.until(check)


def running_controller(
    server: RunningApiServer, writes: float = float("inf")
) -> contextlib.AbstractAsyncContextManager[CountingTransport]:
    """The controller of JobSets, with the rights that it says it needs. writes: it dies after so many."""
    return running_one(server, writes, register=controller.register)


@contextlib.asynccontextmanager
async def running_loop() -> AsyncIterator[Loop]:
    """Everything but the controller of JobSets."""
    async with contextlib.AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kajitori-")))
        (home / "run").mkdir()
        roles = home / "run" / "component-roles.json"
        roles.write_text(json.dumps({"system:kajitori:controllers": RULES}))
        server = await stack.enter_async_context(running_api_server(home))
        config = load_config(str(server.kubeconfig))
        admin, of_node, of_jobs = [
            await stack.enter_async_context(Client(config, user_agent=name))
            for name in ("kubectl/test", "fake-node", "laptop")
        ]
        await _install(admin)
        runtime, stop = Runtime(of_jobs, grace_seconds=2.0), asyncio.Event()
        jobs.register(runtime)
        garbage.register(runtime)
        tasks = [asyncio.ensure_future(FakeNode(of_node).run()), asyncio.ensure_future(runtime.run(stop))]
        try:
            yield Loop(server, admin)
        finally:
            stop.set()
            tasks[0].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _install(client: Client) -> None:
    await install_definitions(client, "JobSet")
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": "default"},
    }
    await client.create(SERVICE_ACCOUNTS, account)
