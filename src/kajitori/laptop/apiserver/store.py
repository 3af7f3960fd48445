"""Every object in memory, each version encoded once; SQLite under it; one counter of versions for all.

A write is decided synchronously on what is committed (`Store.mutate`), gets its version, is encoded, and waits
for the journal; only then memory changes, watchers hear of it and the caller gets its answer, in the order of
versions. A second write to the same object waits for the first. If the journal fails, nothing has changed.

Objects are kept without `kind` and `apiVersion`: those depend on the version they are served in, and are put in
front of the shared bytes (`Entry.body`) by whoever answers.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.history import Event, History
from kajitori.laptop.apiserver.journal import AuditRecord, Journal, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
log = logging.getLogger(__name__)
DECODED_BYTES_KEPT = 4 << 20


class _Metadata(msgspec.Struct):
    labels: dict[str, str] | None = None
    uid: str = ""


class _Labelled(msgspec.Struct):
    metadata: _Metadata


_decode_metadata = msgspec.json.Decoder(_Labelled).decode


class Entry:
    """One version of one object; immutable. `body` is its JSON without kind and apiVersion."""

    __slots__ = ("_labels", "_object", "_uid", "body", "name", "namespace", "version")

    def __init__(
        self, namespace: str, name: str, version: int, body: bytes, obj: dict[str, Any] | None = None
    ) -> None:
        self.namespace = namespace
        self.name = name
        self.version = version
        self.body = body
        self._object: dict[str, Any] | None = None
        self._labels: dict[str, str] | None = None
        self._uid = ""
        if obj is not None:
            self._labels = obj["metadata"].get("labels") or {}
            self._uid = obj["metadata"].get("uid", "")
            self.keep(obj)

    def decode(self) -> dict[str, Any]:
        """A copy of its own for the caller, who may change it."""
        return _decode(self.body)

    def peek(self) -> dict[str, Any]:
        """The decoded object, shared: do not change it."""
        # Kept, it may be let go of at once, when a place that it had from before comes up.
        obj = self._object
        if obj is None:
            obj = _decode(self.body)
            self.keep(obj)
        return obj

    @property
    def decoded(self) -> dict[str, Any] | None:
        """The decoded object where it is there already: do not change it."""
        return self._object

    def keep(self, obj: dict[str, Any]) -> None:
        self._object = obj
        _recently_decoded.add(self)

    def forget(self) -> None:
        """Drop the decoded object; the bytes stay."""
        self._object = None

    @property
    def labels(self) -> dict[str, str]:
        if self._labels is None:
            self._read_metadata()
        assert self._labels is not None
        return self._labels

    @property
    def uid(self) -> str:
        if not self._uid:
            self._read_metadata()
        return self._uid

    def _read_metadata(self) -> None:
        metadata = _decode_metadata(self.body).metadata
        self._labels = metadata.labels or {}
        self._uid = metadata.uid


class _RecentlyDecoded:
    """Decoded objects are several times larger than their bytes: only the latest ones stay decoded."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._bytes = 0

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._bytes += len(entry.body)
        while self._bytes > DECODED_BYTES_KEPT and len(self._entries) > 1:
            oldest = self._entries.popleft()
            self._bytes -= len(oldest.body)
            oldest.forget()


_recently_decoded = _RecentlyDecoded()


class Deleted(NamedTuple):
    """A decision: the object goes; `obj` is its last state, which watchers get."""

    obj: dict[str, Any]


class Charged(NamedTuple):
    """A decision that also writes other objects in the same commit, such as the quotas that it counts in.

    charge: makes them from what is committed, with their keys; it may raise, and run more than once.
    """

    decision: dict[str, Any] | Deleted
    charge: Callable[[], Sequence[tuple[Key, dict[str, Any]]]]


class Written(NamedTuple):
    """What became of a mutation. Unchanged: before and after are the same entry; deleted: after has the last state."""

    before: Entry | None
    after: Entry
    deleted: bool = False

    @property
    def changed(self) -> bool:
        return self.before is not self.after


class Key(NamedTuple):
    """resource: qualified name such as `deployments.apps`; namespace: empty for cluster-wide objects."""

    resource: str
    namespace: str
    name: str


Decision = dict[str, Any] | Deleted | Charged | None


def _key_of(entry: Entry) -> tuple[str, str]:
    return entry.namespace, entry.name


class Table:
    """All objects of one resource, sorted by namespace and name."""

    __slots__ = ("_sorted", "entries", "history", "keys")

    def __init__(self, floor: int) -> None:
        self.entries: dict[tuple[str, str], Entry] = {}
        # Both in the same order: a scan takes a piece of the one that the other finds.
        self.keys: list[tuple[str, str]] = []
        self._sorted: list[Entry] = []
        self.history = History(floor)

    def fill(self, entries: Iterable[Entry]) -> None:
        """Put many at once into an empty table."""
        self._sorted = sorted(entries, key=_key_of)
        self.keys = [_key_of(entry) for entry in self._sorted]
        self.entries = dict(zip(self.keys, self._sorted, strict=True))

    def put(self, entry: Entry) -> None:
        key = _key_of(entry)
        place = bisect_left(self.keys, key)
        if key in self.entries:
            self._sorted[place] = entry
        else:
            self.keys.insert(place, key)
            self._sorted.insert(place, entry)
        self.entries[key] = entry

    def remove(self, key: tuple[str, str]) -> None:
        del self.entries[key]
        place = bisect_left(self.keys, key)
        del self.keys[place], self._sorted[place]

    def scan(self, namespace: str = "", after: tuple[str, str] | None = None) -> Iterator[Entry]:
        """Entries in order as they are now, of one namespace or all (empty), beginning behind `after`."""
        keys = self.keys
        start = bisect_left(keys, (namespace, "")) if namespace else 0
        if after is not None:
            start = max(start, bisect_left(keys, (after[0], after[1] + "\0")))
        end = bisect_left(keys, (namespace + "\0", "")) if namespace else len(keys)
        return iter(self._sorted[start:end])

    def count(self, namespace: str = "") -> int:
        if not namespace:
            return len(self.keys)
        return bisect_left(self.keys, (namespace + "\0", "")) - bisect_left(self.keys, (namespace, ""))

    def as_of(self, version: int, namespace: str = "") -> list[Entry]:
        """Entries as they were at a version that the history still covers."""
        undone: dict[tuple[str, str], Entry | None] = {}
        for event in self.history.newest_first():
            if event.version <= version:
                break
            undone[(event.entry.namespace, event.entry.name)] = event.before
        if not undone:
            return list(self.scan(namespace))
        present = {(e.namespace, e.name): e for e in self.scan(namespace)}
        for key, entry in undone.items():
            if namespace and key[0] != namespace:
                continue
            if entry is None:
                present.pop(key, None)
            else:
                present[key] = entry
        return [present[key] for key in sorted(present)]


class _Pending:
    __slots__ = ("after", "before", "deleted", "done")

    def __init__(self, before: Entry | None, after: Entry, deleted: bool, done: asyncio.Future[None]) -> None:
        self.before = before
        self.after = after
        self.deleted = deleted
        self.done = done


class Store:
    """All objects. Lives in one event loop; `start` reads the file, `stop` closes it.

    `listeners` hear of every committed change, in order: `listener(resource, event)`.
    """

    def __init__(self, path: Path) -> None:
        self._tables: dict[str, Table] = {}
        self._pending: dict[Key, _Pending] = {}
        self._unsent: list[Record] = []
        self._counter = 1
        self.version = 1
        self.listeners: list[Callable[[str, Event], None]] = []
        self.after_commit: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self.journal = Journal(path, self._on_written)
        self._audit_number = 0

    def start(self) -> None:
        """Read everything and begin to take writes. Raises CorruptState."""
        self._loop = asyncio.get_running_loop()
        last_versions = self.journal.last_versions()
        found: dict[str, list[Entry]] = {}
        for stored in self.journal.load():
            entry = Entry(stored.namespace, stored.name, stored.version, stored.body)
            found.setdefault(stored.resource, []).append(entry)
            self._counter = max(self._counter, stored.version)
        for resource, entries in found.items():
            self.table(resource).fill(entries)
        for resource, version in last_versions.items():
            # What happened before this start is not known, but nothing did after the last version.
            self.table(resource).history.floor = version
            self._counter = max(self._counter, version)
        self.version = self._counter
        self._audit_number = self.journal.last_audit_number()
        self.journal.start()

    async def stop(self) -> None:
        """Finish the writes that were accepted and close the file."""
        self._flush()
        while self._pending:
            await asyncio.wait([pending.done for pending in self._pending.values()])
        await asyncio.to_thread(self.journal.stop)

    # Reading: what is committed.

    def table(self, resource: str) -> Table:
        table = self._tables.get(resource)
        if table is None:
            table = self._tables[resource] = Table(0)
        return table

    def get(self, resource: str, namespace: str, name: str) -> Entry | None:
        table = self._tables.get(resource)
        return table.entries.get((namespace, name)) if table else None

    def resources(self) -> list[str]:
        """Resources with at least one object."""
        return [resource for resource, table in self._tables.items() if table.entries]

    def expire_history(self) -> int:
        """Forget changes that are too old to be asked for; returns how many."""
        return sum(table.history.expire() for table in self._tables.values())

    # Writing.

    async def mutate(
        self,
        key: Key,
        decide: Callable[[Entry | None], Decision],
        audit: Callable[[dict[str, Any]], AuditRecord] | None = None,
    ) -> Written | None:
        """Decide on the committed state and commit the decision.

        decide gets the entry or None and returns the new object (without kind and apiVersion; it becomes the
        store's), Deleted, or None to change nothing. It may raise and may run more than once.
        Returns None if it decided to change nothing about an absent object. Raises StatusError if the disk fails.
        """
        while True:
            while (pending := self._pending.get(key)) is not None:
                await asyncio.wait((pending.done,))
            before = self.get(*key)
            decision = decide(before)
            if decision is None:
                return Written(before, before) if before is not None else None
            if not isinstance(decision, Charged):
                break
            if await self._charge(decision, key, before):
                decision = decision.decision
                break
        written = self._begin(key, before, decision, audit)
        # A client that leaves cancels its request, not the write: the future belongs to the object.
        await asyncio.shield(self._pending[key].done)
        return written

    async def _charge(self, decision: Charged, key: Key, before: Entry | None) -> bool:
        """Begin the writes that go with a decision. False: the object changed while they had to wait."""
        while True:
            others = decision.charge()
            busy = [self._pending[other].done for other, _ in others if other in self._pending]
            if not busy:
                for other, obj in others:
                    self._begin(other, self.get(*other), obj, None)
                return True
            await asyncio.wait(busy)
            if key in self._pending or self.get(*key) is not before:
                return False

    def _begin(
        self,
        key: Key,
        before: Entry | None,
        decision: dict[str, Any] | Deleted,
        audit: Callable[[dict[str, Any]], AuditRecord] | None,
    ) -> Written:
        """Give a decision its version and hand it to the journal."""
        deleted = isinstance(decision, Deleted)
        obj = decision.obj if isinstance(decision, Deleted) else decision
        self._counter += 1
        version = self._counter
        obj["metadata"]["resourceVersion"] = str(version)
        after = Entry(key.namespace, key.name, version, _encode(obj), obj)
        assert self._loop is not None
        done: asyncio.Future[None] = self._loop.create_future()
        self._pending[key] = _Pending(before, after, deleted, done)
        self._audit_number += audit is not None
        self._submit(
            Record(
                key.resource,
                key.namespace,
                key.name,
                version,
                None if deleted else after.body,
                audit(obj) if audit else None,
                self._audit_number,
            )
        )
        return Written(before, after, deleted)

    def _submit(self, record: Record) -> None:
        if not self._unsent:
            assert self._loop is not None
            self._loop.call_soon(self._flush)
        self._unsent.append(record)

    def _flush(self) -> None:
        if self._unsent:
            self.journal.submit(self._unsent)
            self._unsent = []

    def _on_written(self, records: Sequence[Record], error: Exception | None) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._settle, records, error)

    def _settle(self, records: Sequence[Record], error: Exception | None) -> None:
        failure = _storage_failure(error) if error is not None else None
        for record in records:
            pending = self._pending.pop(Key(record.resource, record.namespace, record.name))
            if failure is not None:
                if not pending.done.done():
                    pending.done.set_exception(failure)
                    pending.done.exception()
                continue
            self._remember(record, pending)
            if not pending.done.done():
                pending.done.set_result(None)
        for callback in self.after_commit:
            callback()

    def _remember(self, record: Record, pending: _Pending) -> None:
        table = self.table(record.resource)
        if not pending.deleted:
            table.put(pending.after)
        elif pending.before is not None:
            table.remove((record.namespace, record.name))
        self.version = max(self.version, record.version)
        event = Event(record.version, pending.before, pending.after, pending.deleted)
        table.history.append(event)
        for listener in self.listeners:
            try:
                listener(record.resource, event)
            except Exception:
                # It is committed: the writer gets its answer whatever becomes of those who listen.
                log.exception("a listener failed on %s %s", record.resource, record.name)


def _storage_failure(error: Exception) -> status.StatusError:
    text = str(error)
    if "full" in text:
        return status.insufficient_storage(
            "The disk that holds the cluster's state is full: nothing was changed; free some space and try again"
        )
    return status.internal_error(f"the cluster's state could not be written, nothing was changed: {text}")
