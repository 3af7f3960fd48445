"""Policies and what they attach to, for tests that run no Envoy."""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.api.envoygateway.policy import Policy
from kajitori.gateway.observed import Index
from kajitori.gateway.policies.attachment import PolicyAttachment
from kajitori.gateway.policies.subjects import Subjects
from kajitori.gateway.routes.attachment import Attachment

from ..workbench import observe

GROUP = "gateway.networking.k8s.io"


def policy(name: str, *targets: Any, created: str = "", namespace: str = "default", **spec: Any) -> Policy:
    """targets: each `Kind/name` or `Kind/name/section`."""
    refs: list[dict[str, Any]] = []
    for target in targets:
        kind, target_name, *section = target.split("/")
        refs.append({"group": GROUP, "kind": kind, "name": target_name})
        refs[-1] |= {"sectionName": section[0]} if section else {}
    document = {
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created or None},
        "spec": {**({"targetRefs": refs} if refs else {}), **spec},
    }
    return msgspec.convert(document, Policy)


def gateway(name: str = "gateway", listeners: tuple[str, ...] = ("http",), **metadata: Any) -> dict[str, Any]:
    return {
        "kind": "Gateway",
        "metadata": {"name": name, **metadata},
        "spec": {
            "gatewayClassName": "kajitori",
            "listeners": [
                {"name": listener, "protocol": "HTTP", "port": 8000 + number}
                for number, listener in enumerate(listeners)
            ],
        },
    }


def http_route(
    name: str, *parents: str, rules: tuple[str, ...] = (), kind: str = "HTTPRoute", **metadata: Any
) -> dict[str, Any]:
    """parents: each `gateway` or `gateway/listener`."""
    refs: list[dict[str, Any]] = []
    for parent in parents or ("gateway",):
        gateway_name, *section = parent.split("/")
        refs.append({"name": gateway_name, **({"sectionName": section[0]} if section else {})})
    return {
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": {"parentRefs": refs, "rules": [{"name": rule} for rule in rules]},
    }


def attachment_of(*policies: Policy, objects: list[dict[str, Any]]) -> PolicyAttachment:
    index = Index(observe(*objects))
    return PolicyAttachment("BackendTrafficPolicy", policies, index, Subjects(index, Attachment(index)))
