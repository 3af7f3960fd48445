"""The `managedFields` list: who owns what, by which operation, since when.

An entry is kept as it is stored. Its identity is the manager, the operation, the subresource and, for updates,
the API version. Apply entries come first, then older before newer; entries that own nothing vanish.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

from kajitori.laptop.apiserver.apply.field_sets import LEAF, Node, canonical, union

_MOST_UPDATE_ENTRIES: Final = 10
_ANCIENT: Final = "ancient-changes"

Entry = dict[str, Any]


class Identity(NamedTuple):
    """Who an entry belongs to. api_version: empty for Apply, whose entry moves along with the version."""

    manager: str
    operation: str
    subresource: str
    api_version: str


def identity_of(entry: Entry) -> Identity:
    operation = entry.get("operation", "")
    return Identity(
        entry.get("manager", ""),
        operation,
        entry.get("subresource", ""),
        entry.get("apiVersion", "") if operation == "Update" else "",
    )


def make_entry(who: Identity, api_version: str, time: str, fields: Node) -> Entry:
    entry: Entry = {
        "manager": who.manager,
        "operation": who.operation,
        "apiVersion": api_version,
        "time": time,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    if who.subresource:
        entry["subresource"] = who.subresource
    return entry


def with_fields(entry: Entry, fields: Node | None) -> Entry | None:
    """The entry owning `fields` instead; None if that is nothing; the entry itself if that is no change."""
    if not fields:
        return None
    return entry if fields is entry["fieldsV1"] else {**entry, "fieldsV1": fields}


def live_entries(obj: dict[str, Any] | None) -> list[Entry]:
    metadata: dict[str, Any] = (obj or {}).get("metadata") or {}
    return metadata.get("managedFields") or []


def entries_to_start_from(old: dict[str, Any] | None, new: dict[str, Any], subresource: str) -> list[Entry]:
    """The entries that a write begins with: those of the old object, unless the writer sets them on purpose.

    A writer may replace them on the main resource (kubectl moves ownership to server-side apply so), or clear
    them with one empty entry. Absent, empty or unreadable ones leave the old ones as they are.
    """
    kept = live_entries(old)
    metadata: dict[str, Any] = new.get("metadata") or {}
    given: Any = metadata.get("managedFields")
    if subresource or not isinstance(given, list) or not given or given is kept:
        return kept
    entries = cast("list[Any]", given)
    if entries == [{}]:
        return []
    if entries == kept:
        return kept
    try:
        return [_checked(entry) for entry in entries]
    except ValueError:
        return kept


def _checked(entry: Any) -> Entry:
    if not isinstance(entry, dict):
        raise ValueError("a managedFields entry must be an object")
    fields = cast("Entry", entry)
    if fields.get("operation") not in ("Apply", "Update"):
        raise ValueError("operation must be Apply or Update")
    if fields.get("fieldsType") != "FieldsV1":
        raise ValueError("fieldsType must be FieldsV1")
    if not all(
        isinstance(fields.get(key, ""), str) for key in ("manager", "apiVersion", "time", "subresource")
    ):
        raise ValueError("manager, apiVersion, time and subresource must be strings")
    return {**fields, "fieldsV1": canonical(fields.get("fieldsV1") or LEAF)}


def arranged(entries: list[Entry]) -> list[Entry]:
    """The list as it is stored: one entry an identity, none empty, sorted, old updates folded together."""
    by_identity: dict[Identity, Entry] = {}
    for entry in entries:
        if not entry.get("fieldsV1"):
            continue
        who = identity_of(entry)
        twin = by_identity.get(who)
        if twin is not None:
            entry = {**entry, "fieldsV1": union(twin["fieldsV1"], entry["fieldsV1"])}
        by_identity[who] = entry
    result = sorted(by_identity.values(), key=_order)
    updates = [entry for entry in result if entry["operation"] == "Update"]
    if len(updates) > _MOST_UPDATE_ENTRIES:
        result = sorted(_fold_oldest(result, updates), key=_order)
    return result


def same_but_for_times(new: dict[str, Any], old: dict[str, Any]) -> bool:
    """Whether two objects differ in nothing, or only in when managers last wrote: no reason to store one."""
    if new == old:
        return True
    ours, theirs = live_entries(new), live_entries(old)
    if len(ours) != len(theirs) or any(
        identity_of(one) != identity_of(other) or one["fieldsV1"] != other["fieldsV1"]
        for one, other in zip(ours, theirs, strict=True)
    ):
        return False
    return _without_entries(new) == _without_entries(old)


def _without_entries(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {**obj, "metadata": metadata}


def _order(entry: Entry) -> tuple[str, str, str, str, str]:
    return (
        entry["operation"],
        entry.get("time") or "",
        entry.get("manager", ""),
        entry.get("apiVersion", ""),
        entry.get("subresource", ""),
    )


def _fold_oldest(entries: list[Entry], updates: list[Entry]) -> list[Entry]:
    """Fold the oldest updates into one entry an API version, so that the list cannot grow without end."""
    folded = [entry for entry in updates if not entry.get("subresource")]
    folded = folded[: len(updates) - _MOST_UPDATE_ENTRIES + 1]
    buckets: dict[str, Entry] = {}
    for entry in folded:
        version = entry.get("apiVersion", "")
        bucket = buckets.get(version)
        fields = entry["fieldsV1"] if bucket is None else union(bucket["fieldsV1"], entry["fieldsV1"])
        buckets[version] = {**entry, "manager": _ANCIENT, "fieldsV1": fields}
    dropped = {id(entry) for entry in folded}
    return [entry for entry in entries if id(entry) not in dropped] + list(buckets.values())
