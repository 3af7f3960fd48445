"""What the server fills in: defaults of fields left open, and what it adds to new objects by itself.

`defaulter_of` gives the function for a definition; it fills in place and only visits what exists. `admit_new`
and `admit_changed` do what a cluster's admission does: service account, tolerations and token volume of a pod,
labels of a namespace, selector of a job, taint of a new node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.defaults import admission, batch, cluster, networking, pods, workloads

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.laptop.apiserver.kinds.kind import Context

_DEFAULTERS: dict[str, Callable[[dict[str, Any]], None]] = {
    **pods.DEFAULTERS,
    **workloads.DEFAULTERS,
    **batch.DEFAULTERS,
    **networking.DEFAULTERS,
    **cluster.DEFAULTERS,
}


def _nothing(_obj: dict[str, Any]) -> None:
    return


def defaulter_of(definition: str) -> Callable[[dict[str, Any]], None]:
    """Fills in the defaults of an object of this definition."""
    return _DEFAULTERS.get(definition, _nothing)


def admit_new(definition: str, obj: dict[str, Any], context: Context) -> None:
    """What the server itself adds to a new object."""
    admit = admission.NEW.get(definition)
    if admit:
        admit(obj, context)


def admit_changed(definition: str, new: dict[str, Any], old: dict[str, Any], context: Context) -> None:
    """What the server itself adds to a changed object, or keeps of the old one."""
    admit = admission.CHANGED.get(definition)
    if admit:
        admit(new, old, context)
