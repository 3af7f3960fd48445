"""What the statuses of HTTPRoutes and GRPCRoutes say at each of their parents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.gateway.conditions import condition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.gateway.shared import RouteStatus
    from kajitori.gateway.routes.attachment import ParentOutcome
    from kajitori.gateway.routes.rule_context import RuleContext

# Reasons of the Gateway API for references that do not resolve; whatever else is wrong with a backend is told as that
# it cannot be found.
_UNRESOLVED = ("RefNotPermitted", "InvalidKind", "BackendNotFound", "UnsupportedProtocol")
# A policy of the backend is at fault, which has a status of its own; the reference itself does resolve.
_OF_POLICIES = ("InvalidCACertificateRef", "NoValidCACertificate")


def parent_status(
    outcome: ParentOutcome, context: RuleContext, told: str, refused: Sequence[str]
) -> dict[str, Any]:
    """One entry of `status.parents`. told: what keeps requests from coming in. refused: what Envoy did not take."""
    states = [_accepted(outcome, context, told, refused)]
    unresolved = [reason for reason in context.problems if reason.code not in _OF_POLICIES]
    if unresolved:
        first = unresolved[0].code
        code = first if first in _UNRESOLVED else "BackendNotFound"
        message = "; ".join(str(reason) for reason in unresolved)
        states.append(condition("ResolvedRefs", False, code, message))
    else:
        states.append(condition("ResolvedRefs", True, "ResolvedRefs", "all references are resolved"))
    partial = context.notes + [str(reason) for reason in context.problems if reason.code in _OF_POLICIES]
    if partial:
        states.append(condition("PartiallyInvalid", True, "UnsupportedValue", "; ".join(partial)))
    return entry(outcome, states)


def _accepted(
    outcome: ParentOutcome, context: RuleContext, told: str, refused: Sequence[str]
) -> dict[str, Any]:
    if outcome.accepted and refused:
        return condition("Accepted", False, "UnsupportedValue", "; ".join(refused))
    if outcome.accepted and context.rules and context.broken_rules == context.rules:
        return condition("Accepted", False, "UnsupportedValue", "; ".join(context.notes))
    return condition("Accepted", outcome.accepted, outcome.reason, told or outcome.message)


def entry(outcome: ParentOutcome, states: list[dict[str, Any]]) -> dict[str, Any]:
    """An entry of `status.parents` with these conditions."""
    reference = msgspec.to_builtins(outcome.parent)
    return {
        "parentRef": {key: value for key, value in reference.items() if value is not None},
        "controllerName": outcome.controller,
        "conditions": states,
    }


def has_stale_parents(status: RouteStatus | None, controllers: Sequence[str]) -> bool:
    """Whether a route that has no parent of ours any more still says something of one."""
    return status is not None and any(item.controller_name in controllers for item in status.parents)
