"""What holds a namespace that shall end, as conditions say it. Pure."""

from __future__ import annotations

import msgspec

from kajitori.kube.objects import Object, set_condition
from kajitori.laptop.controllers.views import NamespaceView


class Remaining(msgspec.Struct, frozen=True):
    """What is still there. objects: number by resource. finalizers: number of objects by finalizer.
    failures: texts of what could not be deleted."""

    objects: dict[str, int]
    finalizers: dict[str, int]
    failures: list[str]

    @property
    def is_empty(self) -> bool:
        return not self.objects and not self.failures


def plan_conditions(namespace: NamespaceView, remaining: Remaining, now: str) -> list[Object]:
    """The conditions that say what holds the namespace. Source: the namespace controller's condition types."""
    conditions: list[Object] = namespace.status.get("conditions") or []
    count = sum(remaining.objects.values())
    listed = ", ".join(
        # A kind is named with its group also where that has no name.
        f"{name if '.' in name else name + '.'} has {number} resource instances"
        for name, number in sorted(remaining.objects.items())
    )
    held = ", ".join(
        f"{name} in {number} resource instances" for name, number in sorted(remaining.finalizers.items())
    )
    for type_name, is_true, reasons, messages in (
        (
            "NamespaceDeletionContentFailure", bool(remaining.failures), ("ContentDeletionFailed", "ContentDeleted"),
            ("Failed to delete all resource types: " + "; ".join(remaining.failures),
             "All content successfully deleted, may be waiting on finalization"),
        ),
        (
            "NamespaceContentRemaining", count > 0, ("SomeResourcesRemain", "ContentRemoved"),
            (f"Some resources are remaining: {listed}", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining", bool(remaining.finalizers),
            ("SomeFinalizersRemain", "ContentHasNoFinalizers"),
            (f"Some content in the namespace has finalizers remaining: {held}",
             "All content-preserving finalizers finished"),
        ),
    ):  # fmt: skip
        pick = 0 if is_true else 1
        conditions = set_condition(
            conditions, type_name, "True" if is_true else "False", reasons[pick], messages[pick], now
        )
    return conditions
