"""All kinds that are served at the moment, and the ways to find one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.kinds.builtin import builtin_kinds
from kajitori.laptop.apiserver.kinds.custom import custom_kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kajitori.laptop.apiserver.kinds.kind import Kind


class Registry:
    """Built-in kinds from the start; custom ones by `add_crd` and `remove_crd`.

    revision: grows with each change, so that what is derived from the kinds (discovery, OpenAPI) knows its age.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._kinds: dict[tuple[str, str, str], Kind] = {}
        self._by_kind: dict[tuple[str, str, str], Kind] = {}
        self._of_crd: dict[str, list[Kind]] = {}
        for kind in builtin_kinds():
            self._add(kind)
        self._builtin_groups = frozenset(kind.resource.group for kind in self._kinds.values())

    def _add(self, kind: Kind) -> None:
        resource = kind.resource
        self._kinds[resource.group, resource.version, resource.plural] = kind
        self._by_kind[resource.group, resource.version, resource.kind] = kind

    def _remove(self, kind: Kind) -> None:
        resource = kind.resource
        self._kinds.pop((resource.group, resource.version, resource.plural), None)
        self._by_kind.pop((resource.group, resource.version, resource.kind), None)

    def lookup(self, group: str, version: str, plural: str) -> Kind | None:
        """By what a URL says."""
        return self._kinds.get((group, version, plural))

    def lookup_kind(self, group: str, version: str, kind: str) -> Kind | None:
        """By what an object or an owner reference says."""
        return self._by_kind.get((group, version, kind))

    def kinds(self) -> Iterator[Kind]:
        """All of them, in the order in which they came."""
        return iter(list(self._kinds.values()))

    def is_builtin_group(self, group: str) -> bool:
        """Unknown paths below a built-in group are answered with a Status, those below others with a text."""
        return group in self._builtin_groups

    def add_crd(self, crd: dict[str, Any]) -> list[Kind]:
        """Serves the kinds of an accepted definition, one a served version; replaces what it served before."""
        name = crd["metadata"]["name"]
        for kind in self._of_crd.pop(name, ()):
            self._remove(kind)
        kinds: list[Kind] = list(custom_kinds(crd))
        for kind in kinds:
            self._add(kind)
        self._of_crd[name] = kinds
        self.revision += 1
        return kinds

    def remove_crd(self, name: str) -> None:
        """Stops serving the kinds of a definition, named `plural.group`; unknown names are fine."""
        kinds = self._of_crd.pop(name, None)
        if kinds is None:
            return
        for kind in kinds:
            self._remove(kind)
        self.revision += 1
