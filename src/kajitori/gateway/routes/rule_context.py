"""What translating a route has at hand, and what it finds amiss."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from kajitori.base.reason import Reason
from kajitori.gateway.backends.clusters import plain_cluster
from kajitori.gateway.backends.targets import Target, find_backend, find_service, over_http2

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kajitori.api.gateway.shared import BackendObjectReference
    from kajitori.api.kubernetes.meta_v1 import ObjectMeta
    from kajitori.gateway.backends.certificates import Delivered
    from kajitori.gateway.observed import Index
    from kajitori.gateway.world import World

_GROUP = "gateway.networking.k8s.io"


class RuleContext:
    """Of one route.

    kind: of the route. problems: references that do not resolve. notes: what is honoured less than fully.
    """

    def __init__(self, index: Index, world: World, kind: str, metadata: ObjectMeta) -> None:
        self.index = index
        self._world = world
        self.kind = kind
        self.metadata = metadata
        self.namespace = metadata.namespace or ""
        self.key = f"{self.namespace}/{metadata.name}"
        self.problems: list[Reason] = []
        self.notes: list[str] = []
        self.rules = 0
        self.broken_rules = 0

    def finish(self) -> RuleContext:
        """Looks at nothing more, so that what is kept of it does not keep all objects of its time."""
        del self.index, self._world
        return self

    def note(self, texts: Iterable[str]) -> None:
        self.notes += [text for text in texts if text not in self.notes]

    def missing(self, reason: Reason) -> None:
        if reason not in self.problems:
            self.problems.append(reason)

    def deliver(self, delivered: Delivered) -> None:
        self._world.secrets[delivered.name] = delivered.secret

    def target(self, ref: BackendObjectReference) -> Target | Reason:
        """Where a reference leads."""
        key = (ref.namespace or self.namespace, ref.name)
        if not self.index.granted(_GROUP, self.kind, self.namespace, ref.group, ref.kind, key):
            return Reason(
                "RefNotPermitted", f"no ReferenceGrant lets the route refer to {ref.kind} {key[0]}/{key[1]}"
            )
        if (ref.group, ref.kind) == ("", "Service"):
            if ref.port is None:
                return Reason("InvalidKind", f"the reference to Service {key[0]}/{key[1]} names no port")
            return find_service(self.index, *key, ref.port)
        if (ref.group, ref.kind) == ("gateway.envoyproxy.io", "Backend"):
            return find_backend(self.index, *key)
        return Reason("InvalidKind", f"backends of kind {ref.kind} (group {ref.group!r}) are not served")

    def cluster(self, ref: BackendObjectReference, upstream: Sequence[dict[str, Any]]) -> str | Reason:
        """The name of the cluster for a reference, which the world has from now on. upstream: its filters."""
        target = self.target(ref)
        if isinstance(target, Reason):
            return target
        self.note(target.notes)
        name = f"{ref.kind.lower()}/{ref.namespace or self.namespace}/{ref.name}/{ref.port or 0}"
        if self.kind == "GRPCRoute":
            name, target = f"grpc/{name}", over_http2(target)
        if upstream:
            text = json.dumps(upstream, sort_keys=True)
            name = f"{name}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        self._world.add_cluster(name, lambda: plain_cluster(name, target, upstream), target)
        return name


def checked_references(index: Index, world: World, route: Any) -> RuleContext:
    """What is amiss with the references of an HTTPRoute that carries no traffic."""
    context = RuleContext(index, world, "HTTPRoute", route.metadata)
    for rule in route.spec.rules:
        for ref in rule.backend_refs:
            target = context.target(ref)
            if isinstance(target, Reason):
                context.missing(target)
    return context
