"""What Envoy is wanted to have, by who wants it: cut into shards, encoded and versioned. No I/O."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from kajitori.base.errors import InvalidManifest
from kajitori.gateway.envoy.encoded import Encoded, encoded
from kajitori.gateway.envoy.parts import divide
from kajitori.gateway.envoy.shards import Sharding
from kajitori.gateway.resources import TYPES, Resources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kajitori.gateway.envoy.encoded import Encode

# Type and name of a resource.
Key = tuple[str, str]


class Sources:
    """resources: of all sources together, by type and name. versions: of the same, so that an Envoy that has all of it is
    found out by one comparison. unsendable: what is no message of Envoy as a whole, but has parts that may be.
    """

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._sharding = Sharding()
        self._by_source: dict[str, dict[str, dict[str, Encoded]]] = {}
        self._malformed: dict[str, dict[Key, str]] = {}
        self._counts = itertools.count(1)
        self.resources: dict[str, dict[str, Encoded]] = {kind: {} for kind in TYPES}
        self.versions: dict[str, dict[str, str]] = {kind: {} for kind in TYPES}
        self.unsendable: set[Key] = set()

    @property
    def malformed(self) -> dict[Key, str]:
        """What cannot be encoded, and why; what was there before stays."""
        return {key: message for problems in self._malformed.values() for key, message in problems.items()}

    def names(self) -> set[str]:
        """Of the sources that have set their resources."""
        return set(self._by_source)

    def set_resources(self, source: str, resources: Resources) -> bool:
        """Replaces all resources of one source; encodes only what changed. True: something did.

        The names of different sources must differ; a later source (by its name) would win.
        """
        cut = self._sharding.cut(resources)
        known = self._by_source.get(source, {})
        changed = source not in self._by_source
        fresh: dict[str, dict[str, Encoded]] = {}
        malformed: dict[Key, str] = {}
        for kind, values in cut.by_type.items():
            before = known.get(kind, {})
            after = fresh[kind] = self._encoded(kind, values, before, malformed)
            changed = (
                changed
                or len(after) != len(before)
                or any(before.get(name) is not item for name, item in after.items())
            )
        changed = changed or any(items and kind not in fresh for kind, items in known.items())
        # What was refused may come again with the same content.
        changed = changed or malformed != self._malformed.get(source, {})
        self._by_source[source] = fresh
        self._malformed[source] = malformed
        if changed:
            self._merge()
        return changed

    def _encoded(
        self,
        kind: str,
        values: Mapping[str, dict[str, Any]],
        before: Mapping[str, Encoded],
        malformed: dict[Key, str],
    ) -> dict[str, Encoded]:
        """Resources of one type; what is the same as before is the same object. malformed: gets what cannot be encoded."""
        after: dict[str, Encoded] = {}
        for name, value in values.items():
            old = before.get(name)
            if old is not None and (old.value is value or old.value == value):
                after[name] = old
                continue
            try:
                after[name] = encoded(kind, value, self._encode)
            except InvalidManifest as error:
                if divide(kind, value):
                    after[name] = Encoded(value, b"", f"unsendable {next(self._counts)}")
                    continue
                malformed[kind, name] = str(error)
                if old is not None:
                    after[name] = old
        return after

    def _merge(self) -> None:
        merged: dict[str, dict[str, Encoded]] = {kind: {} for kind in TYPES}
        for source in sorted(self._by_source):
            for kind, items in self._by_source[source].items():
                merged[kind].update(items)
        self.resources = merged
        self.versions = {
            kind: {name: item.version for name, item in items.items()} for kind, items in merged.items()
        }
        self.unsendable = {
            (kind, name)
            for items in self._by_source.values()
            for kind, found in items.items()
            for name, each in found.items()
            if not each.data
        }
