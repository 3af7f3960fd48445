"""How a new revision of a group reaches its pods: watch it, pause it, take it back, look at it beforehand.

  kaji rollout status lws/deepseek                 wait until it is done; exit code 1 if it cannot be
  kaji rollout pause lws/deepseek                  groups that are not due yet keep what they have
  kaji rollout resume lws/deepseek
  kaji rollout history lws/deepseek                revisions and what changed
  kaji rollout undo lws/deepseek [--to-revision 3]
  kaji rollout plan lws/deepseek -f deepseek.yaml --max-surge 2    every step, before anything is changed

For LeaderWorkerSets and DisaggregatedSets; `status` for JobSets as well.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any

from kajitori.api.resource import Resource
from kajitori.base.errors import KajitoriError, NotFound, UsageError
from kajitori.cli.connection import Cluster, cluster_arguments, open_cluster

FIELD_MANAGER = "kaji-rollout"
_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


@dataclass(frozen=True)
class Target:
    """The object that a verb is about, as it is now. word: as it was typed, such as `lws/deepseek`."""

    cluster: Cluster
    resource: Resource
    object: dict[str, Any]
    word: str

    @property
    def name(self) -> str:
        return self.object["metadata"]["name"]

    @property
    def path(self) -> str:
        return self.resource.path(self.cluster.namespace, self.name)

    def patch(self, patch: Any, content_type: str = "application/merge-patch+json") -> dict[str, Any]:
        """Change the object; returns it as it is then."""
        body, _ = self.cluster.client.request(
            "PATCH",
            self.path,
            query={"fieldManager": FIELD_MANAGER},
            body=json.dumps(patch).encode(),
            content_type=content_type,
        )
        return json.loads(body)


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    status = _verb(verbs, "status", "wait until the newest revision is everywhere and ready")
    status.add_argument(
        "-w",
        "--watch",
        default="true",
        choices=("true", "false"),
        help="false: say how it stands and do not wait (exit code 1 while it is not done)",
    )
    status.add_argument("--timeout", default="0s", help="give up after, such as 90s or 10m (0s: never)")
    _verb(verbs, "pause", "a rollout stays where it is; scaling and restarts go on")
    _verb(verbs, "resume", "let a paused rollout go on")
    undo = _verb(verbs, "undo", "go back to an earlier revision of the templates")
    undo.add_argument(
        "--to-revision", type=int, default=0, metavar="NUMBER", help="which one (the one before)"
    )
    undo.add_argument("--resume", action="store_true", help="of a paused set: resume it at the same time")
    history = _verb(verbs, "history", "revisions that are known and what changed with each")
    history.add_argument(
        "--revision", type=int, default=0, metavar="NUMBER", help="print the templates of this one"
    )
    plan = _verb(verbs, "plan", "the steps of a rollout with the groups at each; changes nothing")
    plan.add_argument(
        "-f", "--filename", help="the manifest as it shall be (without one: what is left of a rollout)"
    )
    plan.add_argument("--max-surge", metavar="N|N%", help="as if the set allowed so many groups more")
    plan.add_argument("--max-unavailable", metavar="N|N%", help="as if so many groups might be unready")
    plan.add_argument("--partition", type=int, metavar="N", help="as if groups below N kept their revision")
    plan.add_argument("--replicas", type=int, metavar="N", help="as if so many groups were wanted")
    plan.add_argument("--all", action="store_true", help="every step, however many there are")


def _verb(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.add_argument("what", help="KIND/NAME, or KIND")
    parser.add_argument("name", nargs="?", help="the object's name")
    cluster_arguments(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    word, _, name = str(options.what).partition("/")
    name = name or options.name
    if not name:
        raise UsageError(
            f"{word!r} names no object", hint=f"kaji rollout {options.verb} KIND/NAME, such as lws/{word}"
        )
    cluster = open_cluster(options)
    resource = cluster.find(word).resource
    if resource.kind in _WORKLOADS:
        raise UsageError(
            f"rollouts of {resource.kind}s are not told here",
            hint=f"kubectl rollout {options.verb} {word}/{name}",
        )
    if resource.kind not in _KINDS[options.verb]:
        raise UsageError(
            f"`kaji rollout {options.verb}` is for {' and '.join(f'{kind}s' for kind in _KINDS[options.verb])},"
            f" not for {resource.kind}s"
        )
    try:
        obj = cluster.get(resource, name)
    except NotFound as error:
        if options.verb == "plan" and options.filename:
            obj = {"metadata": {"name": name, "namespace": cluster.namespace}}
        else:
            error.hint = f"`kaji get {resource.plural} -n {cluster.namespace}` lists those that there are"
            raise
    return VERBS[options.verb](Target(cluster, resource, obj, f"{word}/{name}"), options)


def _status(target: Target, options: argparse.Namespace) -> int:
    from kajitori.base.duration import parse_duration_seconds
    from kajitori.cli.rollout_status import watch_rollout

    try:
        timeout = parse_duration_seconds(options.timeout)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None
    return watch_rollout(target, watch=options.watch == "true", timeout_seconds=timeout)


def _pause(target: Target, options: argparse.Namespace) -> int:
    from kajitori.groups.leader_worker_sets.options import PAUSED

    if _annotations(target).get(PAUSED) == "true":
        print(f"{target.word} is paused already.")
        return 0
    _refuse_upstream(target)
    target.patch({"metadata": {"annotations": {PAUSED: "true"}}})
    print(f"{target.word} is paused: groups that are not due for a newer revision keep theirs.")
    print(f"`kaji rollout resume {target.word}` lets it go on.")
    return 0


def _resume(target: Target, options: argparse.Namespace) -> int:
    from kajitori.groups.leader_worker_sets.options import PAUSED

    if PAUSED not in _annotations(target):
        print(f"{target.word} is not paused.")
        return 0
    target.patch({"metadata": {"annotations": {PAUSED: None}}})
    print(f"{target.word} goes on; `kaji rollout status {target.word}` follows it.")
    return 0


def _annotations(target: Target) -> dict[str, str]:
    return target.object["metadata"].get("annotations") or {}


def _refuse_upstream(target: Target) -> None:
    """A set that upstream's controller runs would not be held by our annotation: it says so."""
    from kajitori.api.resource import STATEFUL_SETS
    from kajitori.groups.leader_worker_sets.options import options_of

    if target.resource.kind != "LeaderWorkerSet" or options_of(_annotations(target)).compatibility != "Pods":
        return
    try:
        leaders = target.cluster.get(STATEFUL_SETS, target.name)
    except KajitoriError:
        return
    owners = leaders["metadata"].get("ownerReferences") or ()
    if any(owner.get("uid") == target.object["metadata"]["uid"] for owner in owners):
        raise KajitoriError(
            f"{target.word} is run by the controller of kubernetes-sigs/lws, which knows no pause",
            hint="set spec.rolloutStrategy.rollingUpdateConfiguration.partition to hold groups below it",
        )


def _undo(target: Target, options: argparse.Namespace) -> int:
    if target.resource.kind == "DisaggregatedSet":
        from kajitori.cli.rollout_roles import undo_roles

        return undo_roles(target, number=options.to_revision, resume=options.resume)
    from kajitori.cli.rollout_history import undo

    return undo(target, number=options.to_revision, resume=options.resume)


def _history(target: Target, options: argparse.Namespace) -> int:
    if target.resource.kind == "DisaggregatedSet":
        from kajitori.cli.rollout_roles import print_role_history

        return print_role_history(target)
    from kajitori.cli.rollout_history import print_history, print_revision

    if options.revision:
        return print_revision(target, options.revision)
    return print_history(target)


def _plan(target: Target, options: argparse.Namespace) -> int:
    from kajitori.cli.rollout_plan import print_plan

    return print_plan(target, options)


VERBS = {
    "status": _status,
    "pause": _pause,
    "resume": _resume,
    "undo": _undo,
    "history": _history,
    "plan": _plan,
}
_SETS = ("LeaderWorkerSet", "DisaggregatedSet")
_KINDS: dict[str, tuple[str, ...]] = {
    "status": (*_SETS, "JobSet"),
    "pause": _SETS,
    "resume": _SETS,
    "undo": _SETS,
    "history": _SETS,
    "plan": _SETS,
}
