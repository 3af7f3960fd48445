"""Cluster roles that collect others by label: their rules are written into them, for all who read them.

Rights do not wait for this: the authorizer follows aggregation rules itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.label_selectors import selects
from kajitori.laptop.apiserver.rbac import CLUSTER_ROLES
from kajitori.laptop.apiserver.store import Decision, Entry, Key

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.history import Event
    from kajitori.laptop.apiserver.store import Store

Object = dict[str, Any]


class RoleAggregation:
    """`run` is its task: one round after each change of a cluster role."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = asyncio.Event()
        self._changed.set()
        store.listeners.append(self._on_event)

    def _on_event(self, resource: str, event: Event) -> None:
        if resource == CLUSTER_ROLES:
            self._changed.set()

    async def run(self) -> None:
        await self._changed.wait()
        self._changed.clear()
        for entry in list(self._store.table(CLUSTER_ROLES).scan()):
            if (entry.peek().get("aggregationRule") or {}).get("clusterRoleSelectors"):
                await self._store.mutate(Key(CLUSTER_ROLES, "", entry.name), self._filled)

    def _filled(self, before: Entry | None) -> Decision:
        if before is None:
            return None
        role = before.peek()
        wanted = self._collected(role)
        return (
            None
            if wanted is None or wanted == (role.get("rules") or [])
            else {**before.decode(), "rules": wanted}
        )

    def _collected(self, role: Object) -> list[Object] | None:
        """Rules of the roles that are chosen, each once; None: it collects nothing."""
        selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ()
        if not selectors:
            return None
        found: list[Object] = []
        for selector in selectors:
            if not any(selector.values()):
                continue
            for entry in self._store.table(CLUSTER_ROLES).scan():
                if entry.name != role["metadata"]["name"] and selects(selector, entry.labels):
                    found += [rule for rule in entry.peek().get("rules") or () if rule not in found]
        return found
