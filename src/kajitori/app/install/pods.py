"""Pods of an installation: their containers, and the Deployments that run them, locked down alike. Pure."""

from __future__ import annotations

from typing import Any

from kajitori.app.install.naming import (
    ACCOUNTANT_PORT,
    DISCOVERY_PORT,
    GATEWAY,
    METRICS_PORT,
    PROBE_PORT,
    labels,
    metadata,
    selector,
)
from kajitori.app.install.templating import If, Namespace, Spliced, Text, Value
from kajitori.gateway.accounting.folders import ACCOUNTANT, LEDGER_FOLDER, LOG_FOLDER
from kajitori.gateway.accounting.header_attributes import BASE, METRICS, SPANS
from kajitori.gateway.envoy.bootstrap import CERTIFICATE_FOLDER, FLEET_FOLDER, SOCKET_FOLDER

# Any that is not root's; files in volumes belong to the group.
USER = 65_532


def _image(path: str) -> Text:
    return Text("%s:%s", (Value(f"{path}.repository"), Value(f"{path}.tag")))


_LOCKED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def process(
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


def deployment(
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
        "metadata": metadata(name, component),
        "spec": {
            "replicas": Value(f"{values}.replicas"),
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selector(component)},
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
                            "labelSelector": {"matchLabels": selector(component)},
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


def envoy_container() -> dict[str, Any]:
    """The container of Envoy, which drains before it ends."""
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


def accountant_container() -> dict[str, Any]:
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
