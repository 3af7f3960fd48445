import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.api.kubernetes.meta_v1 import LabelSelector
from kajitori.base.clock import rfc3339
from kajitori.control.cache import Metadata
from kajitori.laptop.controllers.deployments import plan
from kajitori.laptop.controllers.deployments.status import next_look_seconds, plan_status
from kajitori.laptop.controllers.views import (
    DeploymentSpecView,
    DeploymentStatusView,
    DeploymentView,
    ReplicaSetSpecView,
    ReplicaSetStatusView,
    ReplicaSetView,
    RollingUpdateView,
    StrategyView,
)

NOW = 1_700_000_000.0
replace = msgspec.structs.replace


def template(image):
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}


def deployment(replicas=10, image="v1", surge="25%", unavailable="25%", strategy="RollingUpdate", **spec):
    rolling = RollingUpdateView(max_surge=surge, max_unavailable=unavailable)
    return DeploymentView(
        metadata=Metadata(name="web", namespace="default", uid="d", generation=1),
        spec=DeploymentSpecView(
            replicas=replicas, template=template(image), selector=LabelSelector(match_labels={"app": "web"}),
            strategy=StrategyView(type=strategy, rolling_update=rolling if strategy == "RollingUpdate" else None), **spec,
        ),
    )  # fmt: skip


def replica_set(image, size, available=None, *, age=0, annotations=None, desired=None):
    annotations = dict(annotations or {})
    if desired is not None:
        annotations |= {plan.DESIRED_REPLICAS: str(desired), plan.MAX_REPLICAS: str(desired)}
    available = size if available is None else available
    return ReplicaSetView(
        metadata=Metadata(name=f"web-{image}", namespace="default", uid=image, creation_timestamp=rfc3339(NOW - age), annotations=annotations),
        spec=ReplicaSetSpecView(replicas=size, template={**template(image), "metadata": {"labels": {"app": "web", plan.HASH_LABEL: image}}}),
        status=ReplicaSetStatusView(replicas=size, ready_replicas=available, available_replicas=available),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (10, "25%", "25%", (3, 2)),
        (1, "25%", "25%", (1, 0)),
        (10, 0, 3, (0, 3)),
        (10, "0%", "5%", (0, 1)),
        (2, 1, 5, (1, 2)),
    ],
)
def test_percentages_round_up_for_surge_and_down_for_unavailability(replicas, surge, unavailable, expected):
    found = plan.limits(deployment(replicas, surge=surge, unavailable=unavailable))
    assert (found.max_surge, found.max_unavailable) == expected


def test_the_new_set_is_the_one_with_the_template_whatever_its_hash_label():
    sets = [replica_set("v1", 1, age=10), replica_set("v2", 1)]
    assert plan.find_new_set(deployment(image="v2"), sets).metadata.name == "web-v2"
    assert plan.find_new_set(deployment(image="v3"), sets) is None


def test_another_collision_count_gives_another_name():
    names = {plan.template_hash(template("v1"), count) for count in range(50)}
    assert len(names) == 50 and all(len(name) == 10 for name in names)
    assert plan.template_hash(template("v1"), 0) == plan.template_hash(
        dict(reversed(template("v1").items())), 0
    )


def test_unhealthy_old_pods_go_first():
    new, old = replica_set("v2", 3, 0), replica_set("v1", 10, 8, age=9)
    assert plan.old_set_sizes(deployment(10, "v2"), new, [old]) == {"web-v1": 8}


def test_a_set_that_comes_back_gets_a_new_revision_and_remembers_the_old_one():
    back = replica_set("v1", 0, annotations={plan.REVISION: "1"})
    others = [replica_set("v2", 3, annotations={plan.REVISION: "4"})]
    annotations = plan.set_annotations(deployment(), back.metadata.annotations, others)
    assert annotations == {plan.REVISION: "5", plan.REVISION_HISTORY: "1"}


@given(
    st.integers(0, 40), st.integers(0, 40),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=4),
)  # fmt: skip
def test_scaling_in_the_middle_of_a_roll_shares_out_exactly_what_is_allowed(before, after, drawn):
    sets = [
        replica_set(f"v{n}", size, min(size, available), age=100 - n, desired=before)
        for n, (size, available) in enumerate(drawn)
    ]
    goal = deployment(after, f"v{len(drawn) - 1}", surge=2, unavailable=1)
    new = plan.find_new_set(goal, sets)
    sizes = plan.proportional_sizes(goal, new, sets)
    final = {s.metadata.name: sizes.get(s.metadata.name, s.spec.replicas) for s in sets}
    assert all(size >= 0 for size in final.values())
    active = [s for s in sets if s.spec.replicas > 0]
    if len(active) > 1 and not (
        new.spec.replicas == after == new.status.available_replicas and before == after
    ):
        assert sum(final.values()) == (after + 2 if after else 0)
    elif len(active) <= 1:
        assert sum(final.values()) == after


class Cluster:
    """Pods as numbers: what the sets have, and how many of each are available."""

    def __init__(self, seed, goal):
        self.chance = random.Random(seed)
        self.goal = goal
        self.sets = {}

    def views(self):
        return list(self.sets.values())

    def resize(self, sizes):
        for name, size in sizes.items():
            old = self.sets[name]
            have = min(old.status.available_replicas, size)
            # A smaller set loses what is not available first, as ReplicaSets do.
            status = replace(old.status, replicas=size, available_replicas=have, ready_replicas=have)
            self.sets[name] = replace(old, spec=replace(old.spec, replicas=size), status=status)

    def step(self):
        image = self.goal.spec.template["spec"]["containers"][0]["image"]
        new = plan.find_new_set(self.goal, self.views())
        if new is None:
            size = plan.new_set_size(self.goal, 0, self.views())
            made = replica_set(image, size, 0, age=0)
            self.sets[made.metadata.name] = made
            return
        if plan.was_scaled(self.goal, self.views()):
            self.resize(plan.proportional_sizes(self.goal, new, self.views()))
            return
        size = plan.new_set_size(self.goal, new.spec.replicas, self.views())
        self.resize({new.metadata.name: size})
        new = plan.find_new_set(self.goal, self.views())
        old = [one for one in self.views() if one is not new]
        self.resize(plan.old_set_sizes(self.goal, new, old))

    def become_available(self):
        for name, one in self.sets.items():
            missing = one.spec.replicas - one.status.available_replicas
            if missing and self.chance.random() < 0.7:
                have = one.status.available_replicas + self.chance.randint(1, missing)
                self.sets[name] = replace(
                    one, status=replace(one.status, available_replicas=have, ready_replicas=have)
                )

    @property
    def available(self):
        return sum(one.status.available_replicas for one in self.views())

    @property
    def wanted(self):
        return sum(one.spec.replicas for one in self.views())


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(1, 30),
    st.one_of(st.integers(0, 10), st.integers(0, 100).map(lambda n: f"{n}%")),
    st.one_of(st.integers(0, 10), st.integers(0, 100).map(lambda n: f"{n}%")),
)  # fmt: skip
def test_a_roll_never_breaks_its_bounds_and_always_ends(seed, replicas, surge, unavailable):
    cluster = Cluster(seed, deployment(replicas, "v0", surge=surge, unavailable=unavailable))
    cluster.sets["web-v0"] = replica_set("v0", replicas, age=1000)
    limits = plan.limits(cluster.goal)
    version = 0
    for round_number in range(400):
        if round_number < 40 and cluster.chance.random() < 0.15:
            # A new template in the middle of a roll.
            version += 1
            cluster.goal = deployment(replicas, f"v{version}", surge=surge, unavailable=unavailable)
        cluster.step()
        assert cluster.wanted <= replicas + limits.max_surge
        assert cluster.available >= replicas - limits.max_unavailable
        cluster.become_available()
    final = {name: one.spec.replicas for name, one in cluster.sets.items() if one.spec.replicas}
    assert final == {f"web-v{version}": replicas}


def status_of(goal, sets, before=None, note=None, now=NOW):
    goal = replace(goal, status=before) if before is not None else goal
    return plan_status(goal, plan.find_new_set(goal, sets), sets, note, now)


def conditions(status):
    return {c["type"]: (c["status"], c["reason"]) for c in status.conditions}


def test_the_conditions_tell_a_roll_from_its_begin_to_its_end():
    goal = deployment(4, "v2", progress_deadline_seconds=60)
    note = ("NewReplicaSetCreated", "Created new replica set")
    first = status_of(goal, [replica_set("v1", 4, age=9), replica_set("v2", 1, 0)], note=note)
    assert conditions(first) == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "ReplicaSetUpdated"),
    }
    assert next_look_seconds(goal, first, NOW) == pytest.approx(60)
    moving = status_of(goal, [replica_set("v1", 2, age=9), replica_set("v2", 2)], first, now=NOW + 30)
    assert conditions(moving)["Progressing"] == ("True", "ReplicaSetUpdated")
    stuck = status_of(goal, [replica_set("v1", 2, age=9), replica_set("v2", 2)], moving, now=NOW + 91)
    assert conditions(stuck)["Progressing"] == ("False", "ProgressDeadlineExceeded")
    assert next_look_seconds(goal, stuck, NOW + 91) is None
    done = status_of(goal, [replica_set("v1", 0, age=9), replica_set("v2", 4)], stuck, now=NOW + 99)
    assert conditions(done)["Progressing"] == ("True", "NewReplicaSetAvailable")
    assert (done.replicas, done.updated_replicas, done.available_replicas, done.unavailable_replicas) == (
        4,
        4,
        4,
        0,
    )
    again = status_of(goal, [replica_set("v1", 0, age=9), replica_set("v2", 4)], done, now=NOW + 500)
    assert again == done, "nothing moves while nothing changes"
    lost = status_of(goal, [replica_set("v1", 0, age=9), replica_set("v2", 4, 3)], done, now=NOW + 1000)
    assert conditions(lost)["Progressing"] == ("True", "NewReplicaSetAvailable"), "a lost pod is no roll"


def test_too_few_available_pods_are_said():
    status = status_of(deployment(4), [replica_set("v1", 4, 2)])
    assert conditions(status)["Available"] == ("False", "MinimumReplicasUnavailable")
    assert status.unavailable_replicas == 2


def test_a_pause_and_its_end_are_said_and_have_no_deadline():
    goal = deployment(4, paused=True)
    paused = status_of(goal, [replica_set("v1", 4, 2)], DeploymentStatusView())
    assert conditions(paused)["Progressing"] == ("Unknown", "DeploymentPaused")
    assert next_look_seconds(goal, paused, NOW + 10_000) is None
    resumed = status_of(deployment(4), [replica_set("v1", 4, 2)], paused)
    assert conditions(resumed)["Progressing"] == ("Unknown", "DeploymentResumed")


def test_history_beyond_the_limit_goes_oldest_first_and_never_while_it_has_pods():
    old = [replica_set(f"v{n}", 1 if n == 1 else 0, annotations={plan.REVISION: str(n)}) for n in range(1, 6)]
    found = plan.obsolete_sets(deployment(revision_history_limit=2), old)
    assert [one.metadata.name for one in found] == ["web-v2", "web-v3", "web-v4"]
    assert plan.obsolete_sets(deployment(revision_history_limit=5), old) == []
