"""What a set was made of before: the last few revisions, kept so that a finished update can be undone.

Upstream deletes every older ControllerRevision when an update is done, and tools count on finding one. So an older one
is written down in an annotation of the one that stays before it is deleted. While an update is under way the
older revisions are there themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from kajitori.groups.leader_worker_sets.observed import Revision

HISTORY_ANNOTATION = "groups.kajitori.dev/earlier-revisions"
KEPT_REVISIONS = 3
# All annotations of an object together may be four times as long.
MOST_BYTES = 64 * 1024


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """One revision. number: its place in their order. created: RFC 3339. data: as in the ControllerRevision."""

    number: int
    hash: str
    created: str = ""
    data: dict[str, Any]


def past_of(revision: Revision) -> Past:
    return Past(
        number=revision.revision,
        hash=revision.hash,
        created=revision.metadata.creation_timestamp or "",
        data=revision.data,
    )


def earlier_in(revision: Revision) -> list[Past]:
    """Those that are written down in it; none if that cannot be read."""
    text = revision.metadata.annotations.get(HISTORY_ANNOTATION, "")
    try:
        return msgspec.json.decode(text, type=list[Past]) if text else []
    except msgspec.MsgspecError:
        return []


def history(revisions: Iterable[Revision]) -> list[Past]:
    """All revisions that are known, the oldest first; of two that mean the same only the newer one."""
    found: dict[str, Past] = {}
    for revision in revisions:
        for past in (*earlier_in(revision), past_of(revision)):
            if past.hash not in found or past.number > found[past.hash].number:
                found[past.hash] = past
    return sorted(found.values(), key=lambda past: past.number)


def written_down(newest: Revision, older: Sequence[Revision]) -> str:
    """The annotation of the newest revision once the older ones go: the last few, as far as there is room."""
    known = [past for past in history([*older, newest]) if past.hash != newest.hash]
    kept = known[-KEPT_REVISIONS:]
    while (text := msgspec.json.encode(kept)) and len(text) > MOST_BYTES:
        kept = kept[1:]
    return text.decode()
