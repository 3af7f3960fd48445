"""What the published OpenAPI documents do not say about the built-in kinds: short names, categories, field
selectors, which kinds count generations, which may be created by PUT, which share one store.

Keys are `(group, plural)`. Source: discovery and behaviour of kube-apiserver 1.36.
"""

from __future__ import annotations

GroupResource = tuple[str, str]

_APPS = "apps"
_ADMISSION = "admissionregistration.k8s.io"
_RBAC = "rbac.authorization.k8s.io"

SHORT_NAMES: dict[GroupResource, tuple[str, ...]] = {
    ("", "configmaps"): ("cm",),
    ("", "endpoints"): ("ep",),
    ("", "events"): ("ev",),
    ("", "limitranges"): ("limits",),
    ("", "namespaces"): ("ns",),
    ("", "nodes"): ("no",),
    ("", "persistentvolumeclaims"): ("pvc",),
    ("", "persistentvolumes"): ("pv",),
    ("", "pods"): ("po",),
    ("", "replicationcontrollers"): ("rc",),
    ("", "resourcequotas"): ("quota",),
    ("", "serviceaccounts"): ("sa",),
    ("", "services"): ("svc",),
    ("apiextensions.k8s.io", "customresourcedefinitions"): ("crd", "crds"),
    (_APPS, "daemonsets"): ("ds",),
    (_APPS, "deployments"): ("deploy",),
    (_APPS, "replicasets"): ("rs",),
    (_APPS, "statefulsets"): ("sts",),
    ("autoscaling", "horizontalpodautoscalers"): ("hpa",),
    ("batch", "cronjobs"): ("cj",),
    ("certificates.k8s.io", "certificatesigningrequests"): ("csr",),
    ("events.k8s.io", "events"): ("ev",),
    ("networking.k8s.io", "ingresses"): ("ing",),
    ("networking.k8s.io", "ipaddresses"): ("ip",),
    ("networking.k8s.io", "networkpolicies"): ("netpol",),
    ("policy", "poddisruptionbudgets"): ("pdb",),
    ("scheduling.k8s.io", "priorityclasses"): ("pc",),
    ("storage.k8s.io", "storageclasses"): ("sc",),
    ("storage.k8s.io", "volumeattributesclasses"): ("vac",),
}

CATEGORIES: dict[GroupResource, tuple[str, ...]] = dict.fromkeys(
    (
        ("", "pods"),
        ("", "replicationcontrollers"),
        ("", "services"),
        (_APPS, "daemonsets"),
        (_APPS, "deployments"),
        (_APPS, "replicasets"),
        (_APPS, "statefulsets"),
        ("autoscaling", "horizontalpodautoscalers"),
        ("batch", "cronjobs"),
        ("batch", "jobs"),
    ),
    ("all",),
) | {
    (_ADMISSION, "mutatingadmissionpolicies"): ("api-extensions",),
    (_ADMISSION, "mutatingadmissionpolicybindings"): ("api-extensions",),
    (_ADMISSION, "mutatingwebhookconfigurations"): ("api-extensions",),
    (_ADMISSION, "validatingadmissionpolicies"): ("api-extensions",),
    (_ADMISSION, "validatingadmissionpolicybindings"): ("api-extensions",),
    (_ADMISSION, "validatingwebhookconfigurations"): ("api-extensions",),
    ("apiextensions.k8s.io", "customresourcedefinitions"): ("api-extensions",),
}

# Path of the field in the object for each further field selector; "" as the default of an absent field, where
# another value is not named after "|".
FIELD_SELECTORS: dict[GroupResource, dict[str, str]] = {
    ("", "pods"): {
        "spec.nodeName": "spec.nodeName",
        "spec.host": "spec.nodeName",
        "spec.restartPolicy": "spec.restartPolicy",
        "spec.schedulerName": "spec.schedulerName",
        "spec.serviceAccountName": "spec.serviceAccountName",
        "spec.hostNetwork": "spec.hostNetwork|false",
        "status.phase": "status.phase",
        "status.podIP": "status.podIP",
        "status.podIPs": "status.podIP",
        "status.nominatedNodeName": "status.nominatedNodeName",
    },
    ("", "nodes"): {"spec.unschedulable": "spec.unschedulable|false"},
    ("", "namespaces"): {"status.phase": "status.phase"},
    ("", "secrets"): {"type": "type"},
    ("", "services"): {"spec.clusterIP": "spec.clusterIP", "spec.type": "spec.type"},
    ("", "replicationcontrollers"): {"status.replicas": "status.replicas|0"},
    ("batch", "jobs"): {"status.successful": "status.succeeded|0"},
    ("", "events"): {
        **{
            f"involvedObject.{field}": f"involvedObject.{field}"
            for field in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
        },
        "reason": "reason",
        "reportingComponent": "reportingComponent",
        "source": "source.component",
        "type": "type",
    },
    ("events.k8s.io", "events"): {
        **{
            f"regarding.{field}": f"regarding.{field}"
            for field in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
        },
        "reason": "reason",
        "reportingController": "reportingController",
        "type": "type",
    },
    ("certificates.k8s.io", "certificatesigningrequests"): {"spec.signerName": "spec.signerName"},
    ("resource.k8s.io", "resourceslices"): {"spec.nodeName": "spec.nodeName", "spec.driver": "spec.driver"},
}

# Kinds whose metadata.generation starts at 1 and grows with each change of what is asked for.
COUNTS_GENERATIONS: frozenset[GroupResource] = frozenset(
    {
        ("", "pods"),
        ("", "podtemplates"),
        ("", "replicationcontrollers"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        (_APPS, "daemonsets"),
        (_APPS, "deployments"),
        (_APPS, "replicasets"),
        (_APPS, "statefulsets"),
        ("batch", "cronjobs"),
        ("batch", "jobs"),
        ("discovery.k8s.io", "endpointslices"),
        ("networking.k8s.io", "ingressclasses"),
        ("networking.k8s.io", "ingresses"),
        ("networking.k8s.io", "networkpolicies"),
        ("policy", "poddisruptionbudgets"),
        ("resource.k8s.io", "deviceclasses"),
        ("resource.k8s.io", "resourceslices"),
        ("scheduling.k8s.io", "priorityclasses"),
        (_ADMISSION, "mutatingadmissionpolicies"),
        (_ADMISSION, "mutatingadmissionpolicybindings"),
        (_ADMISSION, "mutatingwebhookconfigurations"),
        (_ADMISSION, "validatingadmissionpolicies"),
        (_ADMISSION, "validatingadmissionpolicybindings"),
        (_ADMISSION, "validatingwebhookconfigurations"),
    }
)

# A PUT to a name that does not exist creates it.
CREATED_BY_PUT: frozenset[GroupResource] = frozenset(
    {
        ("", "endpoints"),
        ("", "events"),
        ("", "limitranges"),
        ("", "services"),
        ("coordination.k8s.io", "leases"),
        ("events.k8s.io", "events"),
        ("node.k8s.io", "runtimeclasses"),
        (_RBAC, "clusterrolebindings"),
        (_RBAC, "clusterroles"),
        (_RBAC, "rolebindings"),
        (_RBAC, "roles"),
    }
)

# An update must name the version that it replaces.
UPDATED_BY_VERSION: frozenset[GroupResource] = frozenset(
    {
        (_ADMISSION, "mutatingadmissionpolicies"),
        (_ADMISSION, "mutatingadmissionpolicybindings"),
        (_ADMISSION, "mutatingwebhookconfigurations"),
        (_ADMISSION, "validatingadmissionpolicies"),
        (_ADMISSION, "validatingadmissionpolicybindings"),
        (_ADMISSION, "validatingwebhookconfigurations"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("coordination.k8s.io", "leases"),
        ("node.k8s.io", "runtimeclasses"),
        ("policy", "poddisruptionbudgets"),
        ("storage.k8s.io", "csidrivers"),
        ("storage.k8s.io", "csinodes"),
        ("storage.k8s.io", "csistoragecapacities"),
        ("storage.k8s.io", "volumeattachments"),
    }
)

# Kinds that are another view of the same stored objects: the group and version that is stored.
STORED_AS: dict[tuple[str, str, str], tuple[str, str]] = {
    ("events.k8s.io", "v1", "events"): ("", "v1"),
    ("autoscaling", "v1", "horizontalpodautoscalers"): ("autoscaling", "v2"),
}

# Status of a new object as given, rather than dropped.
STATUS_KEPT_ON_CREATE: frozenset[GroupResource] = frozenset({("", "nodes")})

# Resources of the published documents that this server does not serve.
NOT_SERVED: frozenset[str] = frozenset({"componentstatuses", "nodes/proxy", "pods/proxy", "services/proxy"})

# Preference among the groups in discovery, then by name.
GROUP_ORDER: tuple[str, ...] = (
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
)
