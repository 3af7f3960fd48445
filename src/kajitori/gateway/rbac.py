"""The rights that the gateway controller needs, and no more."""

from __future__ import annotations

from typing import Any

_READ = ["get", "list", "watch"]
_GATEWAY = "gateway.networking.k8s.io"
_ENVOY = "gateway.envoyproxy.io"
_AI = "aigateway.envoyproxy.io"

RULES: list[dict[str, Any]] = [
    {
        "apiGroups": [_GATEWAY],
        "resources": ["gatewayclasses", "gateways", "httproutes", "referencegrants"],
        "verbs": _READ,
    },
    {
        "apiGroups": [_GATEWAY],
        "resources": ["gatewayclasses/status", "gateways/status", "httproutes/status"],
        "verbs": ["patch"],
    },
    {"apiGroups": [_ENVOY], "resources": ["backends"], "verbs": _READ},
    {"apiGroups": [_ENVOY], "resources": ["backends/status"], "verbs": ["patch"]},
    {
        "apiGroups": [_AI],
        "resources": ["aigatewayroutes", "aiservicebackends", "backendsecuritypolicies"],
        "verbs": _READ,
    },
    {
        "apiGroups": [_AI],
        "resources": [
            "aigatewayroutes/status",
            "aiservicebackends/status",
            "backendsecuritypolicies/status",
        ],
        "verbs": ["patch"],
    },
    # Credentials of backends stand in Secrets of any namespace that has an AIServiceBackend.
    {"apiGroups": [""], "resources": ["secrets", "services", "namespaces"], "verbs": _READ},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READ},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
]
