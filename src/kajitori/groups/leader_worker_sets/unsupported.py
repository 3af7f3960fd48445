"""What a LeaderWorkerSet may ask for and does not get from us yet: named aloud, never passed over.

Each is one line of the condition `kajitori.dev/FieldsNotHonoured` and of a warning event.
"""

from __future__ import annotations

from collections.abc import Sequence

from kajitori.api.leaderworkerset import v1
from kajitori.base.reason import Reason
from kajitori.groups.leader_worker_sets.options import options_of


def fields_not_honoured(lws: v1.LeaderWorkerSet, more: Sequence[str] = ()) -> Reason | None:
    """One reason that lists every such field with what happens instead; None if there is none.

    more: what the way in which the set's pods are made leaves out.
    """
    annotations = lws.metadata.annotations
    template = lws.spec.leader_worker_template
    found: list[str] = [*more]
    if v1.SUBGROUP_EXCLUSIVE_TOPOLOGY_ANNOTATION in annotations and template.sub_group_policy is None:
        found.append(
            f"annotation {v1.SUBGROUP_EXCLUSIVE_TOPOLOGY_ANNOTATION}: there are no subgroups without"
            " spec.leaderWorkerTemplate.subGroupPolicy"
        )
    refused = options_of(annotations).refused
    found += [f"annotation {key}: {wrong}; the default counts" for key, wrong in sorted(refused.items())]
    if not found:
        return None
    return Reason("FieldsNotHonoured", "; ".join(found))
