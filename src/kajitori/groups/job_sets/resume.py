"""What a suspended Job's pod template takes over from the set's when it is let go on. Pure.

Queueing systems write where pods may run into the set while it is suspended. Values are merged, since others may have
written into the Job itself.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.groups.job_sets.observed import Job, Template

Object = dict[str, Any]


def changed_template(job: Job, template: Object) -> Object | None:
    """The part of the template to write; None if the Job has it all. template: as a new Job would have it."""
    wanted = msgspec.convert(template, Template)
    merged = msgspec.structs.replace(
        job.spec.template,
        metadata=msgspec.structs.replace(
            job.spec.template.metadata,
            labels=job.spec.template.metadata.labels | wanted.metadata.labels,
            annotations=job.spec.template.metadata.annotations | wanted.metadata.annotations,
        ),
        spec=msgspec.structs.replace(
            job.spec.template.spec,
            node_selector=job.spec.template.spec.node_selector | wanted.spec.node_selector,
            tolerations=_merged(job.spec.template.spec.tolerations, wanted.spec.tolerations),
            scheduling_gates=_merged(job.spec.template.spec.scheduling_gates, wanted.spec.scheduling_gates),
        ),
    )
    return None if merged == job.spec.template else msgspec.to_builtins(merged)


def _merged(own: list[Object], wanted: list[Object]) -> list[Object]:
    return [*own, *(one for one in wanted if one not in own)]
