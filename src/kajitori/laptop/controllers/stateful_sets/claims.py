"""Makes the claims of a StatefulSet's pods and writes who owns them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from kajitori.api.kubernetes.meta_v1 import OwnerReference
from kajitori.api.resource import PERSISTENT_VOLUME_CLAIMS
from kajitori.base.errors import AlreadyExists, ApiError, Conflict, NotFound
from kajitori.control.cache import Informer
from kajitori.kube.client import Client
from kajitori.kube.events import EventRecorder
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.stateful_sets.views import StatefulSetView
from kajitori.laptop.controllers.views import View


class Claims:
    """The claims in the cluster, by their metadata."""

    def __init__(self, client: Client, claims: Informer[View], recorder: EventRecorder) -> None:
        self._client = client
        self._claims = claims
        self._recorder = recorder

    def named(self, namespace: str, names: Iterable[str]) -> dict[str, View]:
        """Those of the names that exist."""
        found = {name: self._claims.get(namespace, name) for name in names}
        return {name: claim for name, claim in found.items() if claim is not None}

    async def make(
        self,
        owner: StatefulSetView,
        pod_name: str,
        bodies: Mapping[str, Object],
        existing: Mapping[str, View],
    ) -> None:
        """Create what does not exist. Raises the first failure after trying all; a claim on its way out is one."""
        problems: list[ApiError] = []
        for name, body in bodies.items():
            claim = existing.get(name)
            if claim is None:
                problem = await self._create(owner, pod_name, name, body)
                problems += [problem] if problem is not None else []
            elif claim.metadata.deletion_timestamp is not None:
                problems.append(Conflict(f"pvc {name} is being deleted", code=409, reason="Conflict"))
        if problems:
            raise problems[0]

    async def _create(
        self, owner: StatefulSetView, pod_name: str, name: str, body: Object
    ) -> ApiError | None:
        place = f"Pod {pod_name} in StatefulSet {owner.metadata.name}"
        try:
            made = await self._client.create(PERSISTENT_VOLUME_CLAIMS, body, type=View)
        except AlreadyExists as error:
            return error
        except ApiError as error:
            await self._recorder.record(
                owner,
                "FailedCreate",
                f"Create Claim {name} for {place} failed error: {error.message}",
                type="Warning",
                action="Create",
            )
            error.message = f"failed to create PVC {name}: {error.message}"
            return error
        self._claims.remember(made)
        text = f"Create Claim {name} {place} success"
        await self._recorder.record(owner, "SuccessfulCreate", text, action="Create")
        return None

    async def own(
        self, owner: StatefulSetView, claim: View, owners: Sequence[OwnerReference], conflict: bool
    ) -> None:
        """Write the claim's owners, if nobody has changed it since."""
        name = claim.metadata.name
        if conflict:
            await self._recorder.record(
                owner,
                "ConflictingController",
                f"PersistentVolumeClaim {name} has a conflicting OwnerReference that acts as a managing"
                " controller, the retention policy is ignored for this claim",
                type="Warning",
            )
        metadata: Object = {
            "uid": claim.metadata.uid,
            "resourceVersion": claim.metadata.resource_version,
            "ownerReferences": [msgspec.to_builtins(one) for one in owners] or None,
        }
        try:
            stored = await self._client.patch(
                PERSISTENT_VOLUME_CLAIMS,
                name,
                {"metadata": metadata},
                namespace=claim.metadata.namespace,
                type=View,
            )
        except NotFound:
            return
        self._claims.remember(stored)
