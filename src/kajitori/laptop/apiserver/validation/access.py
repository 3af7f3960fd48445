"""Rules of roles and of the bindings that grant them."""

from __future__ import annotations

from typing import Any

from kajitori.laptop.apiserver.status import (
    FieldError,
    invalid_value,
    required,
    unsupported_value,
)
from kajitori.laptop.apiserver.validation.names import (
    dns_subdomain,
    path_segment,
)

Object = dict[str, Any]

_RBAC_GROUP = "rbac.authorization.k8s.io"


def role_errors(new: Object, _old: Object | None, _subresource: str) -> list[FieldError]:
    """Rules of a Role or a ClusterRole; only the latter may name URLs that are no resources."""
    errors: list[FieldError] = []
    for index, rule in enumerate(new.get("rules") or ()):
        here = f"rules[{index}]"
        if not rule.get("verbs"):
            errors.append(required(f"{here}.verbs", "verbs must contain at least one value"))
        urls = rule.get("nonResourceURLs")
        if urls:
            if new.get("kind") == "Role":
                text = "namespaced rules cannot apply to non-resource URLs"
                errors.append(invalid_value(f"{here}.nonResourceURLs", urls, text))
            if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                text = "rules cannot apply to both regular resources and non-resource URLs"
                errors.append(invalid_value(f"{here}.nonResourceURLs", urls, text))
            continue
        if not rule.get("apiGroups"):
            text = "resource rules must supply at least one api group"
            errors.append(required(f"{here}.apiGroups", text))
        if not rule.get("resources"):
            text = "resource rules must supply at least one resource"
            errors.append(required(f"{here}.resources", text))
    return errors


def _subject_errors(subject: Object, path: str, *, namespaced: bool) -> list[FieldError]:
    kind, name, group = subject.get("kind", ""), subject.get("name"), subject.get("apiGroup", "")
    errors = [] if name else [required(f"{path}.name")]
    if kind == "ServiceAccount":
        if name:
            errors += [invalid_value(f"{path}.name", name, message) for message in dns_subdomain(name)]
        if group:
            errors.append(unsupported_value(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            errors.append(required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != _RBAC_GROUP:
            errors.append(unsupported_value(f"{path}.apiGroup", group, (_RBAC_GROUP,)))
    else:
        errors.append(unsupported_value(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))
    return errors


def binding_errors(new: Object, old: Object | None, _subresource: str) -> list[FieldError]:
    """A RoleBinding or a ClusterRoleBinding."""
    role: Object = new.get("roleRef") or {}
    namespaced = new.get("kind") == "RoleBinding"
    kinds = ("Role", "ClusterRole") if namespaced else ("ClusterRole",)
    errors: list[FieldError] = []
    if role.get("apiGroup") != _RBAC_GROUP:
        errors.append(unsupported_value("roleRef.apiGroup", role.get("apiGroup", ""), (_RBAC_GROUP,)))
    if role.get("kind") not in kinds:
        errors.append(unsupported_value("roleRef.kind", role.get("kind", ""), kinds))
    name = role.get("name")
    if not name:
        errors.append(required("roleRef.name"))
    else:
        errors += [invalid_value("roleRef.name", name, message) for message in path_segment(name)]
    for index, subject in enumerate(new.get("subjects") or ()):
        errors += _subject_errors(subject, f"subjects[{index}]", namespaced=namespaced)
    if old is not None and role != old.get("roleRef"):
        errors.append(invalid_value("roleRef", role, "cannot change roleRef"))
    return errors
