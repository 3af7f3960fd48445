"""Revisions: a set's templates as they were, so that a group can come back as it was in the middle of an update.

A revision holds `leaderWorkerTemplate` and `networkConfig`. Whether the set still is of a revision is asked by
comparing what they mean, never by comparing hashes: a field that a newer schema fills in with nothing, or another
way to hash, must not roll a set. Where a rollout stands is kept in annotations of its revision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from kajitori.api.kubernetes.meta_v1 import ObjectMeta
from kajitori.api.leaderworkerset import v1
from kajitori.groups.leader_worker_sets.observed import Revision
from kajitori.groups.leader_worker_sets.rollout import Position, settled

POSITION_ANNOTATION = "groups.kajitori.dev/rollout"
PREVIOUS_ANNOTATION = "groups.kajitori.dev/previous-revision"

# No vowels and no digits that read as letters: a hash must not spell a word.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def revision_data(spec: v1.LeaderWorkerSetSpec) -> dict[str, Any]:
    """What a revision remembers of a set: as on the wire, with defaults that mean the same written one way."""
    template = spec.leader_worker_template
    if template.restart_policy == "Default":
        template = msgspec.structs.replace(template, restart_policy="None")
    network = v1.NetworkConfig(subdomain_policy=subdomain_policy(spec.network_config))
    return {
        "spec": {
            "leaderWorkerTemplate": msgspec.to_builtins(template),
            "networkConfig": msgspec.to_builtins(network),
        }
    }


def subdomain_policy(network: v1.NetworkConfig | None) -> v1.SubdomainPolicy:
    return (network and network.subdomain_policy) or "Shared"


class Templates(msgspec.Struct, frozen=True):
    """What a group of one revision is made of."""

    hash: str
    group: v1.LeaderWorkerTemplate
    subdomain_policy: v1.SubdomainPolicy

    @property
    def size(self) -> int:
        return self.group.size


class _Data(msgspec.Struct, rename="camel"):
    leader_worker_template: v1.LeaderWorkerTemplate
    network_config: v1.NetworkConfig | None = None


def templates(hash: str, data: dict[str, Any]) -> Templates | None:
    """The templates in a revision's data; None if they cannot be read."""
    try:
        spec = msgspec.convert(data.get("spec"), _Data)
    except msgspec.ValidationError:
        return None
    return Templates(hash, spec.leader_worker_template, subdomain_policy(spec.network_config))


def same_meaning(one: Any, other: Any) -> bool:
    """Equal but for fields that are there with nothing in them."""
    return one == other or _bare(one) == _bare(other)


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        parts = {key: _bare(part) for key, part in value.items()}
        return {key: part for key, part in parts.items() if part not in (None, {}, [])}
    if isinstance(value, list):
        return [_bare(part) for part in value]
    return value


def data_hash(data: dict[str, Any]) -> str:
    """Ten letters for the templates; a part of names and the value of a label."""
    number = int.from_bytes(
        hashlib.sha256(msgspec.json.encode(_bare(data), order="deterministic")).digest()[:8]
    )
    letters = ""
    for _ in range(10):
        number, digit = divmod(number, len(_ALPHABET))
        letters += _ALPHABET[digit]
    return letters


def find(revisions: Sequence[Revision], data: dict[str, Any]) -> Revision | None:
    """The newest revision of the same meaning."""
    for revision in sorted(revisions, key=lambda revision: -revision.revision):
        if revision.hash and same_meaning(revision.data, data):
            return revision
    return None


def read_position(revision: Revision, replicas: int) -> Position:
    """Where the rollout to this revision stands; steady if nothing is written."""
    parts = revision.metadata.annotations.get(POSITION_ANNOTATION, "").split("/")
    if len(parts) == 3 and all(part.isdecimal() for part in parts):
        position = Position(*map(int, parts))
        if not position.steady:
            return position
    return settled(replicas)


def write_position(position: Position, previous: str) -> dict[str, str]:
    """The annotations that keep a rollout: `partition/groups/replicas`, and the revision of those not yet due."""
    return {POSITION_ANNOTATION: "/".join(map(str, position)), PREVIOUS_ANNOTATION: previous}


def revision_name(set_name: str, hash: str, number: int) -> str:
    return f"{set_name}-{hash}-{number}"


def revision_body(
    metadata: ObjectMeta,
    owner: dict[str, Any],
    hash: str,
    number: int,
    data: dict[str, Any],
    annotations: dict[str, str],
) -> dict[str, Any]:
    """The ControllerRevision to create. number: its place in their order."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": revision_name(metadata.name or "", hash, number),
            "namespace": metadata.namespace,
            "labels": {v1.SET_NAME_LABEL: metadata.name, v1.REVISION_LABEL: hash},
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "revision": number,
        "data": data,
    }
