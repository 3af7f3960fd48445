"""What is wanted no more and needed still, by what stays in force because Envoy refuses what was to follow it. No I/O.

A filter chain that stays as it was needs the certificate that it had, the tokens of a policy the cluster that its keys come
from. An Envoy that starts meanwhile asks for these, and would wait for them with all that shares a resource with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.envoy.forms import strings_in
from kajitori.gateway.resources import CLUSTER, ENDPOINTS, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kajitori.gateway.envoy.encoded import Encoded

_NEEDED = (CLUSTER, ENDPOINTS, SECRET)
_ByType = dict[str, dict[str, "Encoded"]]


class Remains:
    """kept: of what went the resources that are needed still."""

    def __init__(self) -> None:
        self._gone: dict[tuple[str, str], Encoded] = {}
        self.kept: dict[tuple[str, str], Encoded] = {}
        # By what this was found out.
        self._in_force: list[Any] = []
        self._looked_at: dict[tuple[str, str], Encoded] = {}

    def __bool__(self) -> bool:
        return bool(self._gone)

    def forget(self) -> None:
        """All that is not kept: nothing will turn out to need it."""
        self._gone = dict(self.kept)

    def note(self, before: _ByType, now: _ByType, good: Mapping[tuple[str, str], Encoded]) -> None:
        """Other resources are wanted than before. good: what Envoy took, and nothing else can be needed."""
        for kind in _NEEDED:
            for name in before[kind].keys() - now[kind].keys():
                if (kind, name) in good:
                    self._gone[kind, name] = good[kind, name]
        self._gone = {key: item for key, item in self._gone.items() if key[1] not in now[key[0]]}
        self.kept = {key: item for key, item in self.kept.items() if key in self._gone}

    def keep(self, in_force: Iterable[Any]) -> None:
        """in_force: what is not as it is wanted; and what it names is kept, and what that names."""
        left = list(in_force)
        if self._looked_at == self._gone and _same(left, self._in_force):
            return
        self._in_force, self._looked_at = list(left), dict(self._gone)
        kept: dict[tuple[str, str], Encoded] = {}
        while left:
            named = strings_in(left.pop())
            for key, item in self._gone.items():
                if key[1] in named and key not in kept:
                    kept[key] = item
                    left.append(item.value)
        self.kept = kept

    def among(self, wanted: _ByType) -> _ByType:
        """What is wanted, and what is kept."""
        if not self.kept:
            return wanted
        found = {kind: dict(items) for kind, items in wanted.items()}
        for (kind, name), item in self.kept.items():
            found[kind][name] = item
        return found


def _same(one: list[Any], other: list[Any]) -> bool:
    """Whether they have the very same things."""
    return len(one) == len(other) and all(mine is theirs for mine, theirs in zip(one, other, strict=True))
