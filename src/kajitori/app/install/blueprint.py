"""The objects of an installation, with choices left open: accounts and rights, Deployments, what surrounds them.

Each component has an account of its own with the rights that its rooms list, no more. Nothing here is a Secret: the
leader of the gateway makes its certificates itself. Pure; `templating` fills it in or writes the chart.
"""

from __future__ import annotations

import json
from typing import Any

from kajitori import __version__
from kajitori.api.leaderworkerset.policies import policies
from kajitori.app.install.templating import Each, If, Item, Joined, Json, Namespace, Spliced, Sum, Text, Value
from kajitori.app.standby import status_name
from kajitori.app.upstream import watch_rules
from kajitori.gateway import rbac as gateway_rbac
from kajitori.gateway.accounting.folders import ACCESS_LOG, ACCOUNTANT, LEDGER_FOLDER, LOG_FOLDER
from kajitori.gateway.accounting.header_attributes import BASE, METRICS, SPANS
from kajitori.gateway.envoy.bootstrap import (
    CERTIFICATE_FOLDER,
    FLEET_FOLDER,
    SOCKET_FOLDER,
    fleet_bootstrap,
    fleet_secrets,
)
from kajitori.gateway.fleet.identity import CLIENT_SECRET, SECRET_NAMES, SERVER_SERVICE
from kajitori.gateway.observed import OUR_CONTROLLER
from kajitori.groups import rbac as groups_rbac
from kajitori.scheduling import rbac as scheduling_rbac

CONTROLLERS, GATEWAY, ENVOY = "kajitori-controllers", SERVER_SERVICE, "kajitori-envoy"
PART_OF = {"app.kubernetes.io/part-of": "kajitori"}
METRICS_PORT, DISCOVERY_PORT, PROBE_PORT = 8080, 18_000, 19_003
# Beside Envoy, whose listeners are the users' to choose: 8080 is the one that they choose most.
ACCOUNTANT_PORT = 19_004
# Any that is not root's; files in volumes belong to the group.
USER = 65_532
_SERVER_PLACEHOLDER = "SERVER-NAME"


def labels(component: str) -> dict[str, str]:
    """What every object of ours carries."""
    return {
        **PART_OF,
        "app.kubernetes.io/name": f"kajitori-{component}" if component else "kajitori",
        "app.kubernetes.io/version": __version__,
    }


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


def _metadata(name: str, component: str, *, namespaced: bool = True, **more: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if namespaced:
        metadata["namespace"] = Namespace()
    return {**metadata, "labels": labels(component), **more}


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
    lease = _lease_rules(CONTROLLERS)
    gates = [If("groups.gangGates", "--no-gang-gates", negated=True)]
    return [
        *_account(
            CONTROLLERS,
            "controllers",
            [
                *groups_rbac.RULES,
                *(If("groups.gangGates", rule) for rule in scheduling_rbac.RULES),
                *(If("groups.inPlaceRestart", rule) for rule in groups_rbac.IN_PLACE_RULES),
                *watch_rules("controllers"),
            ],
            [*lease, _status_rule("controllers")],
        ),
        _status_map("controllers"),
        *(
            {**policy, "metadata": {**policy["metadata"], "labels": labels("controllers")}}
            for policy in policies()
        ),
        _deployment("controllers", "groups", _process("controllers", "groups", gates, []), []),
        *_guards("controllers", {METRICS_PORT: None}),
    ]


def _gateway() -> list[Any]:
    rules = [*gateway_rbac.RULES, *watch_rules("gateway")]
    own = [
        *_lease_rules(GATEWAY),
        _status_rule("gateway"),
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
        *_account(GATEWAY, "gateway", rules, own, annotations="gateway.serviceAccountAnnotations"),
        *_secret_rights(),
        _status_map("gateway"),
        _deployment("gateway", "gateway", _process("gateway", "gateway", arguments, []), []),
        _discovery_service(),
        *_guards("gateway", {METRICS_PORT: None, DISCOVERY_PORT: ENVOY}),
        *_envoy(),
        _gateway_class(),
    ]


def _account(
    name: str, component: str, rules: list[Any], own: list[dict[str, Any]], annotations: str = ""
) -> list[dict[str, Any]]:
    """A service account, its rights everywhere, and those in the namespace of the installation.

    annotations: path of the value that has the account's.
    """
    more: dict[str, Any] = {"annotations": If(annotations, Value(annotations))} if annotations else {}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(name, component, **more)},
        _role("ClusterRole", name, component, rules),
        _binding("ClusterRoleBinding", name, component),
        _role("Role", name, component, own),
        _binding("RoleBinding", name, component),
    ]


def _role(kind: str, name: str, component: str, rules: list[Any]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": _metadata(name, component, namespaced=kind == "Role"),
        "rules": rules,
    }


def _binding(kind: str, name: str, component: str, role: str = "", role_kind: str = "") -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": _metadata(name, component, namespaced=kind == "RoleBinding"),
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": role_kind or kind.removesuffix("Binding"),
            "name": role or name,
        },
        "subjects": [
            {
                "kind": "ServiceAccount",
                "name": f"kajitori-{component}",
                "namespace": Namespace(),
            }
        ],
    }


def _lease_rules(name: str) -> list[dict[str, Any]]:
    group = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
    return [{**group, "verbs": ["create"]}, {**group, "resourceNames": [name], "verbs": ["get", "update"]}]


def _status_rule(component: str) -> dict[str, Any]:
    return {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": [status_name(component)],
        "verbs": ["patch"],
    }


def _status_map(component: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            **_metadata(status_name(component), component),
            "annotations": {"kajitori.dev/written-by": f"the leader of kajitori-{component}"},
        },
    }


def _secret_rights() -> list[Any]:
    """Everywhere, or by a Role in each namespace that was named."""
    name = f"{GATEWAY}-secrets"
    everywhere = [
        _role("ClusterRole", name, "gateway", gateway_rbac.SECRET_RULES),
        _binding("ClusterRoleBinding", name, "gateway"),
    ]
    here: list[Any] = [
        {**_role("Role", name, "gateway", gateway_rbac.SECRET_RULES)},
        _binding("RoleBinding", name, "gateway"),
    ]
    for document in here:
        document["metadata"] = {**document["metadata"], "namespace": Item()}
    return [
        *(If("gateway.secretNamespaces", document, negated=True) for document in everywhere),
        *(Each("gateway.secretNamespaces", document) for document in here),
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
        "selector": _selector("envoy"),
    }
    body = json.dumps(fixed, separators=(",", ":"))[1:-1].replace("%", "%%")
    members = ",".join(f'"{name}":%s' for name in spec)
    return Text(
        f'--front={{{body},"annotations":%s,"spec":{{{members}}}}}',
        (Json("envoy.service.annotations"), *(Json(f"envoy.service.{path}") for path in spec.values())),
    )


def _selector(component: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": f"kajitori-{component}"}


def _image(path: str) -> Text:
    return Text("%s:%s", (Value(f"{path}.repository"), Value(f"{path}.tag")))


_LOCKED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def _process(
    component: str, values: str, arguments: list[Any], mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    """The container of `kaji serve COMPONENT`."""
    return {
        "name": component,
        "image": _image("image"),
        "imagePullPolicy": Value("image.pullPolicy"),
        "command": ["kaji", "serve", component],
        "args": [
            f"--endpoint=0.0.0.0:{METRICS_PORT}",
            *(
                Text(f"--{flag}-seconds=%s", (Value(f"leaderElection.{path}"),))
                for flag, path in (
                    ("lease", "leaseSeconds"),
                    ("renew-deadline", "renewDeadlineSeconds"),
                    ("retry", "retrySeconds"),
                )
            ),
            If(f"{values}.yieldToUpstream", "--ignore-upstream", negated=True),
            *arguments,
        ],
        "env": [
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.{path}"}}}
            for name, path in (("POD_NAME", "name"), ("POD_NAMESPACE", "namespace"))
        ]
        # Few threads: more arenas of the allocator would only be memory that is never given back.
        + [{"name": "MALLOC_ARENA_MAX", "value": "2"}]
        + (_header_attributes() if component == "gateway" else []),
        "ports": [
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
            *(
                [{"name": "discovery", "containerPort": DISCOVERY_PORT, "protocol": "TCP"}]
                if component == "gateway"
                else ()
            ),
        ],
        "startupProbe": _probe("/healthz", METRICS_PORT, periodSeconds=2, failureThreshold=60),
        "livenessProbe": _probe("/healthz", METRICS_PORT, periodSeconds=20, failureThreshold=3),
        "readinessProbe": _probe("/readyz", METRICS_PORT, periodSeconds=5, failureThreshold=2),
        "resources": _resources(values),
        "securityContext": _LOCKED,
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}, *mounts],
    }


def _resources(values: str) -> dict[str, Any]:
    return {
        "requests": Value(f"{values}.resources.requests"),
        "limits": Value(f"{values}.resources.limits"),
    }


def _probe(path: str, port: int, **more: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}, "timeoutSeconds": 5, **more}


def _deployment(
    component: str,
    values: str,
    container: dict[str, Any],
    volumes: list[dict[str, Any]],
    **pod: Any,
) -> dict[str, Any]:
    """Pods that are locked down, spread over nodes, and replaced one by one."""
    name = f"kajitori-{component}"
    annotations = {"kubectl.kubernetes.io/default-container": container["name"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(name, component),
        "spec": {
            "replicas": Value(f"{values}.replicas"),
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": _selector(component)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels(component), "annotations": annotations},
                "spec": {
                    "serviceAccountName": name,
                    "priorityClassName": Value("priorityClass.name"),
                    "imagePullSecrets": Value("imagePullSecrets"),
                    "nodeSelector": Value(f"{values}.placement.nodeSelector"),
                    "tolerations": Value(f"{values}.placement.tolerations"),
                    "affinity": Value(f"{values}.placement.affinity"),
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": USER,
                        "runAsGroup": USER,
                        "fsGroup": USER,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "topologySpreadConstraints": [
                        {
                            "maxSkew": 1,
                            "topologyKey": key,
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "labelSelector": {"matchLabels": _selector(component)},
                        }
                        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
                    ],
                    "terminationGracePeriodSeconds": 30,
                    **pod,
                    "containers": [container],
                    "volumes": [{"name": "scratch", "emptyDir": {}}, *volumes],
                },
            },
        },
    }


def _discovery_service() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(GATEWAY, "gateway"),
        "spec": {
            "selector": _selector("gateway"),
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
                "metadata": _metadata(name, component),
                "spec": {
                    "podSelector": {"matchLabels": _selector(component)},
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
                "metadata": _metadata(name, component),
                "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _selector(component)}},
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


def _envoy_container() -> dict[str, Any]:
    return {
        "name": "envoy",
        "image": _image("envoy.image"),
        "imagePullPolicy": Value("envoy.image.pullPolicy"),
        "command": ["envoy"],
        "args": [
            "--config-path",
            f"{FLEET_FOLDER}/bootstrap.json",
            "--service-cluster",
            "kajitori",
            "--service-node",
            "$(POD_NAME)",
            "--concurrency",
            Text("%s", (Value("envoy.concurrency"),)),
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "--component-log-level",
            "misc:error,main:error",
            # What the accountant reads.
            "--file-flush-interval-msec",
            "100",
        ],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [{"name": "probes", "containerPort": PROBE_PORT, "protocol": "TCP"}],
        "startupProbe": _probe("/ready", PROBE_PORT, periodSeconds=2, failureThreshold=60),
        "livenessProbe": {
            "tcpSocket": {"port": PROBE_PORT},
            "timeoutSeconds": 5,
            "periodSeconds": 20,
            "failureThreshold": 3,
        },
        "readinessProbe": _probe("/ready", PROBE_PORT, periodSeconds=5, failureThreshold=2),
        # Load balancers stop sending before it ends; what is open goes on meanwhile.
        "lifecycle": {
            "preStop": {"exec": {"command": ["sleep", Text("%s", (Value("envoy.drainSeconds"),))]}}
        },
        "resources": _resources("envoy"),
        "securityContext": _LOCKED,
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/tmp"},
            {"name": "sockets", "mountPath": SOCKET_FOLDER},
            {"name": "access-log", "mountPath": LOG_FOLDER},
            {"name": "configuration", "mountPath": FLEET_FOLDER, "readOnly": True},
            {"name": "certificates", "mountPath": CERTIFICATE_FOLDER, "readOnly": True},
        ],
    }


def _header_attributes() -> list[dict[str, Any]]:
    """For who tells Envoy which headers to keep, and for who tells them on."""
    choices = (
        (BASE, "requestHeaderAttributes"),
        (SPANS, "spanRequestHeaderAttributes"),
        (METRICS, "metricsRequestHeaderAttributes"),
    )
    return [{"name": name, "value": Value(f"gateway.{path}")} for name, path in choices]


def _accountant_container() -> dict[str, Any]:
    """A container that starts before Envoy and ends after it, so that it books the last requests too."""
    return {
        "name": ACCOUNTANT,
        "image": _image("image"),
        "imagePullPolicy": Value("image.pullPolicy"),
        "restartPolicy": "Always",
        "command": ["kaji", "serve", ACCOUNTANT],
        "args": [
            f"--endpoint=0.0.0.0:{ACCOUNTANT_PORT}",
            Text(f"--control-plane={GATEWAY}.%s.svc:{DISCOVERY_PORT}", (Namespace(),)),
        ],
        "env": [
            {"name": "MALLOC_ARENA_MAX", "value": "2"},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            # Where gateways count together; without it each counts for itself.
            {
                "name": "KAJITORI_LIMITS_STORE",
                "valueFrom": {"secretKeyRef": {"name": "kajitori-limits", "key": "store", "optional": True}},
            },
            *_header_attributes(),
            Spliced("envoy.accountant.env"),
        ],
        "ports": [{"name": "metrics", "containerPort": ACCOUNTANT_PORT, "protocol": "TCP"}],
        # Whether it knows its policy keeps nobody from being served, so there is no probe of readiness.
        "startupProbe": _probe("/healthz", ACCOUNTANT_PORT, periodSeconds=2, failureThreshold=60),
        "livenessProbe": _probe("/healthz", ACCOUNTANT_PORT, periodSeconds=20, failureThreshold=3),
        "resources": _resources("envoy.accountant"),
        "securityContext": _LOCKED,
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/tmp"},
            {"name": "sockets", "mountPath": SOCKET_FOLDER},
            {"name": "access-log", "mountPath": LOG_FOLDER},
            {"name": "ledger", "mountPath": LEDGER_FOLDER},
            {"name": "certificates", "mountPath": CERTIFICATE_FOLDER, "readOnly": True},
        ],
    }


def _envoy() -> list[Any]:
    volumes = [
        {"name": "sockets", "emptyDir": {}},
        {"name": "access-log", "emptyDir": {}},
        {"name": "ledger", "emptyDir": {"sizeLimit": Value("envoy.accountant.ledgerSize")}},
        {"name": "configuration", "configMap": {"name": ENVOY}},
        # The pod waits until the gateway's leader has made it.
        {"name": "certificates", "secret": {"secretName": CLIENT_SECRET}},
    ]
    deployment = _deployment(
        "envoy",
        "envoy",
        _envoy_container(),
        volumes,
        automountServiceAccountToken=False,
        terminationGracePeriodSeconds=Sum("envoy.drainSeconds", 15),
        initContainers=[_accountant_container()],
    )
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": _metadata(ENVOY, "envoy"),
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _metadata(ENVOY, "envoy"),
            "data": envoy_files(),
        },
        deployment,
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
