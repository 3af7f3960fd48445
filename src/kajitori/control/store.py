"""The objects of an informer in memory, with indexes that are kept as objects come and go.

Everything is in dicts, so that iteration follows the order of arrival and the same run gives the same order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from kajitori.control.cache import HasMetadata

T = TypeVar("T", bound="HasMetadata")

_log = logging.getLogger(__name__)


class Store(Generic[T]):
    """Objects by namespace and name."""

    def __init__(self, indexers: Mapping[str, Callable[[T], Iterable[str]]]) -> None:
        self._objects: dict[str, dict[str, T]] = {}
        self._count = 0
        self._indexers: dict[str, Callable[[T], Iterable[str]]] = {}
        self._indexes: dict[str, dict[str, dict[tuple[str, str], T]]] = {}
        self._buried: dict[str, None] = {}
        self.add_indexers(indexers)

    def __len__(self) -> int:
        return self._count

    def get(self, namespace: str, name: str) -> T | None:
        objects = self._objects.get(namespace)
        return objects.get(name) if objects is not None else None

    def list(self, namespace: str | None = None) -> list[T]:
        if namespace is not None:
            return list(self._objects.get(namespace, {}).values())
        return [obj for objects in self._objects.values() for obj in objects.values()]

    def by_index(self, index: str, value: str) -> list[T]:
        """Raises KeyError for an index that was never declared."""
        return list(self._indexes[index].get(value, {}).values())

    def add_indexers(self, indexers: Mapping[str, Callable[[T], Iterable[str]]]) -> None:
        for name, indexer in indexers.items():
            if name in self._indexers:
                continue
            self._indexers[name], self._indexes[name] = indexer, {}
            for obj in self.list():
                self._index(name, indexer, obj)

    def put(self, obj: T) -> None:
        namespace, name = obj.metadata.namespace or "", obj.metadata.name or ""
        objects = self._objects.setdefault(namespace, {})
        old = objects.get(name)
        if old is None:
            self._count += 1
        else:
            self._unindex(old)
        objects[name] = obj
        for index, indexer in self._indexers.items():
            self._index(index, indexer, obj)

    def remove(self, obj: T) -> None:
        namespace, name = obj.metadata.namespace or "", obj.metadata.name or ""
        objects = self._objects.get(namespace, {})
        stored = objects.pop(name, None)
        if stored is None:
            return
        self._count -= 1
        self._unindex(stored)
        if not objects:
            self._objects.pop(namespace, None)

    def _index(self, index: str, indexer: Callable[[T], Iterable[str]], obj: T) -> None:
        key = (obj.metadata.namespace or "", obj.metadata.name or "")
        for value in _values(indexer, obj):
            self._indexes[index].setdefault(value, {})[key] = obj

    def _unindex(self, obj: T) -> None:
        # The object is frozen, so the indexers give today what they gave when it was put.
        key = (obj.metadata.namespace or "", obj.metadata.name or "")
        for index, indexer in self._indexers.items():
            values = self._indexes[index]
            for value in _values(indexer, obj):
                keys = values.get(value)
                if keys is not None:
                    keys.pop(key, None)
                    if not keys:
                        del values[value]

    def bury(self, obj: T) -> None:
        """Events of this very object that are still on their way must not bring it back."""
        if obj.metadata.uid:
            self._buried[obj.metadata.uid] = None

    def is_buried(self, obj: T) -> bool:
        return bool(self._buried) and obj.metadata.uid in self._buried

    def unbury(self, obj: T) -> None:
        """Its deletion has arrived: nothing more will come of it."""
        if self._buried:
            self._buried.pop(obj.metadata.uid or "", None)

    def exhume(self) -> None:
        """After a list nothing old is on its way any more."""
        self._buried.clear()


def _values(indexer: Callable[[T], Iterable[str]], obj: T) -> Iterable[str]:
    """What the indexer gives; one that fails on an odd object leaves it out of its index."""
    try:
        return list(indexer(obj))
    except Exception:
        _log.exception("an indexer failed on %s/%s", obj.metadata.namespace, obj.metadata.name)
        return ()
