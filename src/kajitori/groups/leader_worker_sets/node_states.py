"""Whether nodes are well, asked one by one: for the few pods whose end somebody has to understand.

Our own nodes say as well whether containers have process ids of their own; where they have not, a command that is
meant for a container could hit the machine.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import field

from kajitori.api.resource import NODES
from kajitori.base.clock import Clock
from kajitori.base.errors import KajitoriError, NotFound
from kajitori.kube.client import Client

# Set by the laptop's nodes; others have no such condition, and containers with process ids of their own.
NAMESPACES_CONDITION = "kajitori.dev/PodsIsolated"
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


class _State(msgspec.Struct, frozen=True):
    at: float
    trouble: str = ""
    shared_processes: bool = False


class NodeStates:
    """Answers are good for a quarter of a minute."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[str, _State] = {}

    async def of(self, names: Iterable[str]) -> dict[str, str]:
        """By name what is wrong with a node, such as `is NotReady since ...`; nodes that are well are left out."""
        wanted = list(dict.fromkeys(name for name in names if name))[:MOST_ASKED]
        states = {name: await self._state(name) for name in wanted}
        return {name: state.trouble for name, state in states.items() if state.trouble}

    async def shares_processes(self, name: str) -> bool:
        """Whether containers on this node see the processes of the machine."""
        return (await self._state(name)).shared_processes

    async def _state(self, name: str) -> _State:
        now = self._clock.now()
        self._known = {name: state for name, state in self._known.items() if now - state.at < FRESH_SECONDS}
        if name not in self._known:
            self._known[name] = await self._ask(name, now)
        return self._known[name]

    async def _ask(self, name: str, now: float) -> _State:
        try:
            node = await self._client.get(NODES, name, type=_Node)
        except NotFound:
            return _State(now, "does not exist any more")
        except (KajitoriError, msgspec.MsgspecError):
            return _State(now)
        conditions = {one.type: one for one in node.status.conditions}
        namespaces = conditions.get(NAMESPACES_CONDITION)
        shared = namespaces is not None and namespaces.status == "False"
        ready = conditions.get("Ready")
        if ready is None or ready.status == "True":
            return _State(now, shared_processes=shared)
        since = f" since {ready.last_transition_time}" if ready.last_transition_time else ""
        trouble = "does not report" if ready.status == "Unknown" else "is NotReady"
        return _State(now, trouble + since, shared)
