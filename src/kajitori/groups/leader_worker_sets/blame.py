"""What a plan cannot see of a pod that began a restart: by whose hand, its last words, what has become of its node.

Asked before the pods are deleted, and only for restarts that begin, a few at a time. The embedded API server says
who deleted a pod; other clusters keep no such record within reach. Whatever does not answer within seconds is left
out: the sentence just ends earlier.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from kajitori.api.resource import PODS
from kajitori.base.errors import KajitoriError
from kajitori.groups.leader_worker_sets.actions import Action, NoteOnLeader, Plan
from kajitori.groups.leader_worker_sets.history import with_history
from kajitori.groups.leader_worker_sets.last_lines import MOST_LINES, last_lines
from kajitori.groups.leader_worker_sets.node_states import NodeStates
from kajitori.groups.leader_worker_sets.observed import World
from kajitori.groups.leader_worker_sets.restart import Blame, Restart
from kajitori.kube.client import Client

AUDIT_PATH = "/kajitori/audit"
# Of more restarts at once the first are told in full.
MOST_ASKED = 10
PATIENCE_SECONDS = 3.0
_LOG_BYTES = 8192


class _Record(msgspec.Struct, rename="camel"):
    user: str = ""
    user_agent: str = ""
    verb: str = ""
    uid: str = ""


class _Records(msgspec.Struct):
    items: list[_Record] = []


class Witness:
    """Asks what can still be found out. audit: the API server tells who deleted a pod."""

    def __init__(self, client: Client, nodes: NodeStates, *, audit: bool) -> None:
        self._client = client
        self._nodes = nodes
        self._audit = audit

    async def complete(self, world: World, plan: Plan) -> Plan:
        """The plan, with all that is known of those who begin a restart in it."""
        blames = {event.group: event.blame for event in plan.events if event.blame is not None}
        groups = list(blames)[:MOST_ASKED]
        if not groups:
            return plan
        completed = await asyncio.gather(
            *(self._complete(world.namespace, blames[group]) for group in groups)
        )
        return with_history(world, _replaced(plan, dict(zip(groups, completed, strict=True))))

    async def _complete(self, namespace: str, blame: Blame) -> Blame:
        found: dict[str, str] = {}

        async def find(what: str, ask: Callable[[str, Blame], Awaitable[str]]) -> None:
            found[what] = await ask(namespace, blame)

        questions = {"by": self._author, "last_log": self._last_log, "node_state": self._node_state}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
                for what, ask in questions.items():
                    tasks.create_task(find(what, ask))
        return msgspec.structs.replace(blame, **{what: text for what, text in found.items() if text})

    async def _author(self, namespace: str, blame: Blame) -> str:
        """Who asked for the deletion first, and with which program; empty where nobody says."""
        if not self._audit or blame.how not in ("deleted", "gone"):
            return ""
        query = {"resource": "pods", "namespace": namespace, "name": blame.pod}
        try:
            answer = await self._client.request("GET", AUDIT_PATH, query=query)
            records = msgspec.json.decode(answer, type=_Records).items
        except (KajitoriError, msgspec.MsgspecError):
            return ""
        deletions = [record for record in records if record.verb in ("delete", "deletecollection", "evict")]
        own = [record for record in deletions if record.uid == blame.pod_uid]
        if own:
            record = own[0]
        elif deletions and not blame.pod_uid:
            record = deletions[-1]
        else:
            return ""
        program = record.user_agent.partition(" ")[0]
        return f"{record.user} ({program})" if program else record.user

    async def _last_log(self, namespace: str, blame: Blame) -> str:
        """The end of the log of the container that failed, unless it left a message of its own."""
        if blame.last_log or not blame.container or blame.how not in ("container restarted", "failed"):
            return blame.last_log
        if blame.how == "container restarted" and (text := await self._log(namespace, blame, previous=True)):
            return text
        return await self._log(namespace, blame, previous=False)

    async def _log(self, namespace: str, blame: Blame, *, previous: bool) -> str:
        query = {
            "container": blame.container,
            "previous": "true" if previous else "",
            "tailLines": str(MOST_LINES),
            "limitBytes": str(_LOG_BYTES),
        }
        path = PODS.path(namespace, blame.pod, "log")
        try:
            answer = await self._client.request("GET", path, query=query, timeout_seconds=PATIENCE_SECONDS)
        except KajitoriError:
            return ""
        return last_lines(answer.decode(errors="replace"))

    async def _node_state(self, namespace: str, blame: Blame) -> str:
        # A kubelet that restarts a container is well.
        if blame.how == "container restarted" or not blame.node:
            return ""
        return (await self._nodes.of([blame.node])).get(blame.node, "")


def _replaced(plan: Plan, blames: Mapping[int, Blame]) -> Plan:
    def restart_of(group: int, restart: Restart) -> Restart:
        if restart.blame is None or group not in blames:
            return restart
        return msgspec.structs.replace(restart, blame=blames[group])

    def action_of(action: Action) -> Action:
        if not isinstance(action, NoteOnLeader) or action.restart is None:
            return action
        return msgspec.structs.replace(action, restart=restart_of(action.group, action.restart))

    events = [
        msgspec.structs.replace(event, blame=blames.get(event.group, event.blame)) if event.blame else event
        for event in plan.events
    ]
    return msgspec.structs.replace(
        plan,
        events=events,
        restarts={group: restart_of(group, restart) for group, restart in plan.restarts.items()},
        begun={group: restart_of(group, restart) for group, restart in plan.begun.items()},
        after=[action_of(action) for action in plan.after],
    )
