"""How often a group may fail: what is forgotten, how long it waits, and when it is left as it is for inspection.

Restarts *in a row* are counted: the count travels from incarnation to incarnation as an annotation of the pods, and
a group that was ready ten minutes ago starts from nothing. A failure that would be one restart too many marks the
group as failed instead: nothing of it is touched, so that what is failing keeps its logs, until its user lifts that.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kajitori.base.clock import parse_rfc3339
from kajitori.base.reason import Reason
from kajitori.base.whole_numbers import whole_number
from kajitori.groups.leader_worker_sets.identity import group_word
from kajitori.groups.leader_worker_sets.observed import RESTARTS_ANNOTATION, Pod
from kajitori.groups.leader_worker_sets.options import MAX_RESTARTS
from kajitori.groups.leader_worker_sets.restart import Blame, Restart

FAILED_ANNOTATION = "groups.kajitori.dev/failed"
# The name that KEP-820 of kubernetes-sigs/lws proposes for the same count.
PROPOSED_COUNT_ANNOTATION = "leaderworkerset.sigs.k8s.io/group-restart-count"
FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 300.0
FORGET_AFTER_SECONDS = 600.0
_NAMED_GROUPS = 5


class Life(msgspec.Struct, frozen=True):
    """What was seen of an incarnation that follows a restart. ready_since: None if it never was ready."""

    incarnation: str
    ready_since: float | None = None


def watch_life(life: Life | None, leader: Pod, ready: bool, now: float) -> Life | None:
    """What is known after one more look. None for a group that has no restarts that could be forgotten."""
    if not restarts_of(leader):
        return None
    if life is None or life.incarnation != leader.incarnation:
        life = Life(leader.incarnation)
    if ready and life.ready_since is None:
        return Life(leader.incarnation, now)
    return life


def restarts_of(pod: Pod) -> int:
    """Restarts in a row that led to this pod."""
    text = pod.metadata.annotations.get(RESTARTS_ANNOTATION, "")
    return whole_number(text) or 0


def count_annotations(count: int) -> dict[str, str]:
    """How the pods of a group carry the count."""
    return {RESTARTS_ANNOTATION: str(count), PROPOSED_COUNT_ANNOTATION: str(count)}


def begin_restart(blame: Blame, member: Pod, life: Life | None, now: float) -> Restart:
    """The restart that this blame begins; it waits the longer, the more there were in a row.

    member: a pod of the incarnation that ends.
    """
    before = restarts_of(member)
    if before and _lived_seconds(life, member, now) >= FORGET_AFTER_SECONDS:
        before = 0
    count = before + 1
    return Restart(
        incarnation=member.incarnation,
        revision=member.revision,
        blame=blame,
        count=count,
        not_before=now + delay_seconds(count),
    )


def _lived_seconds(life: Life | None, member: Pod, now: float) -> float:
    """How long the group has been of use. Of one that was never seen before its end, how long its pods were there."""
    if life is not None and life.incarnation == member.incarnation:
        return now - life.ready_since if life.ready_since is not None else 0.0
    created = member.metadata.creation_timestamp
    return now - parse_rfc3339(created) if created else 0.0


def delay_seconds(count: int) -> float:
    """How long the restart with this place in its row waits: 0, 1, 2, 4 ... 300 s."""
    if count <= 1:
        return 0.0
    return min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(count - 2, 30))


def exhausted(restart: Restart, max_restarts: int | None) -> bool:
    """Whether this would be one restart too many.

    Only for what failed of itself: a pod that was taken away says nothing about the group, and has left nothing that
    could be looked at.
    """
    if max_restarts is None or restart.blame is None:
        return False
    return restart.blame.how in ("container restarted", "failed") and restart.count > max_restarts


def failure_annotations(restart: Restart) -> dict[str, str]:
    """What the leader of a failed group gets beside the sentence: the restarts that it had."""
    return count_annotations(restart.count - 1)


def failure_of(leader: Pod) -> str:
    """Why the leader's group is marked as failed; empty if it is not."""
    return leader.metadata.annotations.get(FAILED_ANNOTATION, "")


def is_lifted(leader: Pod, max_restarts: int | None) -> bool:
    """Whether the budget was raised beyond what a failed group has used."""
    return max_restarts is None or max_restarts > restarts_of(leader)


def lifted(blame: Blame, member: Pod, *, counted: bool) -> Restart:
    """The restart of a failed group whose user wants it back: at once. counted: as one more in the row."""
    count = restarts_of(member) + 1 if counted else 0
    return Restart(incarnation=member.incarnation, revision=member.revision, blame=blame, count=count)


def groups_failed(failures: Mapping[int, str]) -> Reason | None:
    """The condition that names the failed groups. failures: their sentences by index."""
    if not failures:
        return None
    indexes = sorted(failures)
    told = "; ".join(f"group {group_word(index)}: {failures[index]}" for index in indexes[:_NAMED_GROUPS])
    more = len(indexes) - _NAMED_GROUPS
    return Reason(
        "RestartsExhausted",
        f"failed and left for inspection: {told}" + (f"; and {more} more groups" if more > 0 else ""),
        f"to begin such a group anew, delete its leader pod, raise the annotation {MAX_RESTARTS}, or change the"
        " template",
    )
