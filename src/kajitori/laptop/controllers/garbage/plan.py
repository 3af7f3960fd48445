"""What becomes of an object whose owners go: kept, relieved of dead references, or deleted, and how. Pure.

Source: Kubernetes' documentation of garbage collection and of owner references.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from kajitori.api.kubernetes.meta_v1 import OwnerReference
from kajitori.control.cache import Metadata

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"


class OwnerState(enum.Enum):
    """What is known of the owner that a reference names."""

    SOLID = "it exists and stays"
    WAITING = "it is being deleted in the foreground: it waits for its dependents"
    ABSENT = "no object has this uid"


class Keep(msgspec.Struct, frozen=True):
    """Nothing to do."""


class DropReferences(msgspec.Struct, frozen=True):
    """Remove the references with these uids; other owners remain."""

    uids: list[str]


class Delete(msgspec.Struct, frozen=True):
    """policy: how the object's own dependents are to be treated."""

    policy: str


Decision = Keep | DropReferences | Delete


def is_deleting(metadata: Metadata) -> bool:
    return metadata.deletion_timestamp is not None


def waits_for_dependents(metadata: Metadata) -> bool:
    """Being deleted in the foreground."""
    return is_deleting(metadata) and FOREGROUND in metadata.finalizers


def orphans_dependents(metadata: Metadata) -> bool:
    """Being deleted, and its dependents shall stay."""
    return is_deleting(metadata) and ORPHAN in metadata.finalizers


def decide(
    metadata: Metadata, owners: Sequence[tuple[OwnerReference, OwnerState]], has_dependents: bool
) -> Decision:
    """The fate of an object that is not being deleted yet."""
    if is_deleting(metadata) or not owners:
        return Keep()
    states = [state for _, state in owners]
    lost = [owner.uid for owner, state in owners if state is not OwnerState.SOLID]
    if OwnerState.SOLID in states:
        return DropReferences(lost) if lost else Keep()
    if OwnerState.WAITING in states and has_dependents:
        return Delete("Foreground")
    if ORPHAN in metadata.finalizers:
        return Delete("Orphan")
    if FOREGROUND in metadata.finalizers:
        return Delete("Foreground")
    return Delete("Background")


def blocks(metadata: Metadata, owner_uid: str) -> bool:
    """Whether the owner must wait for this object."""
    return any(
        owner.uid == owner_uid and bool(owner.block_owner_deletion) for owner in metadata.owner_references
    )
