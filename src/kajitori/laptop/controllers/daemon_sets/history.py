"""The revisions of a DaemonSet's templates: which is the present one, and which may go. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from kajitori.laptop.controllers.daemon_sets.placement import HASH_LABEL
from kajitori.laptop.controllers.daemon_sets.views import DaemonSetView
from kajitori.laptop.controllers.revisions import RevisionView, by_number, keeps, next_number


class Present(msgspec.Struct, frozen=True):
    """found: the template's revision, if there is one. number: what it shall carry. doubles: others that keep the
    same template. old: those of other templates."""

    found: RevisionView | None
    number: int
    doubles: list[RevisionView]
    old: list[RevisionView]


def find_present(daemon_set: DaemonSetView, revisions: Sequence[RevisionView]) -> Present:
    same = by_number([one for one in revisions if keeps(one, daemon_set.spec.template)])
    old = by_number([one for one in revisions if one not in same])
    found = same[-1] if same else None
    number = max(next_number(old), found.revision if found is not None else 0)
    return Present(found, number, same[:-1], old)


def hash_of(revision: RevisionView) -> str:
    """What pods of the revision carry as their label."""
    return revision.metadata.labels.get(HASH_LABEL) or revision.metadata.name


def obsolete(old: Sequence[RevisionView], live: Collection[str], limit: int) -> list[RevisionView]:
    """Old revisions beyond the limit, oldest first. live: hashes that pods still carry."""
    unused = [one for one in by_number(old) if hash_of(one) not in live]
    return unused[: max(0, len(old) - limit)]
