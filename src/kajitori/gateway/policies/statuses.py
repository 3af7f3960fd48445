"""The status of a policy: one entry for each Gateway that it bears upon, as Envoy Gateway writes it. Pure.

Conditions: `Accepted` (false with Conflicted, TargetNotFound or Invalid), `Overridden` where something more specific
has a policy of its own, `Merged` where two became one, `Warning` for fields that are not honoured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.api.gateway.shared import GROUP
from kajitori.gateway.conditions import condition
from kajitori.gateway.observed import OUR_CONTROLLER
from kajitori.gateway.policies.attachment import GATEWAY, Scope, more_specific, target_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.envoygateway.policy import Policy
    from kajitori.gateway.policies.attachment import Ancestor, Attached, PolicyAttachment

_MOST_ANCESTORS = 16
# A condition's message may have 32,768 characters; a list of a thousand routes helps nobody anyway.
_MOST_NAMES = 20


def policy_status(
    attachment: PolicyAttachment, policy: Policy, problems: Sequence[str] = (), notes: Sequence[str] = ()
) -> dict[str, Any] | None:
    """The status, or None for a policy that concerns Gateways of other controllers only.

    problems: what keeps the policy from having any effect. notes: what is honoured less than fully.
    """
    unreadable = attachment.unreadable.get(policy.key)
    if unreadable is not None:
        return {"ancestors": [_unreadable(policy, unreadable)]}
    entries: dict[str, dict[str, Any]] = {}
    for attached in attachment.attached.get(policy.key, ()):
        for reference, controller, conditions in _told(attachment, policy, attached, problems, notes):
            key = repr((reference, controller))
            entry = entries.setdefault(
                key, {"ancestorRef": reference, "controllerName": controller, "conditions": []}
            )
            entry["conditions"] = _worse(entry["conditions"], conditions)
    return {"ancestors": _at_most(list(entries.values()))} if entries else None


def _told(
    attachment: PolicyAttachment,
    policy: Policy,
    attached: Attached,
    problems: Sequence[str],
    notes: Sequence[str],
) -> list[tuple[dict[str, Any], str, list[dict[str, Any]]]]:
    """Of each ancestor its reference, its controller and the conditions there."""
    if attached.reason and not attached.ancestors:
        refused = condition("Accepted", False, attached.reason, attached.message)
        return [(target_reference(attached.scope), OUR_CONTROLLER, [refused])]
    if attached.reason:
        states = [condition("Accepted", False, attached.reason, attached.message)]
    elif problems:
        states = [condition("Accepted", False, "Invalid", "; ".join(problems))]
    else:
        states = [condition("Accepted", True, "Accepted", "the policy holds")]
    if notes:
        states.append(condition("Warning", True, "UnsupportedField", "; ".join(notes)))
    found: list[tuple[dict[str, Any], str, list[dict[str, Any]]]] = []
    for ancestor in attached.ancestors:
        more = [] if attached.reason or problems else _relations(attachment, policy, attached.scope, ancestor)
        found.append((_reference(ancestor), ancestor.controller, states + more))
    return found


def _relations(
    attachment: PolicyAttachment, policy: Policy, scope: Scope, ancestor: Ancestor
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    merged: list[str] = []
    hidden: list[str] = []
    for other, theirs in more_specific(attachment, scope):
        merges = scope.kind == GATEWAY != other.kind and theirs.spec.get("mergeType")
        (merged if merges else hidden).append(str(other))
    if scope.kind != GATEWAY and policy.spec.get("mergeType"):
        parent = (
            ancestor.listener and attachment.at(Scope(GATEWAY, *ancestor.gateway, ancestor.listener))
        ) or (attachment.at(Scope(GATEWAY, *ancestor.gateway)))
        if parent:
            found.append(condition("Merged", True, "Merged", f"merged with {'/'.join(parent.key)}"))
    if merged:
        found.append(condition("Merged", True, "Merged", f"merged into the policies of {_listed(merged)}"))
    if hidden:
        found.append(
            condition(
                "Overridden", True, "Overridden", f"policies of their own hold for {_listed(sorted(hidden))}"
            )
        )
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return "; ".join(names[:_MOST_NAMES]) + more


def _reference(ancestor: Ancestor) -> dict[str, Any]:
    return target_reference(Scope(GATEWAY, *ancestor.gateway, ancestor.listener))


def _unreadable(policy: Policy, message: str) -> dict[str, Any]:
    namespace, name = policy.key
    return {
        "ancestorRef": {"group": GROUP, "kind": GATEWAY, "namespace": namespace, "name": name},
        "controllerName": OUR_CONTROLLER,
        "conditions": [condition("Accepted", False, "Invalid", message)],
    }


def _worse(known: list[dict[str, Any]], more: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Conditions of two targets under one ancestor: a refusal beats an acceptance."""
    found = {item["type"]: item for item in known}
    for item in more:
        kept = found.get(item["type"])
        if kept is None or (item["type"] == "Accepted" and item["status"] == "False" != kept["status"]):
            found[item["type"]] = item
        elif kept["message"] != item["message"] and item["status"] == kept["status"]:
            found[item["type"]] = {**kept, "message": f"{kept['message']}; {item['message']}"}
    return list(found.values())


def _at_most(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many as the API takes, those with something bad first."""
    if len(entries) <= _MOST_ANCESTORS:
        return entries
    kept = sorted(entries, key=lambda entry: entry["conditions"][0]["status"] != "False")[:_MOST_ANCESTORS]
    told = condition(
        "Aggregated", True, "Aggregated", f"{len(entries) - _MOST_ANCESTORS} more Gateways are left out here"
    )
    kept[-1] = {**kept[-1], "conditions": [*kept[-1]["conditions"], told]}
    return kept
