"""DELETE of one object and of many."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.admission.requests import admitted, review_of_deletion
from kajitori.laptop.apiserver.admission.steps import Steps
from kajitori.laptop.apiserver.answers import body_answer, object_answer
from kajitori.laptop.apiserver.bodies import decode_options
from kajitori.laptop.apiserver.changes import as_read, key_of, settle, to_be_stored
from kajitori.laptop.apiserver.deletion import DeleteOptions, check_preconditions, decide_deletion
from kajitori.laptop.apiserver.reads import entry_answer, selector_of
from kajitori.laptop.apiserver.store import Decision, Deleted, Entry, Key, Written
from kajitori.laptop.apiserver.views import View

if TYPE_CHECKING:
    from aiohttp import web

    from kajitori.laptop.apiserver.request import Call
    from kajitori.laptop.apiserver.state import ServerState

DELETED_AT_ONCE = 128


async def delete_object(state: ServerState, call: Call) -> web.StreamResponse:
    options = await decode_options(call)
    kind = call.kind
    written = await _delete(state, call, key_of(call), options)
    resource = kind.resource
    if kind.storage.qualified_name == "jobs.batch" and options.propagation_policy is None:
        call.warnings.append(
            "child pods are preserved by default when jobs are deleted; "
            "set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to "
            "suppress this warning"
        )
    if not written.deleted or kind.storage.qualified_name == "pods":
        return await entry_answer(state, call, 200, written.after)
    return await object_answer(
        call,
        200,
        status.success(call.target.name, resource.group, resource.plural, written.after.uid),
    )


async def _delete(state: ServerState, call: Call, key: Key, options: DeleteOptions) -> Written:
    kind = call.kind

    def decide(before: Entry | None) -> Steps[Decision]:
        if before is None:
            raise status.not_found(kind.resource, key.name)
        obj = yield from as_read(state, kind, before)
        review = review_of_deletion(call, obj, options.shown(), dry_run=bool(options.dry_run))
        if review is not None:
            check_preconditions(kind, obj, options.preconditions)
            yield from admitted(call, review)
            obj = yield from as_read(state, kind, before)
        decision = decide_deletion(kind, obj, options, time.time())
        if decision is None:
            return None
        if isinstance(decision, Deleted):
            return Deleted((yield from to_be_stored(state, kind, decision.obj)))
        return (yield from to_be_stored(state, kind, decision))

    written = await settle(state, call, key, decide, bool(options.dry_run))
    assert written is not None
    return written


async def delete_collection(state: ServerState, call: Call) -> web.StreamResponse:
    options = await decode_options(call)
    selector = selector_of(call)
    kind = call.kind
    resource = kind.storage.qualified_name
    if selector.fields:
        await state.conversion.ensure(kind, state.store.table(resource).scan(selector.namespace))
    entries = list(selector.select(state.store.table(resource).scan(selector.namespace)))
    view = View(kind)
    gone: list[Entry] = []
    for start in range(0, len(entries), DELETED_AT_ONCE):
        keys = [Key(resource, e.namespace, e.name) for e in entries[start : start + DELETED_AT_ONCE]]
        outcomes = await asyncio.gather(
            *(_delete(state, call, key, options) for key in keys), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, Written):
                gone.append(outcome.before or outcome.after)
            elif not isinstance(outcome, status.StatusError) or outcome.code not in (404, 409):
                # Not found or changed: somebody else was faster, and what was asked for has happened.
                raise outcome
    await state.conversion.ensure(kind, gone)
    body = view.wrap(view.items(gone), {"resourceVersion": str(state.store.version)})
    return await body_answer(call, 200, body.joined())
