"""A request as admission sees it, and as webhooks and policies are told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from kajitori.laptop.apiserver import status

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.api.resource import Resource
    from kajitori.laptop.apiserver.auth import User

Object = dict[str, Any]
CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"


class Named(NamedTuple):
    """Group, version and kind of a body."""

    group: str
    version: str
    kind: str

    def shown(self) -> Object:
        return {"group": self.group, "version": self.version, "kind": self.kind}


@dataclass(slots=True)
class Review:
    """One request that is to be admitted.

    resource: what the URL names; kind: of the body, which differs for a subresource such as `scale`.
    name: as the request gives it, empty where the server makes one up. obj, old: complete objects; None for what an
    operation does not have. fit: makes an object fit its kind after somebody else changed it, in place.
    annotations: what is to be said of the request in the audit log.
    """

    operation: str
    resource: Resource
    kind: Named
    subresource: str
    namespace: str
    name: str
    user: User
    dry_run: bool
    obj: Object | None
    old: Object | None
    options: Object
    warnings: list[str]
    fit: Callable[[Object], None]
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def names_a_namespace(self) -> bool:
        return self.resource.plural == "namespaces" and not self.resource.group

    def labels(self) -> list[dict[str, str]]:
        """Of the new and the old object, where there are such."""
        return [
            obj.get("metadata", {}).get("labels") or {} for obj in (self.obj, self.old) if obj is not None
        ]

    def shown_name(self) -> str:
        """As refusals name the object."""
        if self.name:
            return self.name
        metadata: Object = (self.obj or {}).get("metadata") or {}
        return metadata.get("name") or metadata.get("generateName") or "Unknown"

    def forbidden(self, message: str) -> status.StatusError:
        """403 as a plugin refuses."""
        return status.forbidden(self.resource, self.shown_name(), message)


def request_of(review: Review, resource: Resource, kind: Named, uid: str = "") -> Object:
    """The `request` of an AdmissionReview, without the objects; what is empty is left out."""
    named: Object = {"group": resource.group, "version": resource.version, "resource": resource.plural}
    asked = review.resource
    request: Object = {
        "uid": uid,
        "kind": kind.shown(),
        "resource": named,
        "requestKind": review.kind.shown(),
        "requestResource": {"group": asked.group, "version": asked.version, "resource": asked.plural},
        "operation": review.operation,
        "userInfo": review.user.info(),
        "dryRun": review.dry_run,
        "options": review.options or None,
    }
    if review.subresource:
        request["subResource"] = request["requestSubResource"] = review.subresource
    if review.name:
        request["name"] = review.name
    if review.namespace:
        request["namespace"] = review.namespace
    return request
