"""Statuses of what routes refer to, whether a route does or not: AIServiceBackends, their policies, Backends. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.base.reason import Reason
from kajitori.gateway.backends.targets import find_backend
from kajitori.gateway.conditions import ai_status, condition
from kajitori.gateway.credentials.injection import Injection, resolve_policy
from kajitori.gateway.routes.ai_routes import find_target

if TYPE_CHECKING:
    from kajitori.api.aigateway.v1beta1 import AIServiceBackend, BackendSecurityPolicy
    from kajitori.gateway.observed import Index


def ai_backend_status(index: Index, backend: AIServiceBackend) -> dict[str, Any]:
    target = find_target(index, backend)
    problems = [target.message] if isinstance(target, Reason) else []
    notes = [] if isinstance(target, Reason) else list(target.notes)
    return ai_status(problems, notes, "the backend can be used")


def security_policy_status(index: Index, policy: BackendSecurityPolicy) -> dict[str, Any]:
    found = resolve_policy(index, policy)
    problems = [found.message] if isinstance(found, Reason) else []
    notes = [] if isinstance(found, Reason) else list(found.notes)
    for ref in policy.spec.target_refs:
        rivals = index.policies.get((policy.metadata.namespace or "", ref.name), [])
        if ref.kind == "AIServiceBackend" and len(rivals) > 1:
            names = ", ".join(sorted(item.metadata.name or "" for item in rivals))
            problems.append(f"AIServiceBackend {ref.name} has several policies: {names}; keep one")
    if any(target.kind == "InferencePool" for target in policy.spec.target_refs):
        notes.append("targets of kind InferencePool are not served")
    return ai_status(problems, notes, _how_proved(found))


def backend_status(index: Index, namespace: str, name: str) -> dict[str, Any]:
    target = find_backend(index, namespace, name)
    if isinstance(target, Reason):
        return {"conditions": [condition("Accepted", False, "Invalid", target.message)]}
    told = "; ".join(target.notes) or "the backend can be used"
    return {"conditions": [condition("Accepted", True, "Accepted", told)]}


def _how_proved(found: Injection | Reason) -> str:
    if isinstance(found, Injection) and found.secret is None:
        return "each request brings its own credential"
    return "the credential is there"
