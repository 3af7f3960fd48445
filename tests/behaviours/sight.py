"""What a namespace looks like from outside, moment by moment: objects as the server's watches tell them.

Tests wait for a condition with `until`, which looks again at each change. What must hold at every moment is told to
`always` and looked at when the test is over, so that nothing is missed between two polls.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from kajitori.api.leaderworkerset import v1
from kajitori.api.resource import (
    CONTROLLER_REVISIONS,
    EVENTS,
    LEADER_WORKER_SETS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SERVICES,
    Resource,
)
from kajitori.kube.client import Client
from tests.wire import Object

# The garbage collector of a real server learns of a new kind half a minute late, and looks again in its own time.
SECONDS = 90.0
KINDS = (PODS, LEADER_WORKER_SETS, SERVICES, CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, EVENTS)


class Sight:
    """Of one namespace. past_pods: for each name of a pod the uids it had, in order."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.past_pods: dict[str, list[str]] = defaultdict(list)
        self.past_sets: list[Object] = []
        self._seen: dict[Resource, dict[str, Object]] = {kind: {} for kind in KINDS}
        self._changed = asyncio.Event()
        self._rules: list[Callable[[], str]] = []
        self._broken: list[str] = []

    async def follow(self, kind: Resource, listed: asyncio.Event) -> None:
        found = await self.client.list(kind, self.namespace)
        for obj in found.items:
            self._take(kind, obj)
        listed.set()
        watch = self.client.watch(kind, self.namespace, resource_version=found.resource_version)
        async with contextlib.aclosing(watch) as events:
            async for event in events:
                if event.type == "DELETED":
                    self._seen[kind].pop(event.object["metadata"]["name"], None)
                    self._tell()
                else:
                    self._take(kind, event.object)

    def _take(self, kind: Resource, obj: Object) -> None:
        metadata = obj["metadata"]
        self._seen[kind][metadata["name"]] = obj
        if kind is PODS and metadata["uid"] not in self.past_pods[metadata["name"]]:
            self.past_pods[metadata["name"]].append(metadata["uid"])
        if kind is LEADER_WORKER_SETS:
            self.past_sets.append(obj)
        self._tell()

    def _tell(self) -> None:
        self._broken += [said for rule in self._rules if (said := rule())]
        self._changed.set()
        self._changed = asyncio.Event()

    def always(self, rule: Callable[[], str]) -> None:
        """`rule` is asked at every change from now on; what it says is what is wrong."""
        self._rules.append(rule)

    def nothing_was_broken(self) -> None:
        """Of what was told to `always`."""
        assert not self._broken, self._broken[:5]

    async def until(self, condition: Callable[[], Any], what: str = "", seconds: float = SECONDS) -> Any:
        """Wait until the condition gives something true, and return that."""
        deadline = time.monotonic() + seconds
        while True:
            changed = self._changed
            if found := condition():
                return found
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await changed.wait()
            except TimeoutError:
                raise AssertionError(f"not within {seconds:.0f} s: {what}\n{self._summary()}") from None

    async def settled(self, seconds: float = 0.7) -> None:
        """Wait until no pod has changed for so long: what was to happen at once has happened."""
        while True:
            before = {name: pod["metadata"]["resourceVersion"] for name, pod in self.pods.items()}
            await asyncio.sleep(seconds)
            if before == {name: pod["metadata"]["resourceVersion"] for name, pod in self.pods.items()}:
                return

    def _summary(self) -> str:
        pods = [
            f"  {name} {image_of(pod)} {pod['status'].get('phase')}"
            f"{' ready' if is_ready(pod) else ''}{' dying' if is_dying(pod) else ''}"
            for name, pod in sorted(self.pods.items())
        ]
        sets = [f"  {name} {one.get('status')}" for name, one in self.sets.items()]
        notes = [f"  {event['reason']}: {event.get('note')}" for event in self._seen[EVENTS].values()]
        return "\n".join([*sets, *pods, *notes[-30:]])

    @property
    def pods(self) -> dict[str, Object]:
        return self._seen[PODS]

    @property
    def sets(self) -> dict[str, Object]:
        return self._seen[LEADER_WORKER_SETS]

    @property
    def services(self) -> dict[str, Object]:
        return self._seen[SERVICES]

    @property
    def revisions(self) -> dict[str, Object]:
        return self._seen[CONTROLLER_REVISIONS]

    @property
    def claims(self) -> dict[str, Object]:
        return self._seen[PERSISTENT_VOLUME_CLAIMS]

    def notes(self, reason: str) -> list[str]:
        """Texts of the events with this reason."""
        return [event.get("note", "") for event in self._seen[EVENTS].values() if event["reason"] == reason]

    def group(self, name: str, index: int) -> dict[str, Object]:
        """The pods of one group by name."""
        return {
            pod["metadata"]["name"]: pod
            for pod in self.pods.values()
            if label(pod, "name") == name and label(pod, "group-index") == str(index)
        }

    def groups(self, name: str) -> dict[int, dict[str, Object]]:
        found: dict[int, dict[str, Object]] = defaultdict(dict)
        for pod in self.pods.values():
            # Pods of StatefulSets get their index a moment after they were made.
            if label(pod, "name") == name and label(pod, "group-index"):
                found[int(label(pod, "group-index"))][pod["metadata"]["name"]] = pod
        return found

    def uids(self, name: str, *groups: int) -> dict[str, str]:
        """Of the pods of a set, or of some of its groups."""
        return {
            pod["metadata"]["name"]: pod["metadata"]["uid"]
            for index, members in self.groups(name).items()
            if not groups or index in groups
            for pod in members.values()
        }

    def ready_groups(self, name: str) -> set[int]:
        return {index for index, members in self.groups(name).items() if group_is_ready(members.values())}

    def images(self, name: str) -> dict[int, set[str]]:
        """For each group the images of its workers, or of its leader if it is alone."""
        return {
            index: {image_of(pod) for pod in members.values() if label(pod, "worker-index") != "0"}
            or {image_of(pod) for pod in members.values()}
            for index, members in self.groups(name).items()
        }

    def updated(self, name: str, image: str) -> set[int]:
        """Whole groups, ready or not, all of whose workers are of this image."""
        return {
            index
            for index, members in self.groups(name).items()
            if self.images(name)[index] == {image} and is_whole(members.values())
        }

    async def apply(self, lws: Object) -> Object:
        return await self.client.apply(
            LEADER_WORKER_SETS,
            lws,
            namespace=self.namespace,
            field_manager="test",
            field_validation="Strict",
        )

    async def patch_set(self, name: str, spec: Object) -> None:
        await self.client.patch(LEADER_WORKER_SETS, name, {"spec": spec}, namespace=self.namespace)

    async def delete(self, resource: Resource, *names: str, **options: Any) -> None:
        for name in names:
            await self.client.delete(resource, name, self.namespace, **options)

    async def annotate(self, names: Iterable[str], annotations: Object) -> None:
        """Tell a fake node what to make of these pods, once it has them: two of its writes could cross."""
        named = list(names)
        await self.until(lambda: all(map(self._runs, named)), f"{named} run")
        for name in named:
            await self.client.patch(
                PODS, name, {"metadata": {"annotations": annotations}}, namespace=self.namespace
            )

    def _runs(self, name: str) -> bool:
        return (self.pods.get(name, {}).get("status") or {}).get("phase") == "Running"

    async def available(self, *names: str) -> None:
        """Wait until the sets say that they are available as they stand."""
        await self.until(lambda: all(map(self.is_available, names)), f"{names} are available")

    def is_available(self, name: str) -> bool:
        lws = self.sets.get(name)
        if lws is None:
            return False
        current = (lws.get("status") or {}).get("observedGeneration") == lws["metadata"]["generation"]
        return current and condition(lws, "Available") == "True"

    async def recreated(self, name: str, before: dict[str, str], *groups: int) -> None:
        """Wait until these groups are whole again and ready, and no pod of them is one of those before."""

        def anew() -> bool:
            now = self.uids(name, *groups)
            fresh = now.keys() == before.keys() and not set(now.values()) & set(before.values())
            return fresh and set(groups) <= self.ready_groups(name)

        await self.until(anew, f"groups {groups} of {name} are made anew")


def label(pod: Object, key: str) -> str:
    """A label of LeaderWorkerSets, by its name behind the slash."""
    return (pod["metadata"].get("labels") or {}).get(v1.PREFIX + key, "")


def annotation(pod: Object, key: str) -> str | None:
    return (pod["metadata"].get("annotations") or {}).get(v1.PREFIX + key)


def image_of(pod: Object) -> str:
    return pod["spec"]["containers"][0]["image"]


def is_dying(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return not is_dying(pod) and any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def is_whole(members: Iterable[Object]) -> bool:
    """All pods of the group are there, and none is on its way out."""
    pods = list(members)
    return str(len(pods)) == annotation(pods[0], "size") and not any(map(is_dying, pods))


def group_is_ready(members: Iterable[Object]) -> bool:
    pods = list(members)
    return is_whole(pods) and all(map(is_ready, pods))


def condition(lws: Object, kind: str) -> str:
    """`True`, `False`, or empty if the set does not have it."""
    conditions = (lws.get("status") or {}).get("conditions") or ()
    return next((one["status"] for one in conditions if one["type"] == kind), "")


@contextlib.asynccontextmanager
async def sight_of(client: Client, namespace: str) -> AsyncGenerator[Sight]:
    """Watches begin before the context does."""
    sight = Sight(client, namespace)
    listed = [asyncio.Event() for _ in KINDS]
    following = [
        asyncio.ensure_future(sight.follow(kind, event)) for kind, event in zip(KINDS, listed, strict=True)
    ]
    try:
        for event in listed:
            await event.wait()
        yield sight
        sight.nothing_was_broken()
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
