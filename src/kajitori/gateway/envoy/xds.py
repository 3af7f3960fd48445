"""The resources that Envoy shall have, from several sources, encoded and versioned.

A version is a digest of the content. So an unchanged resource keeps its version across restarts of this process,
and an Envoy that kept running is sent nothing it already has.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.errors import InvalidManifest
from kajitori.gateway.resources import TYPES, Resources

if TYPE_CHECKING:
    from kajitori.gateway.envoy.encode import Encoder


class Encoded(msgspec.Struct, frozen=True):
    """One resource as it goes over the wire."""

    value: dict[str, Any]
    data: bytes
    version: str


class Snapshot:
    """What Envoy shall have now.

    rejected: `type/name` -> why it was refused, by our own encoder or by Envoy; the last good one stays.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._sources: dict[str, dict[str, dict[str, Encoded]]] = {}
        self._good: dict[tuple[str, str], Encoded] = {}
        self._refused: dict[tuple[str, str], tuple[str, str]] = {}
        self._retried: set[tuple[str, str]] = set()
        self._malformed: dict[str, dict[tuple[str, str], str]] = {}
        self.resources: dict[str, dict[str, Encoded]] = {kind: {} for kind in TYPES}

    @property
    def rejected(self) -> dict[str, str]:
        found = {f"{kind}/{name}": message for (kind, name), (_, message) in self._refused.items()}
        for problems in self._malformed.values():
            found |= {f"{kind}/{name}": message for (kind, name), message in problems.items()}
        return found

    @property
    def refuses(self) -> bool:
        """Whether Envoy has refused anything that is wanted."""
        return bool(self._refused)

    def sources(self) -> set[str]:
        """Which sources have set their resources."""
        return set(self._sources)

    def set_resources(self, source: str, resources: Resources) -> bool:
        """Replaces all resources of one source; encodes only what changed. True: something did.

        The names of different sources must differ; a later source (by its name) would win.
        """
        known = self._sources.get(source, {})
        fresh: dict[str, dict[str, Encoded]] = {}
        changed = source not in self._sources
        malformed: dict[tuple[str, str], str] = {}
        for kind, values in resources.by_type.items():
            before = known.get(kind, {})
            after: dict[str, Encoded] = {}
            for name, value in values.items():
                old = before.get(name)
                if old is not None and (old.value is value or old.value == value):
                    after[name] = old
                    continue
                changed = True
                try:
                    data = self._encoder.encode(kind, value)
                except InvalidManifest as error:
                    malformed[kind, name] = str(error)
                    if old is not None:
                        after[name] = old
                    continue
                version = hashlib.blake2b(data, digest_size=12).hexdigest()
                after[name] = Encoded(value, data, version)
            changed = changed or len(after) != len(before)
            fresh[kind] = after
        changed = changed or any(items and kind not in fresh for kind, items in known.items())
        self._sources[source] = fresh
        self._malformed[source] = malformed
        if changed:
            self._merge()
        return changed

    def _merge(self) -> None:
        merged: dict[str, dict[str, Encoded]] = {kind: {} for kind in TYPES}
        for source in sorted(self._sources):
            for kind, items in self._sources[source].items():
                merged[kind].update(items)
        self.resources = merged
        # A refusal is of one version; another one is to be tried.
        self._refused = {
            (kind, name): refused
            for (kind, name), refused in self._refused.items()
            if name in merged[kind] and merged[kind][name].version == refused[0]
        }
        self._retried &= self._refused.keys()
        for key in [key for key in self._good if key[1] not in merged[key[0]]]:
            del self._good[key]

    def effective(self, kind: str, name: str) -> Encoded | None:
        """What to send: the wanted resource, or the last good one where Envoy refused this very version."""
        wanted = self.resources[kind].get(name)
        if wanted is None:
            return None
        refused = self._refused.get((kind, name))
        if refused is not None and refused[0] == wanted.version and (kind, name) not in self._retried:
            return self._good.get((kind, name))
        return wanted

    def accept(self, kind: str, name: str, encoded: Encoded) -> None:
        """Envoy took this one."""
        self._good[kind, name] = encoded
        if self._refused.get((kind, name), ("",))[0] == encoded.version:
            del self._refused[kind, name]
            self._retried.discard((kind, name))

    def refuse(self, kind: str, name: str, encoded: Encoded, message: str) -> None:
        """Envoy did not take this one and keeps what it had."""
        self._refused[kind, name] = (encoded.version, message)
        self._retried.discard((kind, name))

    def retry(self, kind: str, name: str) -> bool:
        """Send a refused one once more; until Envoy has said what it thinks, it counts as refused."""
        if (kind, name) not in self._refused:
            return False
        self._retried.add((kind, name))
        return True
