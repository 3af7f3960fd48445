"""Objects of one version shown in another: by the kinds themselves, or by a definition's conversion webhook.

A webhook is asked once a stored version of an object and shown version: what it answered is kept, and a list asks
for all that it lacks in one call. Objects of kinds with such a webhook carry in the store the version that they
were written in. Source: API reference of apiextensions.k8s.io/v1, "Webhook conversion".
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.admission.client import CallFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kajitori.laptop.apiserver.kinds.kind import Kind
    from kajitori.laptop.apiserver.state import ServerState
    from kajitori.laptop.apiserver.store import Entry

Object = dict[str, Any]
CONVERSION_SECONDS = 30.0
BYTES_KEPT = 16 << 20
MOST_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Converter:
    """What a kind with a conversion webhook has. webhook: of its definition."""

    webhook: Object
    conversion: Conversion

    def shown(self, kind: Kind, entry: Entry) -> Object:
        return self.conversion.shown(kind, entry)


def _with_version(kind: Kind, entry: Entry) -> Object:
    """A stored object with kind and the version that it was written in."""
    stored = entry.peek()
    return {
        "kind": kind.resource.kind,
        "apiVersion": stored.get("apiVersion") or kind.unlabelled_version or kind.storage.api_version,
        **stored,
    }


class Conversion:
    """Converts for all kinds; keeps what webhooks answered for stored objects."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._kept: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        self._bytes = 0

    async def convert(self, source: Kind, target: Kind, obj: Object) -> Object:
        """An object of one kind as another kind of the same store shows it. Raises StatusError."""
        if source is target or obj.get("apiVersion") == target.resource.api_version:
            return obj
        if target.conversion is None:
            stored = source.to_stored(obj)
            return target.from_stored({**stored, "kind": target.resource.kind})
        return (await self._ask(target, [obj], target.resource.api_version))[0]

    async def to_stored(self, kind: Kind, obj: Object) -> Object:
        """An object of a kind with a webhook as it is to be stored, its version kept in it."""
        if obj.get("apiVersion") == kind.storage.api_version:
            return obj
        return (await self._ask(kind, [obj], kind.storage.api_version))[0]

    async def ensure(self, kind: Kind, entries: Iterable[Entry]) -> None:
        """Have all these stored objects ready in the version of the kind. Raises StatusError."""
        if kind.conversion is None:
            return
        wanted = kind.resource.api_version
        missing = [
            entry
            for entry in entries
            if (entry.version, wanted) not in self._kept
            and _with_version(kind, entry)["apiVersion"] != wanted
        ]
        for start in range(0, len(missing), MOST_AT_ONCE):
            batch = missing[start : start + MOST_AT_ONCE]
            shown = await self._ask(kind, [_with_version(kind, entry) for entry in batch], wanted)
            for entry, obj in zip(batch, shown, strict=True):
                self._keep((entry.version, wanted), msgspec.json.encode(obj))

    def _keep(self, key: tuple[int, str], body: bytes) -> None:
        if key not in self._kept:
            self._bytes += len(body)
        self._kept[key] = body
        while self._bytes > BYTES_KEPT and len(self._kept) > MOST_AT_ONCE:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= len(dropped)

    def shown(self, kind: Kind, entry: Entry) -> Object:
        """A stored object in the version of the kind, the caller's own copy; it was made ready (`ensure`) before."""
        obj = _with_version(kind, entry)
        if obj["apiVersion"] == kind.resource.api_version:
            return {**obj, **entry.decode()}
        body = self._kept.get((entry.version, kind.resource.api_version))
        if body is None:
            raise NotReady(kind, entry)
        converted: Object = msgspec.json.decode(body)
        # The version of the object is the stored one's, whatever a webhook made of it.
        converted["metadata"]["resourceVersion"] = str(entry.version)
        return converted

    def forget(self) -> None:
        """A definition changed: another webhook may answer otherwise."""
        self._kept.clear()
        self._bytes = 0

    async def _ask(self, kind: Kind, objects: Sequence[Object], wanted: str) -> list[Object]:
        """Raises StatusError 500 if the webhook fails, or says that it cannot."""
        webhook: Object = kind.conversion.webhook if kind.conversion is not None else {}
        name = f"conversion webhook for {objects[0].get('apiVersion')}, Kind={kind.resource.kind}"
        uid = str(uuid.uuid4())
        versions = webhook.get("conversionReviewVersions") or ()
        version = next((v for v in versions if v in ("v1", "v1beta1")), "v1")
        body = {
            "kind": "ConversionReview",
            "apiVersion": f"apiextensions.k8s.io/{version}",
            "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": list(objects)},
        }
        client = self._state.admission.client
        try:
            answer = await client.post(webhook.get("clientConfig") or {}, body, CONVERSION_SECONDS)
        except CallFailed as failure:
            raise status.internal_error(f"{name} failed: {failure}") from None
        try:
            return _converted(answer, uid, objects, wanted)
        except ValueError as problem:
            raise status.internal_error(f"{name} failed: {problem}") from None


class NotReady(Exception):
    """A stored object that is to be shown in a version which nobody asked the webhook for yet."""

    def __init__(self, kind: Kind, entry: Entry) -> None:
        super().__init__(f"{kind} {entry.namespace}/{entry.name} is not converted")
        self.kind = kind
        self.entry = entry


def _converted(answer: Any, uid: str, objects: Sequence[Object], wanted: str) -> list[Object]:
    """The objects of an answer. Raises ValueError in the words of a real server."""
    response: Any = answer.get("response") if isinstance(answer, dict) else None
    if not isinstance(response, dict):
        raise ValueError("no response provided")
    if response.get("uid") != uid:
        raise ValueError(f'expected response.uid="{uid}", got "{response.get("uid", "")}"')
    result = response.get("result") or {}
    if result.get("status") != "Success":
        raise ValueError(str(result.get("message") or "no error message given"))
    found = response.get("convertedObjects")
    if not isinstance(found, list) or len(found) != len(objects):
        count = len(found) if isinstance(found, list) else 0
        raise ValueError(f"returned {count} objects, expected {len(objects)}")
    for index, (before, after) in enumerate(zip(objects, found, strict=True)):
        _check_converted(index, before, after, wanted)
    return found


def _check_converted(index: int, before: Object, after: Any, wanted: str) -> None:
    place = f"invalid converted object at index {index}"
    if not isinstance(after, dict) or after.get("apiVersion") != wanted:
        shown = after.get("apiVersion", "") if isinstance(after, dict) else ""
        raise ValueError(f"{place}: invalid groupVersion (expected {wanted}, received {shown})")
    if after.get("kind") != before.get("kind"):
        raise ValueError(
            f"{place}: invalid kind (expected {before.get('kind')}, received {after.get('kind', '')})"
        )
    metadata = after.get("metadata")
    if not isinstance(metadata, dict):
        raise ValueError(f"{place}: invalid metadata of type {type(metadata).__name__} in input object")
    for key in ("name", "namespace", "uid"):
        if metadata.get(key) != before["metadata"].get(key):
            raise ValueError(
                f"{place}: must have the same {key}: {metadata.get(key)} != {before['metadata'].get(key)}"
            )
    # Of the metadata only labels and annotations are the webhook's.
    kept = dict(before["metadata"])
    for key in ("labels", "annotations"):
        kept.pop(key, None)
        if metadata.get(key):
            kept[key] = metadata[key]
    after["metadata"] = kept
