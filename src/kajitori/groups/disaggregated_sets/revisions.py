"""Which templates belong together: a revision is the templates of all roles, and names what is made of them.

Whether a LeaderWorkerSet is of the wanted revision is asked by its label first. Where no label fits, templates are
compared by what they mean, without what a controller adds: so another way to hash, of an upstream controller that
had the set before, does not roll it.

Source of name and input of the hash: kubernetes-sigs/lws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from kajitori.api.disaggregatedset import v1
from kajitori.base.whole_numbers import whole_number
from kajitori.groups.disaggregated_sets.observed import GENERATION_ANNOTATION, Body, Child, RoleView

_TEMPLATES = ("leaderTemplate", "workerTemplate")
_AFFINITIES = ("podAffinity", "podAntiAffinity")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def template_hash(roles: Iterable[RoleView]) -> str:
    """Eight hexadecimal digits for the names and templates of all roles."""
    data = [{"name": role.name, "template": bare(plain_template(role.template))} for role in roles]
    return hashlib.sha256(msgspec.json.encode(data, order="deterministic")).hexdigest()[: v1.REVISION_LENGTH]


def current_revision(roles: Sequence[RoleView], children: Iterable[Child]) -> str:
    """The revision that all roles shall have."""
    wanted = template_hash(roles)
    by_revision: dict[str, dict[str, Child]] = {}
    for child in children:
        by_revision.setdefault(child.revision, {})[child.role] = child
    if wanted in by_revision:
        return wanted
    for revision, made in by_revision.items():
        if made.keys() == {role.name for role in roles} and all(
            _same(role.template, made[role.name]) for role in roles
        ):
            return revision
    return wanted


def newest_first(children: Iterable[Child]) -> list[str]:
    """The revisions in the order in which they drain."""
    age: dict[str, tuple[str, int]] = {}
    for child in children:
        generation = whole_number(child.annotation(GENERATION_ANNOTATION))
        made = (
            child.lws.metadata.creation_timestamp or "",
            generation or 0,
        )
        age[child.revision] = max(age.get(child.revision, ("", 0)), made)
    return sorted(age, key=lambda revision: (age[revision], revision), reverse=True)


def bare(value: Any) -> Any:
    """Without fields that are there with nothing in them, as zero values that a client writes out."""
    if isinstance(value, dict):
        parts = {key: bare(part) for key, part in value.items()}
        return {key: part for key, part in parts.items() if part not in (None, {}, [])}
    if isinstance(value, list):
        return [bare(part) for part in value]
    return value


def _same(template: Body, child: Child) -> bool:
    made: Body = msgspec.to_builtins(child.lws.spec.leader_worker_template)
    # Whose defaults filled in what does not matter.
    wanted = {"size": 1, "restartPolicy": "RecreateGroupOnPodRestart"} | template
    return bare(plain_template(wanted)) == bare(
        plain_template({"size": 1, "restartPolicy": "RecreateGroupOnPodRestart"} | made)
    )


def plain_template(template: Body) -> Body:
    """Without our labels and affinities."""
    plain = dict(template)
    if plain.get("restartPolicy") == "Default":
        plain["restartPolicy"] = "None"
    for name in _TEMPLATES:
        if plain.get(name):
            plain[name] = _plain_pod(plain[name])
    return plain


def _plain_pod(pod: Body) -> Body:
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    labels = metadata.get("labels") or {}
    if v1.NAME_LABEL in labels:
        ours = (v1.APP_LABEL,)
        labels = {
            key: value for key, value in labels.items() if not key.startswith(v1.PREFIX) and key not in ours
        }
    affinity = spec.get("affinity") or {}
    if affinity:
        affinity = affinity | {kind: _plain_terms(affinity[kind]) for kind in _AFFINITIES if kind in affinity}
    return {
        **pod,
        "metadata": {**metadata, "labels": labels, "creationTimestamp": None},
        "spec": {**spec, "affinity": affinity},
    }


def _plain_terms(affinity: Body) -> Body:
    terms = affinity.get(_REQUIRED) or []
    return {**affinity, _REQUIRED: [term for term in terms if not _is_ours(term)]}


def _is_ours(term: Body) -> bool:
    expressions = (term.get("labelSelector") or {}).get("matchExpressions") or []
    return any(expression["key"].startswith(v1.PREFIX) for expression in expressions)
