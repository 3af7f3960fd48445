"""Whether nodes are well, asked one by one: for the few pods whose end somebody has to understand."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import field

from kajitori.api.resource import NODES
from kajitori.base.clock import Clock
from kajitori.base.errors import KajitoriError, NotFound
from kajitori.kube.client import Client

FRESH_SECONDS = 15.0
MOST_ASKED = 10


class _Condition(msgspec.Struct, frozen=True, rename="camel"):
    type: str = ""
    status: str = ""
    last_transition_time: str | None = None


class _Status(msgspec.Struct, frozen=True):
    conditions: tuple[_Condition, ...] = ()


class _Node(msgspec.Struct, frozen=True):
    status: _Status = field(default_factory=_Status)


class NodeStates:
    """Answers are good for a quarter of a minute."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[str, tuple[float, str]] = {}

    async def of(self, names: Iterable[str]) -> dict[str, str]:
        """By name what is wrong with a node, such as `is NotReady since ...`; nodes that are well are left out."""
        now = self._clock.now()
        self._known = {name: entry for name, entry in self._known.items() if now - entry[0] < FRESH_SECONDS}
        wanted = list(dict.fromkeys(name for name in names if name))
        for name in wanted[:MOST_ASKED]:
            if name not in self._known:
                self._known[name] = (now, await self._ask(name))
        return {name: state for name in wanted if (state := self._known.get(name, (now, ""))[1])}

    async def _ask(self, name: str) -> str:
        try:
            node = await self._client.get(NODES, name, type=_Node)
        except NotFound:
            return "does not exist any more"
        except (KajitoriError, msgspec.MsgspecError):
            return ""
        ready = next((one for one in node.status.conditions if one.type == "Ready"), None)
        if ready is None or ready.status == "True":
            return ""
        since = f" since {ready.last_transition_time}" if ready.last_transition_time else ""
        return f"does not report{since}" if ready.status == "Unknown" else f"is NotReady{since}"
