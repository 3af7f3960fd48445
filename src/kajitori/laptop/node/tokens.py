"""Service account tokens of pods: asked from the API server, bound to the pod, renewed long before they end.

Source: Kubernetes TokenRequest API; a kubelet renews at 80 % of the lifetime, and at the latest after a day.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from kajitori.api.kubernetes.core_v1 import ServiceAccountTokenProjection
from kajitori.api.resource import SERVICE_ACCOUNTS
from kajitori.base.clock import parse_rfc3339
from kajitori.base.errors import NotFound
from kajitori.kube.client import Client
from kajitori.laptop.node.environment import Pod
from kajitori.laptop.node.references import MissingSource

DEFAULT_EXPIRATION_SECONDS = 3600
_RENEW_FRACTION = 0.8
_LONGEST_SECONDS = 24 * 3600.0


class _Token(NamedTuple):
    text: str
    renew_at: float


class PodTokens:
    """The tokens of one pod, one for each audience and lifetime that its volumes ask for."""

    def __init__(self, client: Client, pod: Pod) -> None:
        self._client = client
        self._pod = pod
        self._tokens: dict[tuple[str, int], _Token] = {}

    @property
    def next_renewal_seconds(self) -> float | None:
        """From now; None where there is no token."""
        times = [token.renew_at for token in self._tokens.values()]
        return max(0.0, min(times) - time.time()) if times else None

    async def for_projections(self, projections: list[ServiceAccountTokenProjection]) -> dict[str, str]:
        """A token for each path. Raises MissingSource, ApiError, Unreachable."""
        return {each.path: await self._token(each) for each in projections}

    async def _token(self, projection: ServiceAccountTokenProjection) -> str:
        key = (projection.audience or "", projection.expiration_seconds or DEFAULT_EXPIRATION_SECONDS)
        kept = self._tokens.get(key)
        if kept is None or time.time() >= kept.renew_at:
            kept = self._tokens[key] = await self._request(*key)
        return kept.text

    async def _request(self, audience: str, expiration_seconds: int) -> _Token:
        account = self._pod.spec.service_account_name or "default"
        metadata = self._pod.metadata
        request: dict[str, Any] = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"name": account, "namespace": metadata.namespace},
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": expiration_seconds,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": metadata.name,
                    "uid": metadata.uid,
                },
            },
        }
        asked_at = time.time()
        try:
            answer: dict[str, Any] = await self._client.create(SERVICE_ACCOUNTS, request, subresource="token")
        except NotFound as error:
            raise MissingSource(f'serviceaccount "{account}" not found') from error
        lifetime = parse_rfc3339(answer["status"]["expirationTimestamp"]) - asked_at
        renew_at = asked_at + min(_RENEW_FRACTION * lifetime, _LONGEST_SECONDS)
        return _Token(answer["status"]["token"], renew_at)
