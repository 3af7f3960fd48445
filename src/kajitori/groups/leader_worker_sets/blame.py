"""By whose hand: asks the embedded API server who deleted the pod that began a restart.

Other clusters keep no such record within reach; there the sentence just ends earlier.
"""

from __future__ import annotations

import msgspec

from kajitori.base.errors import KajitoriError
from kajitori.groups.leader_worker_sets.actions import Plan
from kajitori.groups.leader_worker_sets.observed import World
from kajitori.groups.leader_worker_sets.restart import Blame
from kajitori.kube.client import Client

AUDIT_PATH = "/kajitori/audit"


class _Record(msgspec.Struct, rename="camel"):
    user: str = ""
    user_agent: str = ""
    verb: str = ""
    uid: str = ""


class _Records(msgspec.Struct):
    items: list[_Record] = []


async def with_authors(client: Client, world: World, plan: Plan) -> Plan:
    """The plan, with the author of each deletion that begins a restart in it, where he is known."""
    known: dict[int, Blame] = {}
    for event in plan.events:
        if event.blame is not None and event.blame.how in ("deleted", "gone"):
            author = await _author(client, world.namespace, event.blame)
            if author:
                known[event.group] = msgspec.structs.replace(event.blame, by=author)
    if not known:
        return plan
    events = [
        msgspec.structs.replace(event, blame=known[event.group])
        if event.blame is not None and event.group in known
        else event
        for event in plan.events
    ]
    restarts = {
        group: msgspec.structs.replace(restart, blame=known[group]) if group in known else restart
        for group, restart in plan.restarts.items()
    }
    return msgspec.structs.replace(plan, events=events, restarts=restarts)


async def _author(client: Client, namespace: str, blame: Blame) -> str:
    """Who asked for the deletion first, and with which program; empty where nobody says."""
    query = {"resource": "pods", "namespace": namespace, "name": blame.pod}
    try:
        answer = await client.request("GET", AUDIT_PATH, query=query)
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
