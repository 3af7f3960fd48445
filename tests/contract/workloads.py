"""What the tests of workload kinds share: manifests, waiting for a status, events, and kubectl."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import Any

import pytest
from tests.servers import Server
from tests.waiting import eventually

Object = dict[str, Any]
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def template(image: str = "i:1", app: str = "w", **spec: Any) -> Object:
    """A pod template with one container `c`; pods end at once when they are deleted."""
    return {
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": image}], "terminationGracePeriodSeconds": 0, **spec},
    }


def workload(kind: str, name: str = "w", image: str = "i:1", **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(image, name), **spec},
    }


class Workload:
    """One workload of a test: where it is, and what its pods and events are."""

    def __init__(self, server: Server, namespace: str, plural: str, name: str = "w") -> None:
        self.server, self.namespace, self.plural, self.name = server, namespace, plural, name
        self.collection = f"/apis/apps/v1/namespaces/{namespace}/{plural}"
        self.path = f"{self.collection}/{name}"

    async def create(self, obj: Object) -> Object:
        return (await self.server.http.create(self.collection, obj)).ok()

    async def get(self) -> Object:
        return (await self.server.http.get(self.path)).ok()

    async def patch(self, patch: Object) -> Object:
        return (await self.server.http.merge(self.path, patch)).ok()

    async def set_image(self, image: str) -> None:
        containers = [{"name": "c", "image": image}]
        await self.patch({"spec": {"template": {"spec": {"containers": containers}}}})

    async def pods(self, app: str = "") -> list[Object]:
        """Pods that are not on their way out, by name."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        found = (await self.server.http.get(path, labelSelector=f"app={app or self.name}")).ok()["items"]
        return sorted(
            (pod for pod in found if "deletionTimestamp" not in pod["metadata"]),
            key=lambda pod: pod["metadata"]["name"],
        )

    async def images(self) -> list[str]:
        return [pod["spec"]["containers"][0]["image"] for pod in await self.pods()]

    async def list(self, path: str) -> list[Object]:
        """path: such as `apps/v1/controllerrevisions` or `v1/events`."""
        group, _, plural = path.rpartition("/")
        prefix = f"/apis/{group}" if "/" in group else f"/api/{group}"
        return (await self.server.http.get(f"{prefix}/namespaces/{self.namespace}/{plural}")).ok()["items"]

    async def events(self) -> set[tuple[str, str, str]]:
        """Type, reason and message of the workload's events."""
        return {
            (one["type"], one["reason"], one["message"])
            for one in await self.list("v1/events")
            if one["involvedObject"].get("name") == self.name
        }

    async def told(self, *wanted: tuple[str, str, str]) -> None:
        async def heard() -> bool:
            return set(wanted) <= await self.events()

        try:
            await eventually(heard, f"events {wanted}", 20)
        except BaseException:
            print(await self.events())
            raise

    async def until_status(self, **wanted: Any) -> Object:
        """Wait until the status of the present generation has these fields; None: it has not."""
        last: Object = {}

        async def holds() -> Object | None:
            nonlocal last
            obj = await self.get()
            last = obj.get("status", {})
            current = last.get("observedGeneration") == obj["metadata"]["generation"]
            return last if current and all(last.get(key) == value for key, value in wanted.items()) else None

        try:
            return await eventually(holds, f"status with {wanted}")
        except BaseException:
            print("last status:", last)
            raise

    async def kubectl(self, *words: str) -> str:
        environment = {**os.environ, "KUBECONFIG": str(self.server.kubeconfig)}
        process = await asyncio.create_subprocess_exec(
            "kubectl", "-n", self.namespace, *words,
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, output.decode()
        return output.decode()
