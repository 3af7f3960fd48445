"""What a pod asks for in all: its containers together, its init containers one after the other, its overhead.

Pure. Shared by quotas, limits of a namespace and whoever else adds up pods. Source: the Kubernetes documentation,
"Sidecar containers: resource sharing" and "Pod-level resources".
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from kajitori.base.quantity import format_quantity, parse_quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Object = dict[str, Any]
_LEAST_SHOWN_IN_KI = 1024


class Amount(NamedTuple):
    """A quantity with the family of units that it is written in."""

    value: Fraction
    binary: bool = False

    def plus(self, other: Amount) -> Amount:
        """The sum, in the units of the first, or of the other where the first is nothing."""
        return Amount(self.value + other.value, self.binary if self.value else other.binary)

    def minus(self, other: Amount) -> Amount:
        return Amount(self.value - other.value, self.binary if self.value else other.binary)

    def __str__(self) -> str:
        if not self.binary or abs(self.value) < _LEAST_SHOWN_IN_KI:
            return format_quantity(self.value)
        whole = -(-self.value.numerator // self.value.denominator)
        if whole % _LEAST_SHOWN_IN_KI:
            return str(whole)
        return format_quantity(whole, binary=True)


Amounts = dict[str, Amount]


def amount(text: str | int | float) -> Amount:
    """Raises ValueError for what is not a quantity."""
    return Amount(parse_quantity(text), isinstance(text, str) and text.endswith("i"))


def amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    """A resource list read; what is not a quantity is left out: validation refuses it."""
    found: Amounts = {}
    for name, text in (quantities or {}).items():
        try:
            found[name] = amount(text)
        except ValueError:
            continue
    return found


def add(total: Amounts, more: Mapping[str, Amount]) -> None:
    for name, value in more.items():
        known = total.get(name)
        total[name] = value if known is None else known.plus(value)


def raise_to(total: Amounts, least: Mapping[str, Amount]) -> None:
    """Each amount becomes the larger of both."""
    for name, value in least.items():
        known = total.get(name)
        if known is None or value.value > known.value:
            total[name] = value


def is_sidecar(container: Object) -> bool:
    return container.get("restartPolicy") == "Always"


def has_pod_level_resources(pod: Object) -> bool:
    resources: Object = (pod.get("spec") or {}).get("resources") or {}
    return any(
        _is_pod_level(name)
        for quantities in (resources.get("requests"), resources.get("limits"))
        for name in quantities or ()
    )


def _is_pod_level(name: str) -> bool:
    return name in ("cpu", "memory") or name.startswith("hugepages-")


def pod_requests(pod: Object, *, actual: bool = False, overhead: bool = True) -> Amounts:
    """actual: where a container's status shows that it holds more than is asked for now, that counts."""
    return _total(pod, "requests", _effective(pod) if actual else _declared("requests"), overhead=overhead)


def pod_limits(pod: Object, *, overhead: bool = True) -> Amounts:
    return _total(pod, "limits", _declared("limits"), overhead=overhead)


def _declared(what: str) -> Callable[[Object], Amounts]:
    return lambda container: amounts((container.get("resources") or {}).get(what))


def _effective(pod: Object) -> Callable[[Object], Amounts]:
    """Requests of a container, or what it was given while a resize is under way."""
    status: Object = pod.get("status") or {}
    shown: list[Object] = [
        *(status.get("containerStatuses") or ()),
        *(status.get("initContainerStatuses") or ()),
    ]
    by_name = {entry.get("name"): entry for entry in shown if entry.get("resources") is not None}
    infeasible = any(
        condition.get("type") == "PodResizePending" and condition.get("reason") == "Infeasible"
        for condition in status.get("conditions") or ()
    )

    def requests(container: Object) -> Amounts:
        asked = amounts((container.get("resources") or {}).get("requests"))
        entry = by_name.get(container.get("name"))
        if entry is None:
            return asked
        held = amounts(entry["resources"].get("requests"))
        raise_to(held, amounts(entry.get("allocatedResources")))
        if not infeasible:
            raise_to(held, asked)
        return held

    return requests


def _total(pod: Object, what: str, of: Callable[[Object], Amounts], *, overhead: bool) -> Amounts:
    spec: Object = pod.get("spec") or {}
    total = _of_containers(spec.get("containers") or (), spec.get("initContainers") or (), of)
    for name, value in amounts((spec.get("resources") or {}).get(what)).items():
        if _is_pod_level(name):
            total[name] = value
    if overhead:
        extra = amounts(spec.get("overhead"))
        # Overhead of a limit that is not set would set one.
        add(total, extra if what == "requests" else {n: v for n, v in extra.items() if _set(total, n)})
    return total


def _set(total: Amounts, name: str) -> bool:
    return name in total and total[name].value != 0


def _of_containers(
    containers: Iterable[Object], first: Iterable[Object], of: Callable[[Object], Amounts]
) -> Amounts:
    total: Amounts = {}
    for container in containers:
        add(total, of(container))
    sidecars: Amounts = {}
    most: Amounts = {}
    for container in first:
        wanted = of(container)
        if is_sidecar(container):
            add(total, wanted)
            add(sidecars, wanted)
            wanted = sidecars
        else:
            wanted = dict(wanted)
            add(wanted, sidecars)
        raise_to(most, wanted)
    raise_to(total, most)
    return total
