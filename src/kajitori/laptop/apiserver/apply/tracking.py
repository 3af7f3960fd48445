"""Ownership after writes that are no apply: create, update, and the other kinds of patch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.apply.comparison import compare_objects
from kajitori.laptop.apiserver.apply.entries import (
    Entry,
    Identity,
    arranged,
    entries_to_start_from,
    identity_of,
    live_entries,
    make_entry,
    with_fields,
)
from kajitori.laptop.apiserver.apply.field_sets import Node, subtract, union

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.schema import Schema


def track_update(
    old: dict[str, Any] | None,
    new: dict[str, Any],
    *,
    manager: str,
    api_version: str,
    subresource: str,
    schema: Schema,
    now: str,
    operation: str = "Update",
) -> list[Entry]:
    """The `managedFields` of `new`, which `manager` wrote over `old` (None: created).

    The writer comes to own, silently, what it added or changed; what it left alone stays with its owners; what
    it removed is owned by nobody. The list is the old object's own, by identity, if nothing changed hands.
    """
    start = entries_to_start_from(old, new, subresource)
    if not start and old and (old.get("metadata") or {}).get("uid"):
        return []  # nobody has been noted so far, and only an apply begins with it
    changed, removed = compare_objects(old or {}, new, schema)
    if changed is None and removed is None:
        return start if start is live_entries(old) else arranged(start)
    who = Identity(manager, operation, subresource, api_version if operation == "Update" else "")
    own: Node | None = None
    result: list[Entry] = []
    for entry in start:
        fields: Node | None = entry["fieldsV1"]
        if removed is not None and fields:
            fields = subtract(fields, removed)
        if identity_of(entry) == who:
            own = fields or None
            continue
        if changed is not None and fields:
            fields = subtract(fields, changed)
        left = with_fields(entry, fields)
        if left is not None:
            result.append(left)
    own = union(own, changed)
    if own:
        result.append(make_entry(who, api_version, now, own))
    return arranged(result)
