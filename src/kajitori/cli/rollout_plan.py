"""A rollout step by step, before it happens: the same decisions as the controller's, with the pods as they are now."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.api.resource import CONTROLLER_REVISIONS, PODS
from kajitori.base.errors import Conflict, UsageError
from kajitori.cli.manifests import Manifest, read_manifests
from kajitori.cli.output import paint, print_rows
from kajitori.groups.leader_worker_sets.dry_run import DryRun, dry_run
from kajitori.groups.leader_worker_sets.observed import Pod, Revision, World
from kajitori.groups.leader_worker_sets.rollout import Step

if TYPE_CHECKING:
    from kajitori.cli.rollout import Target

_MOST_STEPS = 40
_SHOWN_AT_THE_ENDS = 15
_NONE = ("0", "0%")
_AMOUNT = re.compile(r"[0-9]+%?")


def print_plan(target: Target, options: argparse.Namespace) -> int:
    exists = "spec" in target.object
    manifest = _manifest_of(target, options.filename) if options.filename else None
    wanted = _as_the_server_would_have_it(target, manifest) if manifest else target.object
    if target.resource.kind == "DisaggregatedSet":
        from kajitori.cli.rollout_roles import print_role_plan

        return print_role_plan(target, options, wanted)
    wanted = _with_limits(wanted, options)
    now = target.object if exists else wanted
    rolling = wanted["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]
    if str(rolling.get("maxSurge", 0)) in _NONE and str(rolling.get("maxUnavailable", 1)) in _NONE:
        raise UsageError("with neither a group unavailable nor one in excess no group could ever be replaced")
    found = dry_run(_world(target, now), msgspec.convert(wanted, v1.LeaderWorkerSet))
    _print_verdict(target, found, exists=exists)
    _print_steps(found, every=options.all)
    if found.in_the_way:
        print(
            paint(
                f"It would not get further: group {_numbers(found.in_the_way)} is not ready, which uses up what may be"
                " unavailable. It goes on when that is ready, or when more may be unavailable or in excess.",
                "33",
            )
        )
    return 0


def _manifest_of(target: Target, path: str) -> Manifest:
    found = [
        manifest
        for manifest in read_manifests([path])
        if manifest.object.get("kind") == target.resource.kind
        and (manifest.object.get("metadata") or {}).get("name") == target.name
    ]
    if len(found) != 1:
        many = "several objects" if found else "no object"
        raise UsageError(f"{path} has {many} {target.resource.kind} {target.name}")
    return found[0]


def _as_the_server_would_have_it(target: Target, manifest: Manifest) -> dict[str, Any]:
    """What an apply would make of it, defaults and checks included; nothing is written."""
    query = {"fieldManager": "kaji", "fieldValidation": "Warn", "dryRun": "All"}
    try:
        applied, _ = target.cluster.client.apply(target.path, manifest.object, query)
    except Conflict:
        # Others have written these fields; what would come of it is the same.
        applied, _ = target.cluster.client.apply(target.path, manifest.object, {**query, "force": "true"})
    return applied


def _with_limits(lws: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    lws = json.loads(json.dumps(lws))
    rolling: dict[str, Any] = (
        lws["spec"].setdefault("rolloutStrategy", {}).setdefault("rollingUpdateConfiguration", {})
    )
    for option, field in (("max_surge", "maxSurge"), ("max_unavailable", "maxUnavailable")):
        text = getattr(options, option)
        if text is None:
            continue
        if not _AMOUNT.fullmatch(text):
            raise UsageError(
                f"--{option.replace('_', '-')} {text}: a number of groups, or a percentage such as 25%"
            )
        rolling[field] = text if text.endswith("%") else int(text)
    for option, where, field in (("partition", rolling, "partition"), ("replicas", lws["spec"], "replicas")):
        number = getattr(options, option)
        if number is not None:
            if number < 0:
                raise UsageError(f"--{option} {number} is less than 0")
            where[field] = number
    return lws


def _world(target: Target, now: dict[str, Any]) -> World:
    selector = f"{v1.SET_NAME_LABEL}={target.name}"
    pods = target.cluster.objects(PODS, labelSelector=selector)
    revisions = target.cluster.objects(CONTROLLER_REVISIONS, labelSelector=selector)
    return World(
        set=msgspec.convert(now, v1.LeaderWorkerSet),
        pods=[msgspec.convert(pod, Pod) for pod in pods],
        revisions=[msgspec.convert(revision, Revision) for revision in revisions],
    )


class Foreseen(Protocol):
    """What a dry run of either kind found."""

    @property
    def changes(self) -> Sequence[object]: ...
    @property
    def under_way(self) -> bool: ...
    @property
    def paused(self) -> bool: ...
    @property
    def steps(self) -> Sequence[object]: ...


def print_verdict(word: str, found: Foreseen, revision: str = "") -> None:
    """Whether an object that exists would roll, and why. revision: to which one, where that has a name."""
    goal = f" to revision {revision}" if revision else ""
    if found.changes:
        print(f"{word} would roll{goal}, since its templates change:")
        for change in found.changes:
            print(f"  {change}")
    elif found.under_way:
        print(f"{word} is rolling{goal}: what is left of it.")
    elif found.steps:
        print(f"{word} would not roll: no template changes. It would be scaled.")
    else:
        print(f"{word} would not roll: no template changes, and the groups are as many as are wanted.")
    if found.paused and (found.changes or found.under_way):
        print(paint(f"It is paused: nothing of this happens before `kaji rollout resume {word}`.", "33"))


def _print_verdict(target: Target, found: DryRun, *, exists: bool) -> None:
    limits = found.limits
    if not exists:
        print(f"{target.word} does not exist yet: it would be made with {limits.replicas} groups at once.")
    else:
        print_verdict(target.word, found)
    if exists and found.steps:
        below = f", groups below {limits.partition} keep their revision" if limits.partition else ""
        print(
            f"Of {limits.replicas} groups {limits.max_unavailable} may be unready and {limits.max_surge} there"
            f" in excess{below}."
        )


def _print_steps(found: DryRun, *, every: bool) -> None:
    steps, replicas = found.steps, found.limits.replicas
    if not steps:
        return
    rows = [
        [
            str(number),
            _doing(step, by_hash=found.by_hash),
            str(step.groups),
            str(step.ready),
            str(step.updated),
            str(step.unavailable),
            str(step.surge),
        ]
        for number, step in enumerate(steps, 1)
    ]
    print()
    print_steps(["STEP", "DONE", "GROUPS", "READY", "UPDATED", "UNAVAILABLE", "SURGE"], rows, every=every)
    print(
        f"\nThe counts are those right after each step; the next one comes when the new groups are ready."
        f" At least {min(step.ready for step in steps)} of {replicas} groups are ready all the time."
    )


def print_steps(header: list[str], rows: list[list[str]], *, every: bool) -> None:
    """A table with one row a step; of very many only the first and the last, unless every one is asked for."""
    if len(rows) > _MOST_STEPS and not every:
        left_out = len(rows) - 2 * _SHOWN_AT_THE_ENDS
        told = ["…", f"{left_out} more steps (--all prints them)", *[""] * (len(header) - 2)]
        rows = [*rows[:_SHOWN_AT_THE_ENDS], told, *rows[-_SHOWN_AT_THE_ENDS:]]
    print_rows(header, rows)


def _doing(step: Step, *, by_hash: bool) -> str:
    parts = [
        f"{word} {len(indexes) if by_hash else _numbers(indexes)}"
        for word, indexes in (("make", step.created), ("replace", step.replaced), ("remove", step.removed))
        if indexes
    ]
    return ", ".join(parts)


def _numbers(indexes: Sequence[int]) -> str:
    ordered = sorted(indexes)
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"{ordered[0]}-{ordered[-1]}"
    return ",".join(map(str, ordered))
