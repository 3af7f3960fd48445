"""The Services of one slice: of each revision that can serve, one for each role; of no other.

Those of a revision appear when each of its roles has a ready group, and go before the last groups of an old one do. A
selector that somebody changed is set right: it keeps revisions and slices apart.
"""

from __future__ import annotations

from collections.abc import Mapping

from kajitori.groups.disaggregated_sets.actions import Action, CreateService, DeleteService, MendService
from kajitori.groups.disaggregated_sets.children import service, service_name
from kajitori.groups.disaggregated_sets.observed import Child
from kajitori.groups.disaggregated_sets.rollout import Step
from kajitori.groups.disaggregated_sets.slice_view import SliceView


def plan_services(view: SliceView, step: Step | None) -> tuple[list[Action], list[str]]:
    """What to do before the step, and which names are in use by others."""
    there = {each.metadata.name: each for each in view.services}
    wanted: dict[str, Child] = {}
    for number, children in enumerate([view.current, *view.old]):
        serves = _serves(view, step, number - 1, children)
        for child in children.values():
            name = service_name(child.name)
            if not child.sliced and view.world.set.spec.slices > 1:
                # Its pods do not say their slice, and a selector without it finds those of other slices.
                continue
            # Those of the current revision stay once they are there: endpoints tell what is ready.
            if serves or (number == 0 and name in there):
                wanted[name] = child
    actions: list[Action] = [DeleteService(found) for name, found in there.items() if name not in wanted]
    blocked: list[str] = []
    for name, child in wanted.items():
        body = service(view.world.set, child)
        taken = view.world.taken.get(f"Service {name}")
        if name in there:
            if there[name].spec.selector != body["spec"]["selector"]:
                actions.append(MendService(there[name], body["spec"]["selector"]))
        elif taken is not None:
            blocked.append(f"Service {name} is {taken}")
        else:
            actions.append(CreateService(body))
    return actions, blocked


def _serves(view: SliceView, step: Step | None, revision: int, children: Mapping[str, Child]) -> bool:
    """Every role has a ready group and keeps one. revision: of the old ones, the newest is 0; -1 for the current."""
    if revision < 0 and set(children) != set(view.world.set.role_names):
        return False
    after = step.old if step is not None and step.revision == revision else None
    return bool(children) and all(
        child.ready and (child.replicas if after is None else after.get(role, 0))
        for role, child in children.items()
    )
