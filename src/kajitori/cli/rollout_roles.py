"""Rollouts of DisaggregatedSets: the steps before they happen, the revisions that are there, and the way back to one.

A set of roles keeps no record of earlier revisions: what there is of them are the LeaderWorkerSets that still serve while
a rollout is under way. So there is a way back from the middle of a rollout, and none after it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.disaggregatedset.v1 import NAME_LABEL
from kajitori.api.leaderworkerset.v1 import LeaderWorkerSet
from kajitori.api.resource import DISAGGREGATED_SET_ROLE_SCALERS, LEADER_WORKER_SETS
from kajitori.base.clock import parse_rfc3339
from kajitori.base.duration import format_age
from kajitori.base.errors import KajitoriError, UsageError
from kajitori.cli.output import print_rows
from kajitori.cli.rollout_plan import print_steps, print_verdict
from kajitori.groups.disaggregated_sets.dry_run import DryRun, RoleStep, dry_run
from kajitori.groups.disaggregated_sets.observed import (
    Child,
    Scaler,
    SetView,
    World,
    child_of,
)
from kajitori.groups.disaggregated_sets.revisions import (
    bare,
    current_revision,
    newest_first,
    plain_template,
)
from kajitori.groups.leader_worker_sets.options import PAUSED, options_of
from kajitori.groups.ownership import controlled_by
from kajitori.model.changes import changes, summary

if TYPE_CHECKING:
    from kajitori.cli.rollout import Target

_OF_ROLES = ("max_surge", "max_unavailable", "partition", "replicas")
_GONE = "revisions of finished rollouts are not kept; apply the earlier manifest"


def _world(target: Target, now: dict[str, Any]) -> World:
    view = msgspec.convert(now, SetView)
    selector = f"{NAME_LABEL}={view.name}"
    sets = [
        msgspec.convert(item, LeaderWorkerSet)
        for item in target.cluster.objects(LEADER_WORKER_SETS, labelSelector=selector)
    ]
    scalers = [
        msgspec.convert(item, Scaler)
        for item in target.cluster.objects(DISAGGREGATED_SET_ROLE_SCALERS, labelSelector=selector)
    ]
    children = [child_of(lws) for lws in sets if controlled_by(lws.metadata, view.uid)]
    return World(
        set=view,
        children=[child for child in children if child is not None and not child.dying],
        scalers={scaler.metadata.name or "": scaler for scaler in scalers},
        now=time.time(),
        paused=options_of(view.metadata.annotations).paused,
    )


def print_role_plan(target: Target, options: argparse.Namespace, wanted: dict[str, Any]) -> int:
    """wanted: the set as it shall be."""
    for option in _OF_ROLES:
        if getattr(options, option) is not None:
            raise UsageError(
                f"--{option.replace('_', '-')} is for LeaderWorkerSets",
                hint="each role of a DisaggregatedSet has its own: change it in the manifest",
            )
    exists = "spec" in target.object
    found = dry_run(_world(target, target.object if exists else wanted), msgspec.convert(wanted, SetView))
    _print_verdict(target, found, wanted["spec"].get("slices", 1), exists=exists)
    _print_steps(found.steps, list(found.targets), every=options.all)
    return 0


def _print_verdict(target: Target, found: DryRun, slices: int, *, exists: bool) -> None:
    if not exists:
        print(f"{target.word} does not exist yet.")
    else:
        print_verdict(target.word, found, found.revision)
    if slices > 1 and found.steps:
        print(f"The steps are those of slice 0; each of the {slices} slices goes its own way.")


def _print_steps(steps: Sequence[RoleStep], roles: list[str], *, every: bool) -> None:
    if not steps:
        return
    names = [*roles, *sorted({name for step in steps for name in step.old} - {*roles})]
    rows = [
        [str(number), step.done, *(f"{step.new.get(name, 0)} + {step.old.get(name, 0)}" for name in names)]
        for number, step in enumerate(steps, 1)
    ]
    print()
    print_steps(["STEP", "DONE", *(name.upper() for name in names)], rows, every=every)
    print(
        "\nGroups of the new revision + of older ones after each step; the next comes when the new ones are ready."
    )


def print_role_history(target: Target) -> int:
    """The revisions of which there are groups."""
    world = _world(target, target.object)
    now = current_revision(world.set.spec.roles, world.children)
    rows: list[list[str]] = []
    before: dict[str, Any] = {}
    for revision in reversed(newest_first(world.children)):
        made = [child for child in world.children if child.revision == revision]
        templates = _templates(made)
        text = summary(changes(before, templates)) if before else "(the oldest of which there are groups)"
        groups = ", ".join(f"{child.role} {child.ready}/{child.replicas}" for child in made)
        rows.append([revision, _age(made), "now" if revision == now else "", groups, text])
        before = templates
    if not rows:
        print(f"No group of {target.word} is there yet.")
        return 0
    print_rows(["REVISION", "AGE", "", "READY", "CHANGED"], rows)
    return 0


def _age(made: Sequence[Child]) -> str:
    times = [child.lws.metadata.creation_timestamp for child in made if child.lws.metadata.creation_timestamp]
    return format_age(max(0.0, time.time() - parse_rfc3339(min(times)))) if times else ""


def _templates(made: Sequence[Child]) -> dict[str, Any]:
    """As their author wrote them, by role."""
    return {
        child.role: _plain(msgspec.to_builtins(child.lws.spec.leader_worker_template))
        for child in sorted(made, key=lambda child: child.role)
    }


def _plain(template: dict[str, Any]) -> dict[str, Any]:
    """With the defaults that the definition of LeaderWorkerSets fills in, and without what the set adds."""
    return bare(plain_template({"size": 1, "restartPolicy": "RecreateGroupOnPodRestart"} | template))


def undo_roles(target: Target, *, number: int, resume: bool) -> int:
    """From the middle of a rollout back to the newest of the older revisions."""
    if number:
        raise UsageError(
            "revisions of a DisaggregatedSet have no numbers", hint=f"kaji rollout undo {target.word}"
        )
    world = _world(target, target.object)
    if world.paused and not resume:
        raise KajitoriError(
            f"{target.word} is paused, so going back would wait as well",
            hint=f"kaji rollout undo {target.word} --resume",
        )
    now = current_revision(world.set.spec.roles, world.children)
    older = [revision for revision in newest_first(world.children) if revision != now]
    if not older:
        raise KajitoriError(f"{target.word} has no earlier revision to go back to", hint=_GONE)
    templates = _templates([child for child in world.children if child.revision == older[0]])
    if templates.keys() != set(world.set.role_names):
        raise KajitoriError(
            f"revision {older[0]} of {target.word} has other roles than it has now", hint=_GONE
        )
    patch: list[dict[str, Any]] = [
        {
            "op": "test",
            "path": "/metadata/resourceVersion",
            "value": target.object["metadata"]["resourceVersion"],
        }
    ]
    patch += [
        {"op": "replace", "path": f"/spec/roles/{index}/spec/leaderWorkerTemplate", "value": templates[name]}
        for index, name in enumerate(world.set.role_names)
    ]
    if resume and world.paused:
        patch.append({"op": "remove", "path": f"/metadata/annotations/{PAUSED.replace('/', '~1')}"})
    target.patch(patch, "application/json-patch+json")
    before = {role.name: _plain(role.template) for role in world.set.spec.roles}
    print(f"{target.word} goes back to revision {older[0]}: {summary(changes(before, templates))}")
    print(f"`kaji rollout status {target.word}` follows it.")
    return 0
