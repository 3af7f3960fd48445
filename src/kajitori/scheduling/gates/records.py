"""Pods that hold something of a node, small: what a decision about others needs of them, and nothing else.

Ten thousand pods of other people stand in memory for each gang that waits, so everything that many of them share is
kept once: what they ask for, the texts of their labels.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.control.cache import Metadata
from kajitori.scheduling.demand import Amounts, Demand, demand_of
from kajitori.scheduling.views import PodSpecView, PodStatusView, PodView

_SHARED_AT_MOST = 20_000


class Shared:
    """Equal values kept once."""

    def __init__(self) -> None:
        self._amounts: dict[tuple[tuple[str, int], ...], Amounts] = {}
        self._texts: dict[str, str] = {}

    def amounts(self, amounts: Amounts) -> Amounts:
        if len(self._amounts) > _SHARED_AT_MOST:
            self._amounts.clear()
        return self._amounts.setdefault(tuple(sorted(amounts.items())), amounts)

    def text(self, text: str) -> str:
        if len(self._texts) > _SHARED_AT_MOST:
            self._texts.clear()
        return self._texts.setdefault(text, text)

    def texts(self, texts: dict[str, str]) -> dict[str, str]:
        return {self.text(key): self.text(value) for key, value in texts.items()}


_SHARED = Shared()
_NO_LIST: list[Any] = []
_NO_TEXTS: dict[str, str] = {}
_NOTHING_SAID = PodStatusView()


class PlacedPod(PodView, frozen=True, kw_only=True):
    """A pod on a node. demand: what it holds there, and whom it keeps away."""

    demand: Demand = msgspec.field(default=None)  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        metadata = self.metadata
        change = msgspec.structs.force_setattr
        change(self, "demand", _small(demand_of(self)))
        kept = Metadata(
            name=metadata.name,
            namespace=self.demand.namespace,
            uid=metadata.uid,
            resource_version=metadata.resource_version,
        )
        change(self, "metadata", kept)
        change(self, "spec", _on_node(_SHARED.text(self.spec.node_name)))
        change(self, "status", _NOTHING_SAID)


_SPECS: dict[str, PodSpecView] = {}


def _on_node(name: str) -> PodSpecView:
    if len(_SPECS) > _SHARED_AT_MOST:
        _SPECS.clear()
    return _SPECS.setdefault(name, PodSpecView(node_name=name))


def _small(demand: Demand) -> Demand:
    """Without what only the choice of its own node needed."""
    return msgspec.structs.replace(
        demand,
        key="",
        namespace=_SHARED.text(demand.namespace),
        labels=_SHARED.texts(demand.labels),
        owner=_SHARED.text(demand.owner),
        requests=_SHARED.amounts(demand.requests),
        node_selector=_NO_TEXTS,
        node_terms=None,
        preferred_nodes=_NO_LIST,
        tolerations=_NO_LIST,
        affinity=demand.affinity or _NO_LIST,
        anti_affinity=demand.anti_affinity or _NO_LIST,
        preferred=_NO_LIST,
        spread=_NO_LIST,
        soft_spread=_NO_LIST,
        node_shape=b"",
        shape=b"",
    )
