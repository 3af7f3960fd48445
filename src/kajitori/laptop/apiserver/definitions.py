"""CustomResourceDefinitions at work: names accepted, kinds served, instances removed when a definition goes.

A definition is judged when it is written (`judge`), so an accepted one is served as soon as it is stored. What
is served follows the store; one task removes the instances of definitions that go, and judges again those that
were refused a name which has become free.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from kajitori.base.clock import rfc3339
from kajitori.laptop.apiserver.conversion import Converter
from kajitori.laptop.apiserver.deletion import DEFINITION_CLEANUP, DeleteOptions, decide_deletion, is_released
from kajitori.laptop.apiserver.status import StatusError
from kajitori.laptop.apiserver.store import Decision, Deleted, Entry, Key
from kajitori.laptop.apiserver.views import read_object, stored_object

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.history import Event
    from kajitori.laptop.apiserver.kinds import Registry
    from kajitori.laptop.apiserver.kinds.kind import Kind
    from kajitori.laptop.apiserver.state import ServerState

RESOURCE = "customresourcedefinitions.apiextensions.k8s.io"
RETRY_SECONDS = 1.0
ALWAYS = 1 << 62
log = logging.getLogger(__name__)
Object = dict[str, Any]


def condition_of(definition: Object, type_: str) -> str:
    """Status of a condition, empty if there is none."""
    for condition in definition.get("status", {}).get("conditions") or ():
        if condition["type"] == type_:
            return condition["status"]
    return ""


def _set_condition(definition: Object, type_: str, value: str, reason: str, message: str) -> None:
    shown = definition.setdefault("status", {})
    conditions: list[Object] = shown.get("conditions") or []
    shown["conditions"] = conditions
    wanted = {"type": type_, "status": value, "reason": reason, "message": message}
    for condition in conditions:
        if condition["type"] == type_:
            changed = condition["status"] != value
            condition.update(wanted)
            if changed:
                condition["lastTransitionTime"] = rfc3339(time.time())
            return
    conditions.append(
        {
            "type": type_,
            "status": value,
            "lastTransitionTime": rfc3339(time.time()),
            "reason": reason,
            "message": message,
        }
    )


def _names(definition: Object) -> dict[str, Any]:
    names = definition["spec"]["names"]
    return {
        "plural": names["plural"],
        "singular": names.get("singular") or names["kind"].lower(),
        "kind": names["kind"],
        "listKind": names.get("listKind") or f"{names['kind']}List",
        **{key: names[key] for key in ("shortNames", "categories") if names.get(key)},
    }


def judge(registry: Registry, definition: Object) -> None:
    """Set conditions, accepted names and stored versions, in place.

    A definition that lacks its group or names is left alone: validation refuses it next.
    """
    spec: Object = definition["spec"]
    names: Object = spec.get("names") or {}
    if not (spec.get("group") and names.get("plural") and names.get("kind")):
        return
    wanted = _names(definition)
    taken = _taken(registry, definition, wanted)
    shown = definition.setdefault("status", {})
    if taken:
        shown.setdefault("acceptedNames", {"plural": "", "kind": ""})
        _set_condition(definition, "NamesAccepted", "False", taken[0], f'"{taken[1]}" is already in use')
        if condition_of(definition, "Established") != "True":
            _set_condition(definition, "Established", "False", "NotAccepted", "not all names are accepted")
    else:
        shown["acceptedNames"] = wanted
        _set_condition(definition, "NamesAccepted", "True", "NoConflicts", "no conflicts found")
        _set_condition(
            definition,
            "Established",
            "True",
            "InitialNamesAccepted",
            "the initial names have been accepted",
        )
    stored = [
        version["name"]
        for version in definition["spec"].get("versions") or ()
        if version.get("storage") and version.get("name")
    ]
    known = shown.get("storedVersions") or []
    shown["storedVersions"] = [*known, *(version for version in stored if version not in known)]


def _taken(registry: Registry, definition: Object, wanted: Object) -> tuple[str, str] | None:
    """Reason and name of the first name that another resource of the group has already."""
    group, own = definition["spec"]["group"], definition["metadata"]["name"]
    for kind in registry.kinds():
        resource = kind.resource
        if resource.group != group or resource.qualified_name == own:
            continue
        words = {resource.plural, kind.singular, *kind.short_names}
        for key in ("plural", "singular"):
            if wanted[key] in words:
                return f"{key.capitalize()}Conflict", wanted[key]
        for short in wanted.get("shortNames", ()):
            if short in words:
                return "ShortNamesConflict", short
        kinds = {resource.kind, kind.list_kind}
        for key in ("kind", "listKind"):
            if wanted[key] in kinds:
                return f"{key[0].upper()}{key[1:]}Conflict", wanted[key]
    return None


class Definitions:
    """Serves the kinds of the store's definitions; `run` is its task."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        state.store.listeners.append(self._on_event)

    def load(self) -> None:
        """Serve what was accepted before this start, and look at each definition once."""
        for entry in self._state.store.table(RESOURCE).scan():
            self._serve(entry)
            self._waiting.put_nowait(entry.name)

    def _on_event(self, resource: str, event: Event) -> None:
        if resource != RESOURCE:
            return
        entry = event.entry
        if event.deleted:
            self._state.registry.remove_crd(entry.name)
            self._state.hub.end_all(entry.name)
            # Its names are free for those that were refused them.
            for other in self._state.store.table(RESOURCE).scan():
                if condition_of(other.peek(), "Established") != "True":
                    self._waiting.put_nowait(other.name)
            return
        self._serve(entry, event.before)
        self._waiting.put_nowait(entry.name)

    def _serve(self, entry: Entry, before: Entry | None = None) -> None:
        definition = entry.decode()
        if condition_of(definition, "Established") != "True":
            return
        if before is not None and condition_of(before.peek(), "Established") == "True":
            if before.peek()["spec"] == definition["spec"]:
                return
            # Readers come back and get what the new schema says.
            self._state.hub.end_all(definition["metadata"]["name"])
        kinds = self._state.registry.add_crd(
            {"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1", **definition}
        )
        conversion: Object = definition["spec"].get("conversion") or {}
        by_webhook = conversion.get("strategy") == "Webhook"
        first = ((definition.get("status") or {}).get("storedVersions") or [""])[0]
        self._state.conversion.forget()
        for kind in kinds:
            # With several versions an object may have been written by the schema of another one.
            kind.schema_since = entry.version if len(kinds) == 1 and not by_webhook else ALWAYS
            if by_webhook:
                kind.conversion = Converter(conversion.get("webhook") or {}, self._state.conversion)
                kind.unlabelled_version = f"{kind.resource.group}/{first}" if first else ""

    async def run(self) -> None:
        while True:
            name = await self._waiting.get()
            try:
                await self._settle(name)
                self._forget_decoded(name)
            except StatusError as error:
                log.warning("definition %s: %s", name, error)
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._waiting.put_nowait, name)

    def _forget_decoded(self, name: str) -> None:
        """Definitions are large, and their kinds have a decoded copy already."""
        entry = self._state.store.get(RESOURCE, "", name)
        if entry is not None:
            entry.forget()

    async def _settle(self, name: str) -> None:
        entry = self._state.store.get(RESOURCE, "", name)
        if entry is None:
            return
        if "deletionTimestamp" in entry.peek()["metadata"]:
            await self._clean_up(name)
            return

        def decide(before: Entry | None) -> Decision:
            if before is None:
                return None
            definition = before.decode()
            judge(self._state.registry, definition)
            return None if definition == before.peek() else definition

        await self._state.store.mutate(Key(RESOURCE, "", name), decide)

    async def _clean_up(self, name: str) -> None:
        """Remove the instances of a definition that is going, then let it go."""
        store = self._state.store

        def mark(before: Entry | None) -> Decision:
            if before is None:
                return None
            definition = before.decode()
            _set_condition(
                definition,
                "Terminating",
                "True",
                "InstanceDeletionInProgress",
                "CustomResource deletion is in progress",
            )
            return None if definition == before.peek() else definition

        await store.mutate(Key(RESOURCE, "", name), mark)
        kind = next((k for k in self._state.registry.kinds() if k.storage.qualified_name == name), None)
        table = store.table(name)
        for entry in list(table.scan()):
            await self._delete_instance(kind, Key(name, entry.namespace, entry.name))
        if table.entries:
            # Finalizers hold some of them: look again until they are gone.
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._waiting.put_nowait, name)
            return

        def release(before: Entry | None) -> Decision:
            if before is None:
                return None
            definition = before.decode()
            metadata = definition["metadata"]
            metadata["finalizers"] = [f for f in metadata.get("finalizers") or () if f != DEFINITION_CLEANUP]
            _set_condition(
                definition,
                "Terminating",
                "False",
                "InstanceDeletionCompleted",
                "removed all instances",
            )
            return Deleted(definition) if is_released(definition) else definition

        await store.mutate(Key(RESOURCE, "", name), release)

    async def _delete_instance(self, kind: Kind | None, key: Key) -> None:
        def decide(before: Entry | None) -> Decision:
            if before is None:
                return None
            if kind is None:
                return Deleted(before.decode())
            if kind.conversion is not None:
                # The webhook may be gone already, and a deletion needs nothing that it knows.
                return decide_deletion(kind, before.decode(), DeleteOptions(), time.time())
            decision = decide_deletion(kind, read_object(kind, before), DeleteOptions(), time.time())
            if decision is None:
                return None
            if isinstance(decision, Deleted):
                return Deleted(stored_object(kind, decision.obj))
            return stored_object(kind, decision)

        await self._state.store.mutate(key, decide)
