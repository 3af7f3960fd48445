"""Server-side apply: merge what a manager wants, remove what it no longer wants, refuse to overwrite others.

Source of the rules: the Kubernetes documentation, "Server-Side Apply"; texts as kube-apiserver 1.36 words them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kajitori.laptop.apiserver.apply.comparison import (
    NEVER_OWNED,
    NEVER_OWNED_METADATA,
    Difference,
    compare_objects,
)
from kajitori.laptop.apiserver.apply.entries import (
    Entry,
    Identity,
    arranged,
    identity_of,
    live_entries,
    make_entry,
    with_fields,
)
from kajitori.laptop.apiserver.apply.field_sets import Node, overlap, paths, subtract, union
from kajitori.laptop.apiserver.apply.merging import merge
from kajitori.laptop.apiserver.apply.owned import PROBLEMS_TOLD, Unfit, applied_fields
from kajitori.laptop.apiserver.apply.removal import remove_given_up
from kajitori.laptop.apiserver.status import FieldError, StatusError, apply_conflict, bad_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence, Set

    from kajitori.laptop.apiserver.schema import Schema

_FOR_CREATION = ("name", "namespace", "generateName")


class InvalidApply(StatusError):
    """400: what is applied cannot be owned; the message has the field path."""

    def __init__(self, message: str) -> None:
        super().__init__(bad_request(message).status)


class ApplyConflict(StatusError):
    """409: other managers own fields that would get another value. `conflicts` names each field."""

    def __init__(self, conflicts: list[Conflict]) -> None:
        causes = [
            FieldError("FieldManagerConflict", conflict.path, f"conflict with {conflict.owner}")
            for conflict in conflicts
        ]
        super().__init__(apply_conflict(_conflict_message(conflicts), causes).status)
        self.conflicts = conflicts


class Conflict(NamedTuple):
    """One field that another manager owns.

    owner: as messages name it, such as `"kubectl-edit" using v1`. path: such as `.data.a`.
    """

    owner: str
    path: str


def _conflict_message(conflicts: list[Conflict]) -> str:
    if len(conflicts) == 1:
        return f"Apply failed with 1 conflict: conflict with {conflicts[0].owner}: {conflicts[0].path}"
    lines: list[str] = []
    for owner in sorted({conflict.owner for conflict in conflicts}):
        lines.append(f"conflicts with {owner}:")
        lines += [f"- {conflict.path}" for conflict in conflicts if conflict.owner == owner]
    return f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)


def _owner(entry: Entry) -> str:
    who = identity_of(entry)
    text = f'"{who.manager}"'
    if who.subresource:
        text += f' with subresource "{who.subresource}"'
    if who.operation == "Update":
        text += f" using {who.api_version}"
    return text


def server_side_apply(
    live: dict[str, Any] | None,
    applied: dict[str, Any],
    *,
    manager: str,
    api_version: str,
    subresource: str,
    force: bool,
    schema: Schema,
    now: str,
    ignored_fields: Iterable[str] = (),
) -> dict[str, Any]:
    """The object after `manager` applied `applied`; `live` itself if that changes nothing.

    live: the stored object, or None to create one. applied: as decoded, without defaults. api_version: that of
    the request. now: RFC 3339, for the manager's entry. ignored_fields: top-level fields that this endpoint does
    not write, such as `status` on the main resource; on the status subresource only `status` counts.
    Raises InvalidApply and ApplyConflict.
    """
    wanted = _what_counts(applied, subresource, frozenset(ignored_fields))
    fields = _checked_fields(wanted, applied, api_version, schema)
    ignored = frozenset(ignored_fields)
    if subresource == "status" and live is not None:
        ignored = live.keys() - {"status"}
    entries = _entries_of(live, api_version, schema, now, ignored)
    who = Identity(manager, "Apply", subresource, "")
    previous = next((entry for entry in entries if identity_of(entry) == who), None)
    others = [entry for entry in entries if entry is not previous]

    base: dict[str, Any] = live if live is not None else _bare(applied)
    result: dict[str, Any] = merge(base, wanted, schema)
    if previous is not None and previous["fieldsV1"] != fields:
        kept = fields
        for entry in others:
            kept = union(kept, entry["fieldsV1"])
        result = remove_given_up(result, previous["fieldsV1"], kept, schema)
    difference = compare_objects(base if live is not None else {}, result, schema)
    others = _yield_ownership(others, difference, force=force)

    unchanged = result is base and previous is not None and previous["fieldsV1"] == fields
    nothing_said = previous is None and fields is None and result is base and entries == live_entries(live)
    if live is not None and (unchanged or nothing_said):
        return live
    own = [make_entry(who, api_version, now, fields)] if fields else []
    return _with_entries(result, arranged([*own, *others]))


def _what_counts(applied: dict[str, Any], subresource: str, ignored: frozenset[str]) -> dict[str, Any]:
    """The part of the applied object that can be owned."""
    metadata: Any = applied.get("metadata")
    if isinstance(metadata, dict) and metadata.get("managedFields"):
        raise InvalidApply("metadata.managedFields must be nil")
    if subresource == "status":
        return {"status": applied["status"]} if "status" in applied else {}
    wanted = {
        name: value for name, value in applied.items() if name not in NEVER_OWNED and name not in ignored
    }
    if isinstance(metadata, dict):
        owned = {name: value for name, value in metadata.items() if name not in NEVER_OWNED_METADATA}
        if owned:
            wanted["metadata"] = owned
        else:
            wanted.pop("metadata", None)
    return wanted


def _checked_fields(
    wanted: dict[str, Any], applied: dict[str, Any], api_version: str, schema: Schema
) -> Node | None:
    try:
        return applied_fields(wanted, schema) or None
    except Unfit as unfit:
        metadata: Any = applied.get("metadata")
        names = metadata if isinstance(metadata, dict) else {}
        where = "/".join(filter(None, (names.get("namespace"), names.get("name"))))
        group_version = api_version if "/" in api_version else f"/{api_version}"
        raise InvalidApply(
            f"failed to create typed patch object ({where}; {group_version}, "
            f"Kind={applied.get('kind', '')}): {_listed(unfit.problems)}"
        ) from None


def _listed(problems: Sequence[tuple[str, str]]) -> str:
    """As clients know it: one problem on the line, several below it."""
    told = [f"{path}: {message}" for path, message in problems[:PROBLEMS_TOLD]]
    if len(problems) == 1:
        return told[0]
    if len(problems) >= PROBLEMS_TOLD:
        told.append("and perhaps more")
    return "\n  ".join(["errors:", *told])


def _entries_of(
    live: dict[str, Any] | None, api_version: str, schema: Schema, now: str, ignored: Set[str]
) -> list[Entry]:
    """The present entries; an object without any belongs to `before-first-apply`, so nothing is lost unseen."""
    entries = live_entries(live)
    if live is None or entries:
        return entries
    counted = {name: value for name, value in live.items() if name not in ignored}
    present = compare_objects({}, counted, schema).changed
    if present is None:
        return []
    who = Identity("before-first-apply", "Update", "", api_version)
    return [make_entry(who, api_version, now, present)]


def _bare(applied: dict[str, Any]) -> dict[str, Any]:
    """What an object that apply creates has of its own: its kind and name."""
    metadata: dict[str, Any] = applied.get("metadata") or {}
    bare: dict[str, Any] = {name: applied[name] for name in ("apiVersion", "kind") if name in applied}
    bare["metadata"] = {name: metadata[name] for name in _FOR_CREATION if name in metadata}
    return bare


def _yield_ownership(others: list[Entry], difference: Difference, *, force: bool) -> list[Entry]:
    """The other managers' entries after the change. Raises ApplyConflict unless forced."""
    changed, removed = difference
    if changed is None and removed is None:
        return others
    conflicts: list[Conflict] = []
    result: list[Entry] = []
    for entry in others:
        fields: Node | None = entry["fieldsV1"]
        taken = overlap(entry["fieldsV1"], changed) if changed is not None else None
        if taken is not None:
            if not force:
                conflicts += [Conflict(_owner(entry), path) for path in paths(taken)]
                continue
            fields = subtract(entry["fieldsV1"], taken)
        if removed is not None and fields is not None:
            fields = subtract(fields, removed)
        left = with_fields(entry, fields)
        if left is not None:
            result.append(left)
    if conflicts:
        raise ApplyConflict(sorted(conflicts))
    return result


def _with_entries(obj: dict[str, Any], entries: list[Entry]) -> dict[str, Any]:
    metadata = {name: value for name, value in obj.get("metadata", {}).items() if name != "managedFields"}
    if entries:
        metadata["managedFields"] = entries
    return {**obj, "metadata": metadata}
