"""How a Deployment moves its ReplicaSets: which is the new one, how far each may go now, what is old history.

Pure: from the Deployment and its ReplicaSets to the next sizes. The arithmetic is that of the Deployment
documentation: never more than `replicas + maxSurge` pods wanted, never fewer than `replicas - maxUnavailable`
available by our own doing; percentages round up for surge and down for unavailability.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from kajitori.kube.objects import Object
from kajitori.laptop.controllers.amounts import resolve
from kajitori.laptop.controllers.views import DeploymentView, ReplicaSetView

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.to",
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
    }
)
# Without vowels and look-alikes, as the names that the API server generates.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class Limits(msgspec.Struct, frozen=True):
    """Resolved numbers of the rolling update."""

    max_surge: int
    max_unavailable: int


def limits(deployment: DeploymentView) -> Limits:
    """What the strategy allows, in pods."""
    replicas = deployment.spec.replicas
    rolling = deployment.spec.strategy.rolling_update
    if deployment.spec.strategy.type != "RollingUpdate" or rolling is None:
        return Limits(0, 0)
    surge = resolve(rolling.max_surge, replicas, round_up=True)
    unavailable = resolve(rolling.max_unavailable, replicas, round_up=False)
    if surge == 0 and unavailable == 0:
        # Both may round to nothing; then nothing would ever move.
        unavailable = 1
    return Limits(surge, min(unavailable, replicas))


def template_hash(template: Object, collision_count: int) -> str:
    """A short stable name for a template; another collision count gives another one."""
    canonical = msgspec.json.encode([template, collision_count], order="deterministic")
    number = int.from_bytes(hashlib.sha256(canonical).digest()[:8], "big")
    letters: list[str] = []
    for _ in range(10):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)


def same_template(one: Object, other: Object) -> bool:
    """Whether two pod templates mean the same; the label that the controller adds does not count."""
    return _without_hash(one) == _without_hash(other)


def _without_hash(template: Object) -> Object:
    metadata: Object = dict(template.get("metadata") or {})
    metadata.pop("creationTimestamp", None)
    labels = {key: value for key, value in (metadata.pop("labels", None) or {}).items() if key != HASH_LABEL}
    return {**template, "metadata": {**metadata, "labels": labels}}


def by_age(sets: Sequence[ReplicaSetView]) -> list[ReplicaSetView]:
    """Oldest first."""
    return sorted(sets, key=lambda one: (one.metadata.creation_timestamp, one.metadata.name))


def find_new_set(deployment: DeploymentView, sets: Sequence[ReplicaSetView]) -> ReplicaSetView | None:
    """The ReplicaSet with the Deployment's template; of several the oldest, so that the choice is stable."""
    for candidate in by_age(sets):
        if same_template(candidate.spec.template, deployment.spec.template):
            return candidate
    return None


def revision(obj: DeploymentView | ReplicaSetView) -> int:
    """The revision in its annotation; 0 for none."""
    text = obj.metadata.annotations.get(REVISION, "0")
    return int(text) if text.isdecimal() else 0


def set_annotations(
    deployment: DeploymentView,
    existing: Mapping[str, str],
    old_sets: Sequence[ReplicaSetView],
) -> dict[str, str]:
    """Annotations of the new ReplicaSet: the Deployment's own, the revision, and the revisions it had before."""
    wanted = dict(existing)
    wanted.update(
        (key, value) for key, value in deployment.metadata.annotations.items() if key not in _NOT_COPIED
    )
    newest = max((revision(old) for old in old_sets), default=0) + 1
    current = existing.get(REVISION, "")
    if not current.isdecimal() or int(current) < newest:
        wanted[REVISION] = str(newest)
        if current:
            before = existing.get(REVISION_HISTORY, "")
            history = [part for part in before.split(",") if part]
            wanted[REVISION_HISTORY] = ",".join([*history, current])
    return wanted


def new_set_size(deployment: DeploymentView, new_replicas: int, sets: Sequence[ReplicaSetView]) -> int:
    """The size that the new ReplicaSet may have now. sets: all of the Deployment's, the new one included."""
    wanted = deployment.spec.replicas
    if deployment.spec.strategy.type != "RollingUpdate":
        return wanted
    if new_replicas >= wanted:
        return wanted
    room = wanted + limits(deployment).max_surge - sum(one.spec.replicas for one in sets)
    return new_replicas + max(0, min(room, wanted - new_replicas))


def old_set_sizes(
    deployment: DeploymentView, new_set: ReplicaSetView, old_sets: Sequence[ReplicaSetView]
) -> dict[str, int]:
    """Names of old ReplicaSets that shall shrink now, with their sizes."""
    if sum(old.spec.replicas for old in old_sets) == 0:
        return {}
    minimum = deployment.spec.replicas - limits(deployment).max_unavailable
    everything = [*old_sets, new_set]
    new_unavailable = new_set.spec.replicas - new_set.status.available_replicas
    most = sum(one.spec.replicas for one in everything) - minimum - new_unavailable
    if most <= 0:
        return {}
    sizes = {old.metadata.name: old.spec.replicas for old in by_age(old_sets)}
    _drop_unhealthy(by_age(old_sets), sizes, most)
    # Counted after those above have gone: they were not available, so this number stands.
    spare = sum(one.status.available_replicas for one in everything) - minimum
    for name, size in sizes.items():
        if spare <= 0:
            break
        step = min(size, spare)
        sizes[name], spare = size - step, spare - step
    return {
        old.metadata.name: sizes[old.metadata.name]
        for old in by_age(old_sets)
        if sizes[old.metadata.name] != old.spec.replicas
    }


def _drop_unhealthy(old_sets: Sequence[ReplicaSetView], sizes: dict[str, int], most: int) -> None:
    """Pods that serve nobody go first, so that a roll away from a broken template does not stall on them."""
    for old in old_sets:
        unhealthy = old.spec.replicas - old.status.available_replicas
        step = min(most, max(0, unhealthy))
        sizes[old.metadata.name] -= step
        most -= step


def proportional_sizes(
    deployment: DeploymentView, new_set: ReplicaSetView | None, sets: Sequence[ReplicaSetView]
) -> dict[str, int]:
    """Sizes after `replicas` of the Deployment changed: each active ReplicaSet gets its share.

    Names with new sizes. Source: Kubernetes' documentation, "Proportional scaling".
    """
    wanted = deployment.spec.replicas
    active = [one for one in sets if one.spec.replicas > 0]
    if len(active) <= 1:
        only = active[0] if active else new_set or _newest(sets)
        return {only.metadata.name: wanted} if only is not None and only.spec.replicas != wanted else {}
    if new_set is not None and _is_saturated(deployment, new_set):
        return {old.metadata.name: 0 for old in active if old.metadata.name != new_set.metadata.name}
    if deployment.spec.strategy.type != "RollingUpdate":
        return {}
    allowed = wanted + limits(deployment).max_surge if wanted > 0 else 0
    rest = allowed - sum(one.spec.replicas for one in active)
    # The largest first, so that rounding falls on those that feel it least; of equals the newest if growing.
    ages = {one.metadata.name: age for age, one in enumerate(by_age(active))}
    sign = -1 if rest > 0 else 1
    order = sorted(active, key=lambda one: (-one.spec.replicas, sign * ages[one.metadata.name]))
    sizes = {one.metadata.name: one.spec.replicas for one in order}
    added = 0
    for one in order:
        if rest == 0:
            break
        share = _share(deployment, one, allowed)
        share = max(0, min(share, rest - added)) if rest > 0 else min(0, max(share, rest - added))
        sizes[one.metadata.name] += share
        added += share
    for one in order:
        # What rounding left over: to the largest, and on to the next where one has nothing more to give.
        size = sizes[one.metadata.name]
        change = max(-size, rest - added)
        sizes[one.metadata.name], added = size + change, added + change
    return {
        one.metadata.name: sizes[one.metadata.name]
        for one in order
        if sizes[one.metadata.name] != one.spec.replicas
    }


def _share(deployment: DeploymentView, one: ReplicaSetView, allowed: int) -> int:
    """How much this ReplicaSet changes if all keep their proportion."""
    if deployment.spec.replicas == 0:
        return -one.spec.replicas
    before = one.metadata.annotations.get(MAX_REPLICAS, "")
    maximum = int(before) if before.isdecimal() and int(before) > 0 else deployment.status.replicas
    if maximum <= 0:
        return 0
    return round(one.spec.replicas * allowed / maximum) - one.spec.replicas


def _newest(sets: Sequence[ReplicaSetView]) -> ReplicaSetView | None:
    ordered = by_age(sets)
    return ordered[-1] if ordered else None


def _is_saturated(deployment: DeploymentView, new_set: ReplicaSetView) -> bool:
    desired = new_set.metadata.annotations.get(DESIRED_REPLICAS, "")
    return (
        new_set.spec.replicas == deployment.spec.replicas
        and desired.isdecimal()
        and int(desired) == deployment.spec.replicas
        and new_set.status.available_replicas == deployment.spec.replicas
    )


def was_scaled(deployment: DeploymentView, sets: Sequence[ReplicaSetView]) -> bool:
    """Whether `replicas` of the Deployment changed since its ReplicaSets were last sized."""
    for one in sets:
        desired = one.metadata.annotations.get(DESIRED_REPLICAS, "")
        if one.spec.replicas > 0 and desired.isdecimal() and int(desired) != deployment.spec.replicas:
            return True
    return False


def size_annotations(deployment: DeploymentView) -> dict[str, str]:
    """Annotations that go with every size written, for `was_scaled` and the proportions of the next scaling."""
    replicas = deployment.spec.replicas
    return {
        DESIRED_REPLICAS: str(replicas),
        MAX_REPLICAS: str(replicas + limits(deployment).max_surge),
    }


def obsolete_sets(deployment: DeploymentView, old_sets: Sequence[ReplicaSetView]) -> list[ReplicaSetView]:
    """Old revisions beyond the history limit that hold no pods."""
    empty = [
        old
        for old in old_sets
        if old.spec.replicas == 0
        and old.status.replicas == 0
        and old.metadata.generation <= old.status.observed_generation
        and old.metadata.deletion_timestamp is None
    ]
    surplus = len(old_sets) - deployment.spec.revision_history_limit
    if surplus <= 0:
        return []
    return sorted(empty, key=lambda old: (revision(old), old.metadata.creation_timestamp))[:surplus]
