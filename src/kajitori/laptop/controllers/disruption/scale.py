"""How many pods the owner of a pod wants: of the built-in workloads from the cache, of others by their scale."""

from __future__ import annotations

from collections.abc import Sequence

from kajitori.api.kubernetes.meta_v1 import OwnerReference
from kajitori.api.resource import DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, Resource
from kajitori.base.errors import KajitoriError, NotFound
from kajitori.control.cache import Informer
from kajitori.control.runtime import Runtime
from kajitori.laptop.controllers.discovery import discover
from kajitori.laptop.controllers.stateful_sets.views import StatefulSetView
from kajitori.laptop.controllers.views import DeploymentView, PodView, ReplicaSetView

Scale = tuple[str, int]


class UnknownScale(KajitoriError):
    """Nobody says how many pods there shall be."""


class Scales:
    """Asks the owners of pods."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._deployments: Informer[DeploymentView] = runtime.informer(DEPLOYMENTS, DeploymentView)
        self._replica_sets: Informer[ReplicaSetView] = runtime.informer(REPLICA_SETS, ReplicaSetView)
        self._stateful_sets: Informer[StatefulSetView] = runtime.informer(STATEFUL_SETS, StatefulSetView)
        self._resources: dict[tuple[str, str], Resource] = {}

    async def wanted(self, pods: Sequence[PodView]) -> tuple[int, list[str]]:
        """How many pods all their owners want together, and the names of pods without an owner.

        Raises UnknownScale for an owner that does not say.
        """
        counts: dict[str, int] = {}
        asked: set[str] = set()
        unmanaged: list[str] = []
        for pod in pods:
            owner = pod.metadata.controller
            if owner is None:
                unmanaged.append(pod.metadata.name)
            elif owner.uid not in asked:
                scale = await self._scale(owner, pod.metadata.namespace)
                if scale is None:
                    raise UnknownScale(f'found no controllers for pod "{pod.metadata.name}"')
                asked.add(owner.uid)
                counts[scale[0]] = scale[1]
        return sum(counts.values()), unmanaged

    async def _scale(self, owner: OwnerReference, namespace: str) -> Scale | None:
        group = owner.api_version.rpartition("/")[0]
        if (owner.kind, group) == ("ReplicaSet", "apps"):
            return self._of_replica_set(owner, namespace)
        if (owner.kind, group) == ("StatefulSet", "apps"):
            found = self._stateful_sets.get(namespace, owner.name)
            if found is None or found.metadata.uid != owner.uid:
                return None
            return owner.uid, found.spec.replicas
        return await self._of_other(owner, group, namespace)

    def _of_replica_set(self, owner: OwnerReference, namespace: str) -> Scale | None:
        found = self._replica_sets.get(namespace, owner.name)
        if found is None or found.metadata.uid != owner.uid:
            return None
        above = found.metadata.controller
        if above is None or above.kind != "Deployment":
            return owner.uid, found.spec.replicas
        deployment = self._deployments.get(namespace, above.name)
        if deployment is None or deployment.metadata.uid != above.uid:
            return None
        return above.uid, deployment.spec.replicas

    async def _of_other(self, owner: OwnerReference, group: str, namespace: str) -> Scale | None:
        resource = await self._resource(group, owner.kind)
        if resource is None:
            raise UnknownScale(f'no matches for kind "{owner.kind}" in version "{owner.api_version}"')
        try:
            scale = await self._client.get_scale(resource, owner.name, namespace)
        except NotFound as error:
            if error.details.get("kind") == resource.plural:
                return None
            raise UnknownScale(
                f"{resource.qualified_name} does not implement the scale subresource"
            ) from error
        if scale["metadata"].get("uid") != owner.uid:
            return None
        return owner.uid, (scale.get("spec") or {}).get("replicas", 0)

    async def _resource(self, group: str, kind: str) -> Resource | None:
        if (group, kind) not in self._resources:
            self._resources = (await discover(self._client)).kinds
        return self._resources.get((group, kind))
