"""The steps of a DisaggregatedSet's rollout, told beforehand."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.groups.disaggregated_sets.dry_run import dry_run, slice_steps
from kajitori.groups.disaggregated_sets.observed import SetView, World
from kajitori.groups.disaggregated_sets.rollout import Role


def a_role(name: str, replicas: int, image: str = "busybox:1") -> dict[str, Any]:
    template = {"workerTemplate": {"spec": {"containers": [{"name": "e", "image": image}]}}}
    return {"name": name, "spec": {"replicas": replicas, "leaderWorkerTemplate": template}}


def a_set(*roles: dict[str, Any]) -> SetView:
    return msgspec.convert(
        {"metadata": {"name": "pd", "namespace": "default", "uid": "u"}, "spec": {"roles": roles}}, SetView
    )


def test_a_set_that_is_not_there_yet_is_made_in_one_step() -> None:
    wanted = a_set(a_role("prefill", 4), a_role("decode", 2))
    (step,) = dry_run(World(set=wanted, now=0.0), wanted).steps
    assert step.new == {"prefill": 4, "decode": 2}


def test_the_fields_that_differ_are_told_by_role() -> None:
    before, after = a_set(a_role("prefill", 4), a_role("decode", 2)), a_set(a_role("prefill", 4, "new:1"))
    told = dry_run(World(set=before, now=0.0), after)
    assert [str(change) for change in told.changes] == [
        "roles[prefill].workerTemplate.containers[e].image: busybox:1 → new:1",
        "roles[decode]: a role → (nothing)",
    ]
    assert not dry_run(World(set=before, now=0.0), a_set(a_role("prefill", 9), a_role("decode", 2))).changes


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(
        st.tuples(st.integers(1, 12), st.integers(0, 12), st.integers(0, 4), st.integers(0, 4)),
        min_size=2,
        max_size=3,
    )
)
def test_steps_keep_the_bounds_of_each_role_and_end_with_the_new_revision_alone(
    sizes: list[tuple[int, int, int, int]],
) -> None:
    roles: dict[str, Role] = {}
    for number, (target, initial, surge, unavailable) in enumerate(sizes):
        bounds = {"max_surge": surge, "max_unavailable": unavailable if surge or unavailable else 1}
        roles[f"r{number}"] = Role(target=target, initial=initial, **bounds)
    told = slice_steps(roles, [{name: role.initial for name, role in roles.items()}])
    before = {name: role.initial for name, role in roles.items()}
    for step in told:
        for name, role in roles.items():
            total = step.new[name] + step.old[name]
            assert total <= max(role.target + role.max_surge, before[name])
            assert total >= min(role.target - role.max_unavailable, before[name])
            before[name] = total
    assert told[-1].new == {name: role.target for name, role in roles.items()}
    assert not any(told[-1].old.values())
