"""From what a client wants to what is stored: the steps that all writes of objects share.

Each write is a decision on the stored object (`store.mutate`): let the kind prepare it, track who owns which
field, check, compare. A write that changes nothing decides nothing.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from kajitori.base.clock import rfc3339
from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.admission import plugins, prerequisites
from kajitori.laptop.apiserver.admission.requests import mutated, mutated_new, review_of, validated
from kajitori.laptop.apiserver.admission.review import CREATE, UPDATE
from kajitori.laptop.apiserver.admission.steps import Steps, at_once, in_time
from kajitori.laptop.apiserver.apply import same_but_for_times, track_update
from kajitori.laptop.apiserver.bodies import check_kind
from kajitori.laptop.apiserver.deletion import check_finalizers, is_released
from kajitori.laptop.apiserver.journal import AuditRecord
from kajitori.laptop.apiserver.kinds import Context
from kajitori.laptop.apiserver.rbac import Attributes
from kajitori.laptop.apiserver.store import Charged, Decision, Deleted, Entry, Key, Written
from kajitori.laptop.apiserver.views import read_object, stored_object

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.kinds.kind import Kind
    from kajitori.laptop.apiserver.request import Call
    from kajitori.laptop.apiserver.state import ServerState

Object = dict[str, Any]
T = TypeVar("T")
MOST_DECISIONS = 6


def now_text() -> str:
    return rfc3339(time.time())


def context_of(state: ServerState) -> Context:
    """What a kind may know while it prepares an object."""
    return Context(now=now_text(), uid=str(uuid.uuid4()), lookup=state.lookup)


def audit_of(call: Call, verb: str = "") -> Callable[[Object], AuditRecord]:
    """Makes the audit record of a write from the object that was written."""
    target, user = call.target, call.user

    def record(obj: Object) -> AuditRecord:
        metadata = obj["metadata"]
        return AuditRecord(
            time=now_text(),
            user=user.name,
            user_agent=call.user_agent,
            verb=verb or call.verb,
            resource=call.kind.resource.qualified_name,
            namespace=metadata.get("namespace", ""),
            name=metadata.get("name", ""),
            uid=metadata.get("uid", ""),
            subresource=target.subresource,
            field_manager=call.query.get("fieldManager"),
            impersonated_by=user.impersonator,
            annotations=call.annotations,
        )

    return record


Decide = Callable[[Entry | None], Steps[Decision]]
"""What becomes of a stored object (None: there is none); may run more than once."""


async def settle(state: ServerState, call: Call, key: Key, decide: Decide, dry_run: bool) -> Written | None:
    """Commit a decision, or with dry run only take it."""
    try:
        if dry_run:
            before = state.store.get(*key)
            written = _dry_run(key, before, await in_time(decide(before)))
        elif waits(call):
            written = await _settle_in_time(state, call, key, decide)
        else:
            written = await state.store.mutate(key, lambda before: at_once(decide(before)), audit_of(call))
    except asyncio.CancelledError:
        # The client left, the write goes on: what it claimed becomes the object's when it is committed.
        raise
    except BaseException:
        state.addresses.give_back(call)
        raise
    state.addresses.give_back(call)
    return written


def waits(call: Call) -> bool:
    """Whether a write of this call may have to wait for somebody outside, and so be decided more than once."""
    kind = call.kind
    return kind.conversion is not None or call.configured.waits(kind.resource, call.target.subresource)


def renewed(call: Call, value: T) -> Callable[[], T]:
    """Gives what a request brought, as it was each time where a decision may be taken more than once."""
    if not waits(call):
        return lambda: value
    pristine = msgspec.json.encode(value)
    return lambda: msgspec.json.decode(pristine)


class _Changed(Exception):
    """The stored object is not the one that was decided on."""


async def _settle_in_time(state: ServerState, call: Call, key: Key, decide: Decide) -> Written | None:
    """Commit a decision that waits for others, if the object is still what it was decided on; else decide again."""
    for _ in range(MOST_DECISIONS):
        before = state.store.get(*key)
        decision = await in_time(decide(before))

        def unless_changed(
            current: Entry | None, before: Entry | None = before, decision: Decision = decision
        ) -> Decision:
            if current is not before:
                raise _Changed
            return decision

        try:
            return await state.store.mutate(key, unless_changed, audit_of(call))
        except _Changed:
            continue
    raise status.conflict(call.kind.resource, key.name)


def _dry_run(key: Key, before: Entry | None, decision: Decision) -> Written | None:
    if isinstance(decision, Charged):
        decision.charge()
        decision = decision.decision
    if decision is None:
        return Written(before, before) if before is not None else None
    deleted = isinstance(decision, Deleted)
    obj = decision.obj if isinstance(decision, Deleted) else decision
    version = before.version if before is not None else 0
    entry = Entry(key.namespace, key.name, version, msgspec.json.encode(obj), obj)
    return Written(before, entry, deleted)


def key_of(call: Call, name: str = "") -> Key:
    return Key(call.kind.storage.qualified_name, call.target.namespace, name or call.target.name)


def place(kind: Kind, obj: Object, namespace: str) -> Object:
    """Set the namespace that the URL says. Raises StatusError 400 if the object says another. Returns the metadata."""
    metadata: Object = obj.setdefault("metadata", {})
    if not kind.namespaced:
        metadata.pop("namespace", None)
        return metadata
    given = metadata.get("namespace")
    if given and given != namespace:
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    metadata["namespace"] = namespace
    return metadata


def prepare_new(
    state: ServerState, call: Call, obj: Object, *, manager: str, tracked: bool = False
) -> Steps[Decision]:
    """From a decoded object to what is stored; tracked: its managedFields are right already."""
    kind = call.kind
    metadata = obj["metadata"]
    namespace, name = metadata.get("namespace", ""), metadata.get("name", "")
    prerequisites.check_namespace(state, kind, namespace, name)
    prerequisites.check_new(state, call.user, kind, obj)
    context = context_of(state)

    sent = obj

    def prepare(new: Object) -> None:
        kind.begin_create(new, context)
        if not tracked and new is sent:
            # Before the server adds anything of its own: that belongs to nobody.
            _track(kind, kind.blank, new, manager, context, "")
        kind.admit_new(new, context)
        prerequisites.admit(state, call, new, None)
        plugins.prepare(state, kind, new, None)

    prepare(obj)
    review = review_of(call, CREATE, obj, None)
    if review is not None:
        yield from mutated_new(call, review, prepare)
        obj = review.obj or obj
    errors = kind.validate(obj)
    if errors:
        raise status.invalid(kind.resource.kind, kind.resource.group, name, errors)
    call.warnings.extend(kind.warnings_about(obj))
    plugins.check(state, call, kind, obj, None, "")
    if review is not None:
        yield from validated(call, review)
    stored = yield from to_be_stored(state, kind, obj)
    return plugins.charge(state, call, obj, None, stored)


def to_be_stored(state: ServerState, kind: Kind, obj: Object) -> Steps[Object]:
    """An object in the form that the store takes, converted by whoever can."""
    if kind.conversion is not None:
        obj = yield partial(state.conversion.to_stored, kind, obj)
    return stored_object(kind, obj)


def as_read(state: ServerState, kind: Kind, entry: Entry) -> Steps[Object]:
    """A stored object as its kind shows it, the caller's own copy."""
    if kind.conversion is not None:
        yield partial(state.conversion.ensure, kind, [entry])
    return read_object(kind, entry)


def check_may_create(state: ServerState, call: Call) -> None:
    """A PUT or apply that creates asks for the right to create as well. Raises StatusError 403."""
    target, resource = call.target, call.kind.resource
    asked = Attributes("create", resource.group, resource.plural, target.namespace, target.name)
    if not state.authorizer.allows(call.user, asked):
        raise status.forbidden(resource, target.name, asked.sentence(call.user.name))


def _track(
    kind: Kind, old: Object, new: Object, manager: str, context: Context, subresource: str, noted: str = ""
) -> None:
    """Note in the new object who owns what. noted: the subresource to write down, if another one."""
    managed = track_update(
        kind.countable(old, subresource),
        kind.countable(new, subresource),
        manager=manager,
        api_version=kind.resource.api_version,
        subresource=noted or subresource,
        schema=kind.schema,
        now=context.now,
    )
    _set_managed(new["metadata"], managed)


def _set_managed(metadata: Object, managed: list[Object]) -> None:
    if managed:
        metadata["managedFields"] = managed
    else:
        metadata.pop("managedFields", None)


def finish_update(
    state: ServerState,
    call: Call,
    old: Object,
    new: Object,
    *,
    manager: str,
    subresource: str = "",
    tracked: bool = False,
    tracked_as: str = "",
    reviewed: bool = False,
) -> Steps[Decision]:
    """From the object that a client wants to what is stored. None: nothing changes.

    tracked: its managedFields are right already. tracked_as: the subresource to note there, if another one.
    reviewed: webhooks and policies were asked already, about the subresource.
    """
    kind = call.kind
    new = _identified(call, old, new)
    check_finalizers(kind, new, old)
    context = context_of(state)

    def prepare(changed: Object) -> None:
        kind.begin_update(changed, old, subresource)
        if not tracked and changed is wanted:
            _track(kind, old, changed, manager, context, subresource, tracked_as)
        kind.finish_update(changed, old, context, subresource)
        if not subresource:
            prerequisites.admit(state, call, changed, old)
            plugins.prepare(state, kind, changed, old)
        else:
            prerequisites.admit_part(state, call, changed, old, subresource)

    wanted = new
    prepare(new)
    review = None if reviewed else review_of(call, UPDATE, new, old)
    if review is not None:
        yield from mutated(call, review, prepare)
        new = review.obj or new
    errors = kind.validate(new, old, subresource)
    if errors:
        raise status.invalid(kind.resource.kind, kind.resource.group, new["metadata"].get("name", ""), errors)
    if not subresource:
        call.warnings.extend(kind.warnings_about(new))
    plugins.check(state, call, kind, new, old, subresource)
    if review is not None:
        yield from validated(call, review)
    if same_but_for_times(new, old):
        return None
    stored = yield from to_be_stored(state, kind, new)
    if is_released(new):
        return Deleted(stored)
    return plugins.charge(state, call, new, old, stored, subresource=subresource)


def _identified(call: Call, old: Object, new: Object) -> Object:
    """The new object with metadata of its own, after checking that it means the stored one."""
    kind, target = call.kind, call.target
    new = {**new, "metadata": dict(new.get("metadata") or {})}
    metadata, stored = new["metadata"], old["metadata"]
    name = metadata.setdefault("name", target.name)
    if name != target.name:
        raise status.bad_request(
            f"the name of the object ({name}) does not match the name on the URL ({target.name})"
        )
    if kind.namespaced:
        place(kind, new, target.namespace)
    check_kind(kind, new)
    uid = metadata.get("uid")
    if uid and uid != stored.get("uid") and call.verb == "patch":
        errors = [status.invalid_value("metadata.uid", uid, "field is immutable")]
        raise status.invalid(kind.resource.kind, kind.resource.group, target.name, errors)
    if uid and uid != stored.get("uid"):
        raise status.conflict(
            kind.resource,
            target.name,
            f"StorageError: invalid object, Code: 4, Precondition failed: UID in precondition: {uid}, "
            f"UID in object meta: {stored.get('uid', '')}",
        )
    deleted = metadata.get("deletionTimestamp")
    if deleted and deleted != stored.get("deletionTimestamp"):
        errors = [status.invalid_value("metadata.deletionTimestamp", deleted, "field is immutable")]
        raise status.invalid(kind.resource.kind, kind.resource.group, target.name, errors)
    version = metadata.get("resourceVersion")
    if version and version != stored["resourceVersion"]:
        raise status.conflict(kind.resource, target.name)
    metadata["resourceVersion"] = stored["resourceVersion"]
    return new
