"""The objects of an installation, with choices left open; `accounts` and `pods` make the larger ones. Pure.

Nothing here is a Secret: the leader of the gateway makes its certificates itself. `templating` fills the choices in or
writes the chart.
"""

from __future__ import annotations

import json
from typing import Any

from kajitori.api.leaderworkerset.policies import policies
from kajitori.app.install.accounts import account, lease_rules, secret_rights, status_map, status_rule
from kajitori.app.install.naming import (
    CONTROLLERS,
    DISCOVERY_PORT,
    ENVOY,
    GATEWAY,
    METRICS_PORT,
    PROBE_PORT,
    labels,
    metadata,
    selector,
)
from kajitori.app.install.pods import accountant_container, deployment, envoy_container, process
from kajitori.app.install.templating import If, Joined, Json, Namespace, Sum, Text, Value
from kajitori.app.upstream import watch_rules
from kajitori.gateway import rbac as gateway_rbac
from kajitori.gateway.accounting.folders import ACCESS_LOG
from kajitori.gateway.envoy.bootstrap import fleet_bootstrap, fleet_secrets
from kajitori.gateway.fleet.identity import CLIENT_SECRET, SECRET_NAMES
from kajitori.gateway.observed import OUR_CONTROLLER
from kajitori.groups import rbac as groups_rbac
from kajitori.scheduling import rbac as scheduling_rbac

_SERVER_PLACEHOLDER = "SERVER-NAME"


def namespace_object(name: str) -> dict[str, Any]:
    """The namespace, which lets in nothing that asks for privileges. Helm makes its own, so the chart has none."""
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {**labels(""), **levels}},
    }


def blueprint() -> list[Any]:
    """Every object but the namespace and the CustomResourceDefinitions, in the order in which they are applied."""
    controllers = [If("groups.enabled", each) for each in _controllers()]
    gateway = [If("gateway.enabled", each) for each in _gateway()]
    return [_priority_class(), *controllers, *gateway]


def _priority_class() -> If:
    return If(
        "priorityClass.create",
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": Value("priorityClass.name"), "labels": labels("")},
            "value": Value("priorityClass.value"),
            "globalDefault": False,
            "description": "Kajitori's own pods: without them the workloads that they serve are not reached.",
        },
    )


def _controllers() -> list[Any]:
    lease = lease_rules(CONTROLLERS)
    gates = [If("groups.gangGates", "--no-gang-gates", negated=True)]
    return [
        *account(
            CONTROLLERS,
            "controllers",
            [
                *groups_rbac.RULES,
                *(If("groups.gangGates", rule) for rule in scheduling_rbac.RULES),
                *(If("groups.inPlaceRestart", rule) for rule in groups_rbac.IN_PLACE_RULES),
                *watch_rules("controllers"),
            ],
            [*lease, status_rule("controllers")],
        ),
        status_map("controllers"),
        *(
            {**policy, "metadata": {**policy["metadata"], "labels": labels("controllers")}}
            for policy in policies()
        ),
        deployment("controllers", "groups", process("controllers", "groups", gates, []), []),
        *_guards("controllers", {METRICS_PORT: None}),
    ]


def _gateway() -> list[Any]:
    rules = [*gateway_rbac.RULES, *watch_rules("gateway")]
    own = [
        *lease_rules(GATEWAY),
        status_rule("gateway"),
        *gateway_rbac.fleet_rules(list(SECRET_NAMES), ENVOY, ENVOY),
    ]
    arguments = [
        f"--discovery=0.0.0.0:{DISCOVERY_PORT}",
        "--cache=/tmp/cache",
        f"--access-log={ACCESS_LOG}",
        _front_argument(),
        If("gateway.secretNamespaces", Text("--secret-namespaces=%s", (Joined("gateway.secretNamespaces"),))),
    ]
    return [
        *account(GATEWAY, "gateway", rules, own, annotations="gateway.serviceAccountAnnotations"),
        *secret_rights(),
        status_map("gateway"),
        deployment("gateway", "gateway", process("gateway", "gateway", arguments, []), []),
        _discovery_service(),
        *_guards("gateway", {METRICS_PORT: None, DISCOVERY_PORT: ENVOY}),
        *_envoy(),
        _gateway_class(),
    ]


def _front_argument() -> Text:
    spec = {
        "externalTrafficPolicy": "externalTrafficPolicy",
        "loadBalancerClass": "loadBalancerClass",
        "loadBalancerSourceRanges": "loadBalancerSourceRanges",
        "type": "type",
    }
    fixed = {
        "deployment": ENVOY,
        "labels": labels("envoy"),
        "name": ENVOY,
        "selector": selector("envoy"),
    }
    body = json.dumps(fixed, separators=(",", ":"))[1:-1].replace("%", "%%")
    members = ",".join(f'"{name}":%s' for name in spec)
    return Text(
        f'--front={{{body},"annotations":%s,"spec":{{{members}}}}}',
        (Json("envoy.service.annotations"), *(Json(f"envoy.service.{path}") for path in spec.values())),
    )


def _discovery_service() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(GATEWAY, "gateway"),
        "spec": {
            "selector": selector("gateway"),
            "ports": [
                {
                    "name": "discovery",
                    "port": DISCOVERY_PORT,
                    "targetPort": DISCOVERY_PORT,
                    "protocol": "TCP",
                }
            ],
        },
    }


def _guards(component: str, ports: dict[int, str | None]) -> list[If]:
    """What keeps a component up and others out. ports: who may come in, None for all.

    What goes out is not limited: where the API server is differs from cluster to cluster.
    """
    name = f"kajitori-{component}"
    ingress: list[dict[str, Any]] = []
    for port, peer in ports.items():
        rule: dict[str, Any] = {"ports": [{"port": port, "protocol": "TCP"}]}
        if peer is not None:
            rule["from"] = [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": peer}}}]
        ingress.append(rule)
    if not ports:
        ingress = [{}]
    return [
        If(
            "networkPolicies.enabled",
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": metadata(name, component),
                "spec": {
                    "podSelector": {"matchLabels": selector(component)},
                    "policyTypes": ["Ingress"],
                    "ingress": ingress,
                },
            },
        ),
        If(
            "podDisruptionBudgets.enabled",
            {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": metadata(name, component),
                "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(component)}},
            },
        ),
    ]


def envoy_files() -> dict[str, Any]:
    """The files of the fleet's ConfigMap; the name of the control plane has the namespace in it."""
    documents = {
        "bootstrap.json": fleet_bootstrap(_SERVER_PLACEHOLDER, DISCOVERY_PORT, PROBE_PORT),
        **fleet_secrets(_SERVER_PLACEHOLDER),
    }
    server = f"{GATEWAY}.%s.svc"
    files: dict[str, Any] = {}
    for name, document in documents.items():
        text = json.dumps(document, indent=1) + "\n"
        form = text.replace("%", "%%").replace(_SERVER_PLACEHOLDER, server)
        files[name] = Text(form, (Namespace(),) * form.count(server)) if server in form else text
    return files


def _envoy() -> list[Any]:
    volumes = [
        {"name": "sockets", "emptyDir": {}},
        {"name": "access-log", "emptyDir": {}},
        {"name": "ledger", "emptyDir": {"sizeLimit": Value("envoy.accountant.ledgerSize")}},
        {"name": "configuration", "configMap": {"name": ENVOY}},
        # The pod waits until the gateway's leader has made it.
        {"name": "certificates", "secret": {"secretName": CLIENT_SECRET}},
    ]
    pods = deployment(
        "envoy",
        "envoy",
        envoy_container(),
        volumes,
        automountServiceAccountToken=False,
        terminationGracePeriodSeconds=Sum("envoy.drainSeconds", 15),
        initContainers=[accountant_container()],
    )
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata(ENVOY, "envoy"),
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(ENVOY, "envoy"),
            "data": envoy_files(),
        },
        pods,
        *_guards("envoy", {}),
    ]


def _gateway_class() -> If:
    return If(
        "gateway.className",
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": Value("gateway.className"), "labels": labels("gateway")},
            "spec": {"controllerName": OUR_CONTROLLER},
        },
    )
