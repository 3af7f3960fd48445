"""What a StatefulSet does next: which pods to make, fix or delete, in which order, and how far this round goes. Pure.

An ordered set takes one step at a time and waits for each pod to be available before the next; a parallel one does
everything at once and orders only its updates. Deletion beyond the set's size comes before updates, creation before
both.

Source of the meaning: Kubernetes' documentation of StatefulSet, and the order of steps of kube-controller-manager.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from kajitori.api.kubernetes.meta_v1 import OwnerReference
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.amounts import resolve
from kajitori.laptop.controllers.pods import is_available
from kajitori.laptop.controllers.revisions import RevisionView, keeps, next_number, template_of
from kajitori.laptop.controllers.stateful_sets import identity, retention
from kajitori.laptop.controllers.stateful_sets.views import StatefulSetView
from kajitori.laptop.controllers.views import PodView, View


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What is known. claims: those of the namespace that belong to the set's pods, by name."""

    stateful_set: StatefulSetView
    pods: list[PodView]
    claims: Mapping[str, View]
    current: RevisionView
    update: RevisionView
    now: float


class CreatePod(msgspec.Struct, frozen=True):
    """claims: all that the pod needs; those that exist are left as they are."""

    body: Object
    claims: dict[str, Object]


class MakeClaims(msgspec.Struct, frozen=True):
    """Make what is missing of the claims of a pod that waits for them."""

    pod_name: str
    claims: dict[str, Object]


class FixPod(msgspec.Struct, frozen=True):
    """Give a pod back its labels, and volumes if `ordinal` is set."""

    pod: PodView
    labels: dict[str, str]
    storage: bool
    claims: dict[str, Object]


class OwnClaim(msgspec.Struct, frozen=True):
    """Write a claim's owners. conflict: another controller manages it, which people should know.

    quiet: no event of the pod's update goes with it.
    """

    claim: View
    owners: list[OwnerReference]
    pod_name: str
    conflict: bool
    quiet: bool


class DeletePod(msgspec.Struct, frozen=True):
    """for_update: a pod of the new revision shall take its place."""

    pod: PodView
    for_update: bool = False


Action = CreatePod | MakeClaims | FixPod | OwnClaim | DeletePod


def plan_actions(world: World) -> list[Action]:
    """The steps of this round, in order; a step that fails ends the round."""
    if world.stateful_set.metadata.deletion_timestamp is not None:
        return []
    return _Round(world).run()


class _Round:
    def __init__(self, world: World) -> None:
        self._world = world
        self._set = world.stateful_set
        self._actions: list[Action] = []
        first = self._set.first_ordinal
        self._slots: list[PodView | None] = [None] * self._set.spec.replicas
        condemned: list[PodView] = []
        for pod in world.pods:
            ordinal = identity.ordinal_of(pod)
            if self._set.has_ordinal(ordinal):
                self._slots[ordinal - first] = pod
            elif ordinal >= 0:
                condemned.append(pod)
        self._condemned = sorted(condemned, key=identity.ordinal_of, reverse=True)

    def run(self) -> list[Action]:
        ordered = self._set.is_ordered
        for index in range(len(self._slots)):
            if self._keep(index) and ordered:
                return self._actions
        for pod in self._condemned:
            self._own_claims(pod, quiet=True)
        weakest = self._first_unavailable()
        for pod in self._condemned:
            if self._scale_away(pod, weakest) and ordered:
                return self._actions
        if self._set.spec.update_strategy.type != "OnDelete":
            self._roll()
        return self._actions

    def _keep(self, index: int) -> bool:
        """See to one replica; whether an ordered set has to wait for it."""
        pod, ordinal = self._slots[index], self._set.first_ordinal + index
        if pod is None:
            if any(
                retention.blocks_creation(self._set, claim, identity.pod_name(self._set, ordinal))
                for claim in self._claims_of(ordinal)
            ):
                return True
            self._actions.append(self._creation(ordinal))
            return True
        if pod.has_ended:
            # Whatever its exit code: a new one takes its place once it is gone.
            if not pod.is_deleting:
                self._actions.append(DeletePod(pod))
            return True
        if pod.status.phase == "Pending":
            bodies = identity.claim_bodies(self._set, ordinal)
            if any(self._is_missing(name) for name in bodies):
                self._actions.append(MakeClaims(pod.metadata.name, bodies))
            self._own_claims(pod, quiet=True)
        if self._set.is_ordered and (pod.is_deleting or not self._is_up(pod)):
            return True
        self._fix(pod, ordinal)
        return False

    def _is_missing(self, name: str) -> bool:
        claim = self._world.claims.get(name)
        return claim is None or claim.metadata.deletion_timestamp is not None

    def _is_up(self, pod: PodView) -> bool:
        return pod.status.phase == "Running" and self._is_available(pod)

    def _is_available(self, pod: PodView) -> bool:
        return is_available(pod, self._set.spec.min_ready_seconds, self._world.now)

    def _is_unavailable(self, pod: PodView | None) -> bool:
        return pod is None or pod.is_deleting or not self._is_available(pod)

    def _claims_of(self, ordinal: int) -> list[View]:
        names = identity.claim_names(self._set, ordinal).values()
        return [self._world.claims[name] for name in names if name in self._world.claims]

    def _creation(self, ordinal: int) -> CreatePod:
        revision = self._world.current if self._stays_behind(ordinal) else self._world.update
        body = identity.pod_body(self._set, template_of(revision), revision.metadata.name, ordinal)
        return CreatePod(body, identity.claim_bodies(self._set, ordinal))

    def _stays_behind(self, ordinal: int) -> bool:
        """Whether a new pod of this ordinal is one of the current revision, though there is a newer one."""
        strategy, first = self._set.spec.update_strategy, self._set.first_ordinal
        if strategy.rolling_update is not None:
            return ordinal < first + strategy.rolling_update.partition
        return strategy.type == "RollingUpdate" and ordinal < first + self._set.status.current_replicas

    def _own_claims(self, pod: PodView, *, quiet: bool) -> bool:
        """Whether any claim's owners have to change."""
        before = len(self._actions)
        for claim in self._claims_of(identity.ordinal_of(pod)):
            owners = retention.wanted_owners(claim, self._set, pod)
            if owners is not None:
                conflict = retention.has_foreign_controller(claim, self._set, pod)
                self._actions.append(OwnClaim(claim, owners, pod.metadata.name, conflict, quiet))
        return len(self._actions) > before

    def _fix(self, pod: PodView, ordinal: int) -> None:
        known = identity.has_identity(self._set, pod)
        stored = identity.has_storage(self._set, pod)
        if pod.status.phase != "Pending":
            self._own_claims(pod, quiet=not (known and stored))
        if not (known and stored):
            labels = identity.identity_labels(self._set, ordinal)
            claims = {} if stored else identity.claim_bodies(self._set, ordinal)
            self._actions.append(FixPod(pod, labels, not stored, claims))

    def _first_unavailable(self) -> PodView | None:
        """The lowest pod that is not available; of those beyond the size only if all others are."""
        for pod in self._slots:
            if self._is_unavailable(pod):
                return pod
        return next((pod for pod in reversed(self._condemned) if self._is_unavailable(pod)), None)

    def _scale_away(self, pod: PodView, weakest: PodView | None) -> bool:
        """Delete one pod beyond the size; whether an ordered set has to wait."""
        if pod.is_deleting:
            return True
        if self._set.is_ordered and not self._is_up(pod) and pod is not weakest:
            return True
        self._actions.append(DeletePod(pod))
        return True

    def _roll(self) -> None:
        """Delete what is of another revision, from the highest ordinal down to the partition."""
        rolling = self._set.spec.update_strategy.rolling_update
        lowest = rolling.partition if rolling is not None else 0
        if rolling is not None and rolling.max_unavailable is not None:
            self._roll_several(lowest, rolling.max_unavailable)
            return
        for pod in reversed(self._slots[lowest:]):
            if pod is not None and self._is_outdated(pod):
                self._actions.append(DeletePod(pod, for_update=True))
                return
            if self._is_unavailable(pod):
                return

    def _roll_several(self, lowest: int, most: int | str) -> None:
        allowed = max(1, resolve(most, self._set.spec.replicas, round_up=False))
        allowed -= sum(self._is_unavailable(pod) for pod in self._slots)
        outdated = [pod for pod in reversed(self._slots[lowest:]) if pod and self._is_outdated(pod)]
        self._actions += [DeletePod(pod, for_update=True) for pod in outdated[: max(0, allowed)]]

    def _is_outdated(self, pod: PodView) -> bool:
        return identity.revision_of(pod) != self._world.update.metadata.name and not pod.is_deleting


class Revisions(msgspec.Struct, frozen=True):
    """Which revision is the template's. found: it, if there is one. number: what it shall carry."""

    found: RevisionView | None
    number: int


def find_update_revision(stateful_set: StatefulSetView, revisions: Sequence[RevisionView]) -> Revisions:
    """revisions: by number."""
    equal = [one for one in revisions if keeps(one, stateful_set.spec.template)]
    if not equal:
        return Revisions(None, next_number(revisions))
    if equal[-1] is revisions[-1]:
        return Revisions(equal[-1], equal[-1].revision)
    return Revisions(equal[-1], next_number(revisions))
