"""ControllerRevisions: the templates that a workload had, as StatefulSets and DaemonSets keep them. Pure.

A revision's data is a strategic merge patch that puts its template back; `kubectl rollout undo` sends it as it
is. Two revisions mean the same if their data is equal, whatever number they carry; going back to an old template
gives its revision a new number.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from kajitori.kube.objects import Object, owner_reference
from kajitori.laptop.controllers.views import View

# What upstream writes names with: no vowels, nothing that looks alike.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_FNV_OFFSET, _FNV_PRIME = 2166136261, 16777619
_LONGEST_PREFIX = 223


class RevisionView(View, frozen=True, kw_only=True):
    kind: str = "ControllerRevision"
    api_version: str = "apps/v1"
    revision: int = 0
    data: Object = {}


def data_of(template: Object) -> Object:
    """The data of a template's revision."""
    return {"spec": {"template": {**_bare(template), "$patch": "replace"}}}


def template_of(revision: RevisionView) -> Object:
    """The template that a revision keeps."""
    template: Object = (revision.data.get("spec") or {}).get("template") or {}
    return {key: value for key, value in template.items() if key != "$patch"}


def keeps(revision: RevisionView, template: Object) -> bool:
    """Whether the revision is this template's."""
    return _bare(template_of(revision)) == _bare(template)


def _bare(template: Object) -> Object:
    metadata: Object = template.get("metadata") or {}
    return {**template, "metadata": {key: value for key, value in metadata.items() if value is not None}}


def data_hash(data: Object, collision_count: int) -> str:
    """A short name for the data; another collision count gives another one.

    As kube-controller-manager makes it (FNV-1 over Go's JSON), so a cluster that moves keeps its names.
    """
    text = msgspec.json.encode(data, order="sorted")
    for mark in b"<>&":
        text = text.replace(bytes([mark]), b"\\u%04x" % mark)
    number = _FNV_OFFSET
    for byte in text + str(collision_count).encode():
        number = (number * _FNV_PRIME & 0xFFFFFFFF) ^ byte
    return "".join(_ALPHABET[ord(digit) % len(_ALPHABET)] for digit in str(number))


def revision_name(owner_name: str, hash: str) -> str:
    return f"{owner_name[:_LONGEST_PREFIX]}-{hash}"


def by_number(revisions: Sequence[RevisionView]) -> list[RevisionView]:
    """Oldest number first; of equal numbers the older object."""
    return sorted(
        revisions, key=lambda one: (one.revision, one.metadata.creation_timestamp, one.metadata.name)
    )


def next_number(revisions: Sequence[RevisionView]) -> int:
    return max((one.revision for one in revisions), default=0) + 1


def revision_body(owner: View, template: Object, number: int, hash: str, hash_label: str) -> Object:
    """A new revision; it carries the labels of the template's pods and the annotations of its owner."""
    labels: Object = (template.get("metadata") or {}).get("labels") or {}
    metadata: Object = {
        "name": revision_name(owner.metadata.name, hash),
        "namespace": owner.metadata.namespace,
        "labels": {**labels, hash_label: hash},
        "ownerReferences": [owner_reference(owner)],
    }
    if owner.metadata.annotations:
        metadata["annotations"] = owner.metadata.annotations
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "data": data_of(template),
        "revision": number,
    }


def obsolete(revisions: Sequence[RevisionView], live: Collection[str], limit: int) -> list[RevisionView]:
    """Those beyond the history limit, oldest first. live: names of revisions in use, which do not count."""
    history = [one for one in by_number(revisions) if one.metadata.name not in live]
    return history[: max(0, len(history) - limit)]
