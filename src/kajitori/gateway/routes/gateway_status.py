"""What the statuses of Gateways and their listeners say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.conditions import condition
from kajitori.gateway.routes.attachment import ROUTE_KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kajitori.api.gateway.v1 import Gateway
    from kajitori.gateway.routes.attachment import Binding


def gateway_status(
    bindings: Sequence[Binding],
    addresses: Sequence[tuple[str, str]],
    rejected: Mapping[int, str],
    envoys: int,
    notes: Sequence[str] = (),
    invalid: str = "",
) -> dict[str, Any]:
    """The status of one Gateway, which is what its listeners come to.

    addresses: type and value of each. rejected: by port, why the listener does not serve. envoys: connected ones.
    notes: what else is to be told. invalid: why the settings that it refers to cannot be used.
    """
    working = [b for b in bindings if b.problem is None and b.listener.port not in rejected]
    conditions = [
        condition("Accepted", False, "InvalidParameters", invalid) if invalid else _accepted(bindings, notes),
        _programmed(bindings, working, addresses, rejected, envoys),
        _resolved(bindings),
    ]
    if lax := _takes_any_client(bindings[0].gateway):
        conditions.append(condition("InsecureFrontendValidationMode", True, "ConfigurationChanged", lax))
    return {
        "addresses": [{"type": kind, "value": value} for kind, value in addresses if working],
        "conditions": conditions,
        "listeners": [_listener_status(binding, rejected) for binding in bindings],
    }


def _accepted(bindings: Sequence[Binding], notes: Sequence[str]) -> dict[str, Any]:
    valid = [binding for binding in bindings if not _why_not_accepted(binding)]
    whole = len(valid) == len(bindings)
    told = "the Gateway is served by Kajitori"
    if not whole:
        reasons = "; ".join(
            f"listener {binding.listener.name}: {why[1]}"
            for binding in bindings
            if (why := _why_not_accepted(binding))
        )
        told = f"some listeners cannot serve: {reasons}"
    message = "; ".join([told, *_unhonoured(bindings[0].gateway), *notes])
    return condition("Accepted", bool(valid), "Accepted" if whole else "ListenersNotValid", message)


def _programmed(
    bindings: Sequence[Binding],
    working: Sequence[Binding],
    addresses: Sequence[tuple[str, str]],
    rejected: Mapping[int, str],
    envoys: int,
) -> dict[str, Any]:
    if not envoys:
        return condition("Programmed", False, "Pending", "no Envoy is connected")
    if working and not addresses:
        told = "the Service in front of Envoy has no address yet"
        return condition("Programmed", False, "AddressNotAssigned", told)
    if len(working) == len(bindings):
        return condition("Programmed", True, "Programmed", "every listener serves")
    why = _why_not(bindings, rejected)
    if working:
        return condition("Programmed", True, "Programmed", f"some listeners serve, others do not: {why}")
    return condition("Programmed", False, "Invalid", why)


def _resolved(bindings: Sequence[Binding]) -> dict[str, Any]:
    unresolved = [
        f"listener {binding.listener.name}: {told[1]}"
        for binding in bindings
        if (told := _unresolved(binding))
    ]
    if unresolved:
        return condition("ResolvedRefs", False, "ListenersNotResolved", "; ".join(unresolved))
    return condition("ResolvedRefs", True, "ResolvedRefs", "all references are resolved")


def _why_not(bindings: Sequence[Binding], rejected: Mapping[int, str]) -> str:
    """Of each listener that does not serve its name and the reason."""
    reasons = (
        (
            binding.listener.name,
            binding.problem[1] if binding.problem else rejected.get(binding.listener.port),
        )
        for binding in bindings
    )
    return "; ".join(f"listener {name}: {reason}" for name, reason in reasons if reason)


def _takes_any_client(gateway: Gateway) -> str:
    """Where certificates of clients are asked for and any will do, in words."""
    frontend = gateway.spec.tls.frontend if gateway.spec.tls else None
    if frontend is None:
        return ""
    named = [("default", frontend.default), *((f"port {item.port}", item.tls) for item in frontend.per_port)]
    lax = [name for name, tls in named if tls.validation and tls.validation.mode == "AllowInsecureFallback"]
    return f"clients may come with any certificate, or none: {', '.join(lax)}" if lax else ""


def _unhonoured(gateway: Gateway) -> list[str]:
    """The fields of a Gateway that change nothing here."""
    found: list[str] = []
    spec = gateway.spec
    if spec.addresses:
        found.append("spec.addresses is not honoured: listeners bind the address that this process was given")
    infrastructure = spec.infrastructure
    if infrastructure is not None and (infrastructure.labels or infrastructure.annotations):
        found.append("labels and annotations of spec.infrastructure are not honoured")
    if spec.tls is not None and spec.tls.backend is not None:
        found.append("spec.tls.backend is not honoured: name the client's certificate in the Backend")
    if spec.allowed_listeners is not None:
        found.append("spec.allowedListeners is not honoured: ListenerSets are not served")
    if spec.default_scope is not None:
        found.append("spec.defaultScope is not honoured: routes name their Gateways")
    return found


def _why_not_accepted(binding: Binding) -> tuple[str, str] | None:
    """Reason and message."""
    if binding.unsupported or binding.conflict:
        return binding.unsupported or binding.conflict
    return next(((fault.accepted, fault.message) for fault in binding.faults if fault.accepted), None)


def _unresolved(binding: Binding) -> tuple[str, str] | None:
    """Reason and message of references of a listener that lead nowhere."""
    faults = [fault for fault in binding.faults if fault.resolved]
    unknown = _unknown_kinds(binding)
    if not faults and not unknown:
        return None
    messages = [fault.message for fault in faults]
    if unknown:
        messages.append(f"kinds not served: {', '.join(unknown)}")
    return faults[0].resolved if faults else "InvalidRouteKinds", "; ".join(messages)


def _unknown_kinds(binding: Binding) -> list[str]:
    kinds = binding.listener.allowed_routes.kinds
    return [kind.kind for kind in kinds if (kind.group, kind.kind) not in ROUTE_KINDS]


def _listener_status(binding: Binding, rejected: Mapping[int, str]) -> dict[str, Any]:
    listener = binding.listener
    refused = rejected.get(listener.port)
    if why := _why_not_accepted(binding):
        accepted = condition("Accepted", False, *why)
    else:
        told = "the listener is served"
        if listener.tls and listener.tls.options:
            told += f"; tls.options is not honoured: {', '.join(sorted(listener.tls.options))}"
        accepted = condition("Accepted", True, "Accepted", told)
    if binding.problem or refused:
        message = binding.problem[1] if binding.problem else refused or ""
        programmed = condition("Programmed", False, "Invalid", message)
    else:
        programmed = condition("Programmed", True, "Programmed", "Envoy listens")
    unresolved = _unresolved(binding)
    states = [
        accepted,
        programmed,
        condition("ResolvedRefs", False, *unresolved)
        if unresolved
        else condition("ResolvedRefs", True, "ResolvedRefs", "all references are resolved"),
        condition("Conflicted", True, *binding.conflict)
        if binding.conflict
        else condition("Conflicted", False, "NoConflicts", "the listener shares its port with others well"),
    ]
    if binding.overlap:
        states.append(condition("OverlappingTLSConfig", True, "OverlappingHostnames", binding.overlap))
    kinds = listener.allowed_routes.kinds
    served = ROUTE_KINDS if not binding.unsupported else ()
    supported = [
        item for item in served if not kinds or any(item == (kind.group, kind.kind) for kind in kinds)
    ]
    return {
        "name": listener.name,
        "supportedKinds": [{"group": group, "kind": kind} for group, kind in supported],
        "attachedRoutes": binding.attached_routes,
        "conditions": states,
    }
