"""The rights that the gateway controller needs, and no more.

RULES hold everywhere. SECRET_RULES are needed wherever credentials of backends stand: only Secrets that a policy
refers to are read, which RBAC cannot express, so an installation may grant them in chosen namespaces alone.
"""

from __future__ import annotations

from typing import Any

_READ = ["list", "watch"]
_MAKE = ["get", "create", "patch", "delete"]
_GATEWAY = "gateway.networking.k8s.io"
_ENVOY = "gateway.envoyproxy.io"
_AI = "aigateway.envoyproxy.io"
_OURS = "gateway.kajitori.dev"

RULES: list[dict[str, Any]] = [
    {
        "apiGroups": [_GATEWAY],
        "resources": [
            "gatewayclasses",
            "gateways",
            "httproutes",
            "grpcroutes",
            "referencegrants",
            "backendtlspolicies",
        ],
        "verbs": _READ,
    },
    {
        "apiGroups": [_GATEWAY],
        "resources": [
            "gatewayclasses/status",
            "gateways/status",
            "httproutes/status",
            "grpcroutes/status",
            "backendtlspolicies/status",
        ],
        "verbs": ["patch"],
    },
    {
        "apiGroups": [_ENVOY],
        "resources": [
            "backends",
            "httproutefilters",
            "backendtrafficpolicies",
            "clienttrafficpolicies",
            "envoyproxies",
            "securitypolicies",
        ],
        "verbs": _READ,
    },
    {
        "apiGroups": [_ENVOY],
        "resources": [
            "backends/status",
            "backendtrafficpolicies/status",
            "clienttrafficpolicies/status",
            "envoyproxies/status",
            "securitypolicies/status",
        ],
        "verbs": ["patch"],
    },
    {
        "apiGroups": [_AI],
        "resources": [
            "aigatewayroutes",
            "aiservicebackends",
            "backendsecuritypolicies",
            "quotapolicies",
            "gatewayconfigs",
        ],
        "verbs": _READ,
    },
    {
        "apiGroups": [_AI],
        "resources": [
            "aigatewayroutes/status",
            "aiservicebackends/status",
            "backendsecuritypolicies/status",
            "quotapolicies/status",
            "gatewayconfigs/status",
        ],
        "verbs": ["patch"],
    },
    # What stands for AIGatewayRoutes is made, and taken away again.
    {"apiGroups": [_GATEWAY], "resources": ["httproutes"], "verbs": _MAKE},
    {"apiGroups": [_ENVOY], "resources": ["httproutefilters"], "verbs": _MAKE},
    # Where the API server asks who may hold up the deletion of an owner.
    {"apiGroups": [_AI], "resources": ["aigatewayroutes/finalizers"], "verbs": ["update"]},
    {
        "apiGroups": [_OURS],
        "resources": ["apikeys", "tenants", "aitrafficpolicies", "budgets", "pricelists"],
        "verbs": _READ,
    },
    {
        "apiGroups": [_OURS],
        "resources": [
            "apikeys/status",
            "tenants/status",
            "aitrafficpolicies/status",
            "budgets/status",
            "pricelists/status",
        ],
        "verbs": ["patch"],
    },
    {"apiGroups": [""], "resources": ["services", "namespaces", "configmaps"], "verbs": _READ},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READ},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
]
SECRET_RULES: list[dict[str, Any]] = [{"apiGroups": [""], "resources": ["secrets"], "verbs": _READ}]
# On a laptop there is one namespace that matters, and one user.
LAPTOP_RULES = SECRET_RULES


def fleet_rules(secrets: list[str], front: str, envoy: str) -> list[dict[str, Any]]:
    """In the namespace of an installation: certificates, replicas' reports, the Service in front of Envoy.

    secrets: names of the Secrets with certificates. front: of the Service. envoy: of Envoy's Deployment.
    """
    return [
        # A name cannot be asked of a creation; there are no other Secrets in this namespace.
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": secrets, "verbs": [*_READ, "patch"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["services"], "resourceNames": [front], "verbs": ["patch"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": [envoy], "verbs": ["get"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": [*_READ, "create", "patch", "delete"],
        },
    ]
