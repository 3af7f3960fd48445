"""Where policies hold, routes of Envoy are shaped by them, each host and listener for itself. Pure.

A route is translated once. Where no policy bears upon it the same entry serves everywhere; else each set of policies
that holds somewhere gives one changed copy, whatever the number of hosts where it holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.gateway.object_memo import ObjectMemo
    from kajitori.gateway.policies.subjects import RouteKey
    from kajitori.gateway.routes.attachment import Place
    from kajitori.gateway.routes.tables import Entry


class Shaper(Protocol):
    """One kind of policies."""

    def effect(self, route: RouteKey, rule: str, place: Place) -> Any:
        """What holds for requests to a rule that come in by a listener, or None. The same object for the same."""
        ...

    def shape(self, entry: Entry, effect: Any) -> Entry:
        """A changed copy of an entry."""
        ...

    def keep(self, entry: Entry) -> None:
        """Told of an entry that serves somewhere with the clusters that it has."""
        ...

    def keeps_clusters(self, effect: Any) -> bool:
        """Whether a changed copy leads to the clusters that the entry has, so that it may be taken again."""
        ...

    def __bool__(self) -> bool:
        """Whether anything holds anywhere."""
        ...


class Shaping:
    """Applies the shapers one after another and remembers what came out. known: from plan to plan."""

    def __init__(self, shapers: Sequence[Shaper], known: ObjectMemo) -> None:
        self._shapers = [shaper for shaper in shapers if shaper]
        self._known = known
        # An entry and an effect live as long as the plan is made, so their identities tell them apart.
        self._made: dict[tuple[int, int], tuple[Entry, Any, Entry]] = {}

    def shaped(self, entry: Entry, route: RouteKey, place: Place) -> Entry:
        """The entry as it shall serve at a place."""
        for shaper in self._shapers:
            effect = shaper.effect(route, entry.rule, place)
            if effect is None:
                shaper.keep(entry)
            else:
                entry = self._shape(shaper, entry, effect)
        return entry

    def _shape(self, shaper: Shaper, entry: Entry, effect: Any) -> Entry:
        key = (id(entry), id(effect))
        if shaper.keeps_clusters(effect):
            shaper.keep(entry)
            return self._known.of(entry, effect, None, lambda: shaper.shape(entry, effect))
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = (entry, effect, shaper.shape(entry, effect))
        return made[2]
