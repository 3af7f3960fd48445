"""The verbs of an API server: get, list in pages, watch, create, update, apply, patch, delete.

Objects go in as dicts or structs and come out as the `type` that was asked for: a plain dict, or a msgspec
struct that is decoded from the bytes at once and so may be a small projection of a large object. Every failure
is of the tree in `kajitori.base.errors`: an `ApiError` with the server's Status, or `Unreachable`.

What is safe to repeat is repeated here: any request that never left, any request answered by 429, and reads
whose connection was cut or that the server asked to come again. Everything else is the caller's to judge.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self

import msgspec

from kajitori.api.resource import Resource
from kajitori.base.errors import ApiError, Gone, Unreachable
from kajitori.kube.config import ClusterConfig
from kajitori.kube.objects import AnyObject, Object, identity
from kajitori.kube.requests import (
    JSON,
    PATCH_CONTENT_TYPES,
    PatchType,
    Propagation,
    accept_header,
    delete_options,
    error_of,
    target_of,
    write_query,
)
from kajitori.kube.transport import Answer, Headers, HttpTransport, NeverSent, Transport, Untrusted
from kajitori.kube.warnings import WarningLog, warning_texts
from kajitori.kube.watching import OnBookmark, OnInvalid, WatchEvent, decode_object, read_events

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=dict[str, Any])
else:
    from typing import TypeVar

    T = TypeVar("T")

_FIRST_DELAY_SECONDS = 0.1
_LONGEST_DELAY_SECONDS = 10.0
_ATTEMPTS = 6


class ObjectList(msgspec.Struct, Generic[T], frozen=True):
    """The items of all pages. resource_version: where a watch goes on from."""

    items: list[T]
    resource_version: str


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct, Generic[T]):
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[T] | None = None


class Client:
    """One server, one identity, one pool of connections. Use it as an async context manager.

    on_warning: called with each warning text of the server; by default each new one is logged once.
    seed: of the jitter between attempts; give it for a run that shall repeat exactly.
    """

    def __init__(
        self,
        config: ClusterConfig,
        *,
        user_agent: str = "kaji",
        transport: Transport | None = None,
        on_warning: Callable[[str], None] | None = None,
        timeout_seconds: float = 60.0,
        seed: int | None = None,
    ) -> None:
        self.config = config
        self.on_warning: Callable[[str], None] = on_warning or WarningLog()
        self._transport: Transport = transport or HttpTransport(config, user_agent=user_agent)
        self._timeout_seconds = timeout_seconds
        self._random = random.Random(seed)
        self._decoders: dict[object, msgspec.json.Decoder[Any]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def transport(self) -> Transport:
        """What carries the requests, for those that are no requests: see `kajitori.kube.exec`."""
        return self._transport

    async def close(self) -> None:
        """Close all connections; running watches end with Unreachable."""
        await self._transport.close()

    async def get(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        type: type[T] | None = None,
    ) -> T:
        """One object, or one subresource of it. Raises NotFound."""
        body = await self.request("GET", resource.path(namespace, name, subresource))
        return self._decode(body, type)

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        type: type[T] | None = None,
        page_size: int = 500,
        resource_version: str = "",
        metadata_only: bool = False,
        on_invalid: OnInvalid | None = None,
    ) -> ObjectList[T]:
        """All objects of a namespace, or of all namespaces, fetched page by page.

        on_invalid: gets each object that does not fit `type` instead of the whole list failing on it.
        metadata_only: ask for PartialObjectMetadata, where `type` reads nothing else.
        """
        try:
            return await self._list_pages(
                resource, namespace, label_selector, field_selector, type, page_size,
                resource_version, metadata_only, on_invalid,
            )  # fmt: skip
        except Gone:
            # The list changed faster than its pages were read: take it in one piece.
            return await self._list_pages(
                resource, namespace, label_selector, field_selector, type, 0,
                resource_version, metadata_only, on_invalid,
            )  # fmt: skip

    async def _list_pages(
        self,
        resource: Resource,
        namespace: str | None,
        label_selector: str,
        field_selector: str,
        type: type[T] | None,
        page_size: int,
        resource_version: str,
        metadata_only: bool,
        on_invalid: OnInvalid | None,
    ) -> ObjectList[T]:
        path = resource.path(namespace)
        query = {"labelSelector": label_selector, "fieldSelector": field_selector}
        if page_size:
            query["limit"] = str(page_size)
        first = {**query, "resourceVersion": resource_version}
        headers = [accept_header(metadata_only, "PartialObjectMetadataList")]
        items: list[T] = []
        page = self._page(await self.request("GET", path, query=first, headers=headers), type, on_invalid)
        version = page.metadata.resource_version
        while True:
            items.extend(_with_kind(page.items or (), resource))
            if not page.metadata.continue_:
                return ObjectList(items, version)
            more = {**query, "continue": page.metadata.continue_}
            page = self._page(await self.request("GET", path, query=more, headers=headers), type, on_invalid)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        type: type[T] | None = None,
        timeout_seconds: float = 300.0,
        metadata_only: bool = False,
        on_bookmark: OnBookmark | None = None,
        on_invalid: OnInvalid | None = None,
    ) -> AsyncGenerator[WatchEvent[T]]:
        """Changes after `resource_version`, until the server ends the watch after `timeout_seconds`.

        Wrap it in `contextlib.aclosing` where the loop may be left early, so that the connection is given back.
        A clean end just ends the iteration: watch again from the last version seen. Raises Gone if the server no
        longer knows `resource_version` (list again), Unreachable if the connection was cut or sends nonsense.
        on_bookmark: called with each version up to which nothing else has changed.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "timeoutSeconds": str(round(timeout_seconds)),
        }
        headers = [accept_header(metadata_only, "PartialObjectMetadata")]
        target = target_of(resource.path(namespace), query)
        decoder = self._decoder(type)
        async with self._transport.stream("GET", target, headers, timeout_seconds + 30.0) as stream:
            self._report_warnings(stream.headers.getall("Warning", ()))
            if stream.status != 200:
                raise error_of(Answer(stream.status, stream.headers, await stream.read()))
            async for event in read_events(stream.chunks(), decoder, on_bookmark, on_invalid):
                yield event

    async def create(
        self,
        resource: Resource,
        obj: AnyObject,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        field_manager: str = "",
        dry_run: bool = False,
        field_validation: str = "",
        type: type[T] | None = None,
    ) -> T:
        """Create an object, or post to its subresource (`eviction`, `binding`, `token`). Raises AlreadyExists."""
        who = identity(obj)
        name = who.name if subresource else None
        path = resource.path(namespace or who.namespace or None, name, subresource)
        query = write_query(field_manager, dry_run, field_validation)
        return self._decode(await self.request("POST", path, query=query, body=obj), type)

    async def update(
        self,
        resource: Resource,
        obj: AnyObject,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        field_manager: str = "",
        dry_run: bool = False,
        field_validation: str = "",
        type: type[T] | None = None,
    ) -> T:
        """Replace an object. Only ever give back a whole dict: a struct has dropped what it does not know.

        Raises Conflict if its resourceVersion is not the stored one.
        """
        who = identity(obj)
        path = resource.path(namespace or who.namespace or None, who.name, subresource)
        query = write_query(field_manager, dry_run, field_validation)
        return self._decode(await self.request("PUT", path, query=query, body=obj), type)

    async def apply(
        self,
        resource: Resource,
        obj: AnyObject,
        *,
        field_manager: str,
        namespace: str | None = None,
        force: bool = True,
        subresource: str | None = None,
        dry_run: bool = False,
        field_validation: str = "",
        type: type[T] | None = None,
    ) -> T:
        """Server-side apply: own exactly the fields given here. Raises Conflict without `force`.

        The object must name its apiVersion and kind; a dict that does not gets them from `resource`.
        """
        who = identity(obj)
        if isinstance(obj, dict) and not (who.kind and who.api_version):
            obj = {**obj, "apiVersion": resource.api_version, "kind": resource.kind}
        path = resource.path(namespace or who.namespace or None, who.name, subresource)
        query = write_query(field_manager, dry_run, field_validation)
        if force:
            query["force"] = "true"
        headers = [("Content-Type", PATCH_CONTENT_TYPES["apply"])]
        return self._decode(await self.request("PATCH", path, query=query, body=obj, headers=headers), type)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        namespace: str | None = None,
        patch_type: PatchType = "merge",
        subresource: str | None = None,
        field_manager: str = "",
        dry_run: bool = False,
        field_validation: str = "",
        type: type[T] | None = None,
    ) -> T:
        """Change parts of an object. A list is a JSON patch whatever `patch_type` says."""
        chosen = "merge" if isinstance(patch, Mapping) and patch_type == "json" else patch_type
        if not isinstance(patch, Mapping):
            chosen = "json"
        path = resource.path(namespace, name, subresource)
        query = write_query(field_manager, dry_run, field_validation)
        headers = [("Content-Type", PATCH_CONTENT_TYPES[chosen])]
        return self._decode(await self.request("PATCH", path, query=query, body=patch, headers=headers), type)

    async def get_scale(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """The object's Scale."""
        return await self.get(resource, name, namespace, subresource="scale")

    async def set_scale(
        self, resource: Resource, name: str, replicas: int, namespace: str | None = None
    ) -> Object:
        """Set the wanted number of replicas through the scale subresource."""
        return await self.patch(
            resource, name, {"spec": {"replicas": replicas}}, namespace=namespace, subresource="scale"
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        propagation_policy: Propagation | None = None,
        grace_period_seconds: int | None = None,
        preconditions_uid: str | None = None,
        preconditions_resource_version: str | None = None,
        dry_run: bool = False,
    ) -> Object | None:
        """Delete an object. Returns it if it lingers (finalizers, grace), None if it is gone.

        Raises NotFound, or Conflict if a precondition does not hold.
        """
        options = delete_options(propagation_policy, grace_period_seconds, dry_run)
        preconditions = {
            key: value
            for key, value in (
                ("uid", preconditions_uid),
                ("resourceVersion", preconditions_resource_version),
            )
            if value
        }
        if preconditions:
            options["preconditions"] = preconditions
        answer: Object = self._decode(
            await self.request("DELETE", resource.path(namespace, name), body=options), None
        )
        # A real server answers the deleted object itself in some cases; only a lingering one is marked.
        lingers = answer.get("kind") != "Status" and bool(
            (answer.get("metadata") or {}).get("deletionTimestamp")
        )
        return answer if lingers else None

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        propagation_policy: Propagation | None = None,
        grace_period_seconds: int | None = None,
        dry_run: bool = False,
    ) -> None:
        """Delete all objects of a namespace that the selectors choose."""
        await self.request(
            "DELETE",
            resource.path(namespace),
            query={"labelSelector": label_selector, "fieldSelector": field_selector},
            body=delete_options(propagation_policy, grace_period_seconds, dry_run),
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | AnyObject | Sequence[Any] | None = None,
        headers: Headers | None = None,
        timeout_seconds: float | None = None,
    ) -> bytes:
        """Any other request; returns the bytes of the answer. Empty query values are left out."""
        payload = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        sent_headers: list[tuple[str, str]] = list(headers or ())
        names = {name.lower() for name, _ in sent_headers}
        if "accept" not in names:
            sent_headers.append(JSON)
        if payload is not None and "content-type" not in names:
            sent_headers.append(("Content-Type", "application/json"))
        answer = await self._send(
            method,
            target_of(path, query or {}),
            sent_headers,
            payload,
            timeout_seconds or self._timeout_seconds,
        )
        return answer.body

    async def _send(
        self, method: str, target: str, headers: Headers, body: bytes | None, timeout_seconds: float
    ) -> Answer:
        reads = method == "GET"
        for attempt in range(_ATTEMPTS):
            last = attempt == _ATTEMPTS - 1
            delay = min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2**attempt)
            try:
                answer = await self._transport.send(method, target, headers, body, timeout_seconds)
            except Unreachable as error:
                safe = isinstance(error, NeverSent) or (reads and not isinstance(error, Untrusted))
                if last or not safe:
                    raise
            else:
                self._report_warnings(answer.headers.getall("Warning", ()))
                if answer.status < 300:
                    return answer
                error = error_of(answer)
                asked = error.retry_after_seconds
                again = answer.status == 429 or (reads and answer.status >= 500 and asked is not None)
                # An eviction that a budget refuses is a 429 too, but says nothing about when to come again.
                if last or not again or asked is None:
                    raise error
                delay = asked
            await asyncio.sleep(delay * (1.0 + self._random.random()))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _decode(self, body: bytes, type: type[T] | None) -> T:
        try:
            return decode_object(self._decoder(type), body)
        except msgspec.DecodeError as error:
            raise ApiError(
                f"the server's answer cannot be read: {error}",
                reason="InvalidAnswer",
                where=self.config.server,
            ) from None

    def _decoder(self, type: type[T] | None) -> msgspec.json.Decoder[T]:
        target: Any = type or Object
        decoder = self._decoders.get(target)
        if decoder is None:
            decoder = self._decoders[target] = msgspec.json.Decoder(target)
        return decoder

    def _page(self, body: bytes, type: type[T] | None, on_invalid: OnInvalid | None) -> _Page[T]:
        target: Any = type or Object
        try:
            return self._decode(body, _Page[target])
        except ApiError:
            if on_invalid is None:
                raise
        raw: _Page[msgspec.Raw] = self._decode(body, _Page[msgspec.Raw])
        decoder, items = self._decoder(type), list[T]()
        for item in raw.items or ():
            try:
                items.append(decode_object(decoder, item))
            except msgspec.DecodeError as error:
                on_invalid(bytes(item), str(error))
        return _Page(raw.metadata, items)

    def _report_warnings(self, headers: Sequence[str]) -> None:
        for header in headers:
            for text in warning_texts(header):
                self.on_warning(text)


def _with_kind(items: Sequence[Any], resource: Resource) -> Sequence[Any]:
    """Items of built-in lists do not say what they are; dicts are told here, structs know."""
    for item in items:
        if isinstance(item, dict) and "kind" not in item:
            item["kind"], item["apiVersion"] = resource.kind, resource.api_version
    return items
