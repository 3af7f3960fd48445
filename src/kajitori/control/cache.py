"""The informer cache: what the API server holds of one resource, kept up to date by list and watch.

Objects are decoded straight from the wire into a projection, a struct that names only the fields its readers
need, and the cache keeps nothing else. Callbacks get each change as (old, new); they should only note which keys
are touched, since a reconcile reads the cache again when its turn comes.

A cache is always a little late. A controller that creates objects tells the cache with `remember` what the
server answered (and with `forget` what it deleted), so that its next look finds its own work and does not do it
twice; what the watch says later about the same versions changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import msgspec

from kajitori.api.kubernetes.meta_v1 import OwnerReference
from kajitori.api.resource import Resource
from kajitori.base.errors import ApiError, Gone, Unreachable
from kajitori.control.store import Store
from kajitori.kube.client import Client

if TYPE_CHECKING:
    # Its library is 1.5 MB, which a process that publishes no metrics does without.
    from kajitori.control.metrics import Metrics

_log = logging.getLogger(__name__)

_FIRST_BACKOFF_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 15.0
_SHORTEST_WATCH_SECONDS = 300.0
# A watch that lived so long was a working one: what ends it now is a new fault, not the old one.
_HEALTHY_SECONDS = 5.0


class Metadata(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    """The part of ObjectMeta that controllers read; times are RFC 3339 as on the wire."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: list[str] = []
    owner_references: list[OwnerReference] = []

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that manages this object, if any."""
        for owner in self.owner_references:
            if owner.controller:
                return owner
        return None


class PartialObject(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """An object of which only the metadata is read."""

    api_version: str = ""
    kind: str = ""
    metadata: Metadata = msgspec.field(default_factory=Metadata)


class HasWholeMetadata(Protocol):
    """A projection that leaves nothing out of the metadata that controllers read."""

    @property
    def metadata(self) -> Metadata: ...


class HasMetadata(Protocol):
    """Any projection: a struct with `metadata` that has name, namespace, uid and resource_version."""

    @property
    def metadata(self) -> MetadataLike: ...


class MetadataLike(Protocol):
    @property
    def name(self) -> str | None: ...
    @property
    def namespace(self) -> str | None: ...
    @property
    def uid(self) -> str | None: ...
    @property
    def resource_version(self) -> str | None: ...


T = TypeVar("T", bound=HasMetadata)
Callback = Callable[[T | None, T | None], None]
Indexers = Mapping[str, Callable[[T], Iterable[str]]]


class Informer(Generic[T]):
    """One resource, or the part of it that the selectors choose. `run` it; read it once `synced`.

    Reading never waits and never copies: the objects are frozen and shared.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        type: type[T],
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        indexers: Indexers[T] | None = None,
        metadata_only: bool = False,
        page_size: int = 500,
        metrics: Metrics | None = None,
        seed: int | None = None,
    ) -> None:
        self.resource = resource
        self.type = type
        self._client = client
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._metadata_only = metadata_only
        self._page_size = page_size
        self._metrics = metrics or cast("Metrics", _Unmeasured())
        self._random = random.Random(seed)
        self._store: Store[T] = Store(indexers or {})
        self._callbacks: list[Callback[T]] = []
        self._version = ""
        self._synced = asyncio.Event()
        self._progress: list[asyncio.Future[None]] = []
        self._events = self._metrics.informer_events.labels(resource.qualified_name)
        self._metrics.informer_objects.labels(resource.qualified_name, type.__name__).set_function(
            lambda: len(self._store)
        )

    # Reading

    def get(self, namespace: str, name: str) -> T | None:
        """The object; `namespace` is empty for cluster-scoped ones."""
        return self._store.get(namespace, name)

    def list(self, namespace: str | None = None) -> list[T]:
        """All objects, or those of one namespace, in the order in which they became known."""
        return self._store.list(namespace)

    def by_index(self, index: str, value: str) -> list[T]:
        """The objects for which the indexer gave `value`."""
        return self._store.by_index(index, value)

    def __len__(self) -> int:
        return len(self._store)

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    async def synced(self) -> None:
        """Return when the first list is in the cache."""
        await self._synced.wait()

    @property
    def resource_version(self) -> str:
        """The version up to which the cache knows everything; empty before the first list."""
        return self._version

    async def wait_for(self, resource_version: str) -> None:
        """Return when the cache has seen this version, as the server answered it to a write of this resource."""
        wanted = version_number(resource_version)
        while version_number(self._version) < wanted:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._progress.append(waiter)
            await waiter

    # Being told

    def on_change(self, callback: Callback[T]) -> None:
        """Call with (old, new) for each change from now on; what is already known is told as new at once."""
        self._callbacks.append(callback)
        for obj in self._store.list():
            callback(None, obj)

    def add_indexers(self, indexers: Indexers[T]) -> None:
        """More indexes; the same name again must mean the same."""
        self._store.add_indexers(indexers)

    def remember(self, obj: T) -> None:
        """Put what the server answered to our own write into the cache, unless the watch was faster."""
        if version_number(obj.metadata.resource_version) <= version_number(self._version):
            return
        self._upsert(obj)

    def forget(self, obj: T) -> None:
        """Take an object that the server said is gone out of the cache, and let no late event bring it back."""
        stored = self._store.get(obj.metadata.namespace or "", obj.metadata.name or "")
        if stored is not None and stored.metadata.uid == obj.metadata.uid:
            self._store.bury(obj)
            self._remove(stored)

    # Following the server

    async def run(self) -> None:
        """List, then watch, again and again, until cancelled. Survives whatever the server does."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                if not self._version:
                    await self._relist()
                await self._follow()
                reason = "clean"
            except Gone:
                self._version, reason = "", "gone"
            except (ApiError, Unreachable) as error:
                reason = "error"
                # A line when it begins to fail and now and then while it does, not one for each attempt.
                level = logging.WARNING if failures % 20 == 0 else logging.DEBUG
                _log.log(level, "informer of %s: %s", self.resource.qualified_name, error)
            except Exception:
                # Nothing may end the cache for good; a new list makes it whole again.
                reason, self._version = "error", ""
                _log.exception("informer of %s failed", self.resource.qualified_name)
            self._metrics.informer_watch_ends.labels(self.resource.qualified_name, reason).inc()
            if loop.time() - started >= _HEALTHY_SECONDS:
                failures = 0
            if reason != "clean" or loop.time() - started < 1.0:
                await asyncio.sleep(self._backoff_seconds(failures))
                failures += 1

    def _backoff_seconds(self, failures: int) -> float:
        base = min(_LONGEST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 20))
        return base * (0.5 + self._random.random())

    async def _relist(self) -> None:
        self._metrics.informer_lists.labels(self.resource.qualified_name).inc()
        listed = await self._client.list(
            self.resource,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            type=self.type,
            page_size=self._page_size,
            metadata_only=self._metadata_only,
            on_invalid=self._invalid,
        )
        self._replace(listed.items, version_number(listed.resource_version))
        self._advance(listed.resource_version)
        self._synced.set()

    async def _follow(self) -> None:
        events = self._client.watch(
            self.resource,
            self._namespace,
            resource_version=self._version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            type=self.type,
            # Spread out, so that the watches of many informers do not all end at once.
            timeout_seconds=_SHORTEST_WATCH_SECONDS * (1.0 + self._random.random()),
            metadata_only=self._metadata_only,
            on_bookmark=lambda version, _: self._advance(version),
            on_invalid=self._invalid,
        )
        async with contextlib.aclosing(events):
            async for event in events:
                self._events.inc()
                obj = event.object
                if event.type == "DELETED":
                    self._store.unbury(obj)
                    stored = self._store.get(obj.metadata.namespace or "", obj.metadata.name or "")
                    if stored is not None and not self._is_newer(stored, obj):
                        self._remove(stored, obj)
                else:
                    self._upsert(obj)
                self._advance(obj.metadata.resource_version or "")

    @staticmethod
    def _is_newer(stored: T, obj: T) -> bool:
        """Whether the cache knows a later object of the name, put there by `remember`."""
        return version_number(stored.metadata.resource_version) > version_number(
            obj.metadata.resource_version
        )

    def _invalid(self, body: bytes, problem: str) -> None:
        self._metrics.informer_invalid.labels(self.resource.qualified_name).inc()
        with contextlib.suppress(msgspec.DecodeError):
            name = msgspec.json.decode(body, type=PartialObject).metadata
            _log.error(
                "informer of %s skips %s/%s: %s",
                self.resource.qualified_name, name.namespace, name.name, problem,
            )  # fmt: skip

    def _replace(self, items: list[T], version: int) -> None:
        listed = {(obj.metadata.namespace or "", obj.metadata.name or ""): obj for obj in items}
        for stored in self._store.list():
            key = (stored.metadata.namespace or "", stored.metadata.name or "")
            # What `remember` put in after the list was taken is not missing, only newer than the list.
            if key not in listed and version_number(stored.metadata.resource_version) <= version:
                self._remove(stored)
        for obj in items:
            self._upsert(obj)
        self._store.exhume()

    def _upsert(self, obj: T) -> None:
        stored = self._store.get(obj.metadata.namespace or "", obj.metadata.name or "")
        if self._store.is_buried(obj):
            return
        if stored is not None:
            if stored.metadata.resource_version == obj.metadata.resource_version or self._is_newer(
                stored, obj
            ):
                return
            if stored.metadata.uid != obj.metadata.uid:
                # Deleted and made again between two looks: readers must see the old one go.
                self._remove(stored)
                stored = None
        self._store.put(obj)
        self._tell(stored, obj)

    def _remove(self, stored: T, last: T | None = None) -> None:
        self._store.remove(stored)
        self._tell(last if last is not None else stored, None)

    def _tell(self, old: T | None, new: T | None) -> None:
        for callback in self._callbacks:
            try:
                callback(old, new)
            except Exception:
                # One reader's mistake about one object must not keep the others from hearing of it.
                _log.exception("a callback of the informer of %s failed", self.resource.qualified_name)

    def _advance(self, version: str) -> None:
        if not version:
            return
        self._version = version
        if self._progress:
            waiting, self._progress = self._progress, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)


def version_number(version: str | None) -> int:
    """A resource version as a number: they grow. 0 for none, and for a server's that are no numbers.

    Source: Kubernetes 1.35 made comparing them part of the API.
    """
    return int(version) if version and version.isdecimal() else 0


class _Unmeasured:
    """Every family and every number of it, kept nowhere."""

    def __getattr__(self, name: str) -> _Unmeasured:
        return self

    def __call__(self, *arguments: Any) -> _Unmeasured:
        return self
