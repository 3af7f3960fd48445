"""Who owns the replicas of a Scale: those who own the field in its object that the replicas are kept in.

A scale is applied as an object of its own, so its conflicts are told as those of `autoscaling/v1`; what comes of it is
noted at the object, by entries of the subresource `scale`.
"""

from __future__ import annotations

from kajitori.laptop.apiserver.apply.entries import Entry, arranged, identity_of, with_fields
from kajitori.laptop.apiserver.apply.field_sets import LEAF, Node, overlap, subtract

SCALE_VERSION = "autoscaling/v1"
BEFORE_FIRST_APPLY = "before-first-apply"
_REPLICAS: Node = {"f:spec": {"f:replicas": LEAF}}


def node_of_path(path: str) -> Node:
    """The set of one field; path: such as `.spec.replicas`."""
    node: Node = LEAF
    for step in reversed(path.strip(".").split(".")):
        node = {f"f:{step}": node}
    return node


def entries_of_scale(entries: list[Entry], path: str) -> list[Entry]:
    """The entries of an object as its Scale has them. path: of the replicas in the object."""
    field = node_of_path(path)
    return [
        {**entry, "apiVersion": SCALE_VERSION, "fieldsV1": _REPLICAS}
        for entry in entries
        if entry.get("subresource") != "status" and overlap(entry["fieldsV1"], field)
    ]


def entries_of_object(entries: list[Entry], scale: list[Entry], path: str, api_version: str) -> list[Entry]:
    """The entries of an object after those of its Scale became `scale`. api_version: of the object."""
    field = node_of_path(path)
    left = {identity_of(entry)[:3]: entry for entry in scale}
    result: list[Entry] = []
    for entry in entries:
        owns = entry.get("subresource") != "status" and overlap(entry["fieldsV1"], field)
        if owns and left.pop(identity_of(entry)[:3], None) is None:
            kept = with_fields(entry, subtract(entry["fieldsV1"], field))
            result += [kept] if kept is not None else []
        else:
            result.append(entry)
    result += [
        {**entry, "apiVersion": api_version, "fieldsV1": field}
        for entry in left.values()
        if entry["manager"] != BEFORE_FIRST_APPLY  # a Scale that nobody owned
    ]
    return arranged(result)
