"""Earlier revisions of a LeaderWorkerSet: what each changed, and the way back to one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.api.resource import CONTROLLER_REVISIONS
from kajitori.base.clock import parse_rfc3339
from kajitori.base.duration import format_age
from kajitori.base.errors import KajitoriError
from kajitori.cli.output import print_objects, print_rows
from kajitori.groups.leader_worker_sets.observed import Revision
from kajitori.groups.leader_worker_sets.options import PAUSED, options_of
from kajitori.groups.leader_worker_sets.revision_history import KEPT_REVISIONS, Past, history
from kajitori.groups.leader_worker_sets.revisions import revision_data, same_meaning
from kajitori.model.changes import changes, summary

if TYPE_CHECKING:
    from kajitori.cli.rollout import Target

_NOTHING_EARLIER = f"of finished updates the last {KEPT_REVISIONS} revisions are kept"


def known_revisions(target: Target) -> list[Past]:
    """The oldest first; those of the set itself, not of an earlier one of its name."""
    items = target.cluster.objects(CONTROLLER_REVISIONS, labelSelector=f"{v1.SET_NAME_LABEL}={target.name}")
    revisions = [msgspec.convert(item, Revision) for item in items]
    uid = target.object["metadata"]["uid"]
    return [
        _as_written(past) for past in history(one for one in revisions if one.metadata.controlled_by(uid))
    ]


def _as_written(past: Past) -> Past:
    """Upstream's revisions are patches, and say so in a field of their own."""
    spec = {key: _without_directive(value) for key, value in (past.data.get("spec") or {}).items()}
    return msgspec.structs.replace(past, data={"spec": _without_directive(spec)})


def _without_directive(value: Any) -> Any:
    return {key: part for key, part in value.items() if key != "$patch"} if isinstance(value, dict) else value


def _data_now(target: Target) -> dict[str, Any]:
    return revision_data(msgspec.convert(target.object, v1.LeaderWorkerSet).spec)


def print_history(target: Target) -> int:
    known = known_revisions(target)
    if not known:
        print(f"No revision of {target.word} is recorded yet.")
        return 0
    now = _data_now(target)
    rows: list[list[str]] = []
    before: Past | None = None
    for past in known:
        current = same_meaning(past.data, now)
        age = format_age(max(0.0, time.time() - parse_rfc3339(past.created))) if past.created else ""
        text = summary(changes(before.data, past.data)) if before else "(the oldest that is known)"
        rows.append([str(past.number), past.hash, age, "now" if current else "", text])
        before = past
    print_rows(["REVISION", "HASH", "AGE", "", "CHANGED"], rows)
    return 0


def print_revision(target: Target, number: int) -> int:
    """The templates of one revision, as YAML."""
    print_objects([_revision(target, number).data], "yaml")
    return 0


def _revision(target: Target, number: int) -> Past:
    known = known_revisions(target)
    found = next((past for past in known if past.number == number), None)
    if found is None:
        numbers = ", ".join(str(past.number) for past in known) or "none at all"
        raise KajitoriError(
            f"{target.word} has no revision {number}; known are {numbers}",
            hint=f"kaji rollout history {target.word}",
        )
    return found


def undo(target: Target, *, number: int, resume: bool) -> int:
    """Put the templates of an earlier revision back, as an update like any other. number: 0 for the one before."""
    annotations: dict[str, str] = target.object["metadata"].get("annotations") or {}
    if options_of(annotations).paused and not resume:
        raise KajitoriError(
            f"{target.word} is paused, so going back would wait as well",
            hint=f"kaji rollout undo {target.word} --resume",
        )
    now = _data_now(target)
    if number:
        wanted = _revision(target, number)
        if same_meaning(wanted.data, now):
            raise KajitoriError(f"{target.word} is of revision {number} already")
    else:
        wanted = _before(target, now)
    spec: dict[str, Any] = wanted.data["spec"]
    patch = [
        {
            "op": "test",
            "path": "/metadata/resourceVersion",
            "value": target.object["metadata"]["resourceVersion"],
        },
        {"op": "replace", "path": "/spec/leaderWorkerTemplate", "value": spec["leaderWorkerTemplate"]},
        {
            "op": "add",
            "path": "/spec/networkConfig",
            "value": spec.get("networkConfig") or {"subdomainPolicy": "Shared"},
        },
    ]
    if resume and PAUSED in annotations:
        patch.append({"op": "remove", "path": f"/metadata/annotations/{PAUSED.replace('/', '~1')}"})
    target.patch(patch, "application/json-patch+json")
    print(f"{target.word} goes back to revision {wanted.number}: {summary(changes(now, wanted.data))}")
    print(f"`kaji rollout status {target.word}` follows it.")
    return 0


def _before(target: Target, now: dict[str, Any]) -> Past:
    known = known_revisions(target)
    current = max((past.number for past in known if same_meaning(past.data, now)), default=None)
    earlier = [past for past in known if current is None or past.number < current]
    if not earlier:
        raise KajitoriError(f"{target.word} has no earlier revision to go back to", hint=_NOTHING_EARLIER)
    return earlier[-1]
