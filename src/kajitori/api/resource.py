"""A resource: what an API server calls a kind of object, and where it serves it."""

from __future__ import annotations

import msgspec


class Resource(msgspec.Struct, frozen=True):
    """One served kind.

    group: empty for the core group. plural: lower-case name in paths, such as `leaderworkersets`.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def prefix(self) -> str:
        """Path of the group version, such as `/api/v1` or `/apis/apps/v1`."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def qualified_name(self) -> str:
        """As messages name it: `pods`, `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(
        self, namespace: str | None = None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """URL path of the collection, the object or its subresource; namespace None: across all namespaces."""
        parts = [self.prefix]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS = Resource("", "v1", "secrets", "Secret")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
PERSISTENT_VOLUME_CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
RESOURCE_QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
PERSISTENT_VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
ENDPOINTS = Resource("", "v1", "endpoints", "Endpoints")
CORE_EVENTS = Resource("", "v1", "events", "Event")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
STATEFUL_SETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
DAEMON_SETS = Resource("apps", "v1", "daemonsets", "DaemonSet")
JOBS = Resource("batch", "v1", "jobs", "Job")
CRON_JOBS = Resource("batch", "v1", "cronjobs", "CronJob")
HORIZONTAL_POD_AUTOSCALERS = Resource(
    "autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"
)
CONTROLLER_REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
POD_DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
CUSTOM_RESOURCE_DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
LEADER_WORKER_SETS = Resource("leaderworkerset.x-k8s.io", "v1", "leaderworkersets", "LeaderWorkerSet")
JOB_SETS = Resource("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet")
DISAGGREGATED_SETS = Resource("disaggregatedset.x-k8s.io", "v1", "disaggregatedsets", "DisaggregatedSet")
DISAGGREGATED_SET_ROLE_SCALERS = Resource(
    "disaggregatedset.x-k8s.io", "v1", "disaggregatedsetrolescalers", "DisaggregatedSetRoleScaler"
)
GATEWAY_CLASSES = Resource(
    "gateway.networking.k8s.io", "v1", "gatewayclasses", "GatewayClass", namespaced=False
)
GATEWAYS = Resource("gateway.networking.k8s.io", "v1", "gateways", "Gateway")
HTTP_ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
GRPC_ROUTES = Resource("gateway.networking.k8s.io", "v1", "grpcroutes", "GRPCRoute")
BACKEND_TLS_POLICIES = Resource("gateway.networking.k8s.io", "v1", "backendtlspolicies", "BackendTLSPolicy")
HTTP_ROUTE_FILTERS = Resource("gateway.envoyproxy.io", "v1alpha1", "httproutefilters", "HTTPRouteFilter")
BACKENDS = Resource("gateway.envoyproxy.io", "v1alpha1", "backends", "Backend")
BACKEND_TRAFFIC_POLICIES = Resource(
    "gateway.envoyproxy.io", "v1alpha1", "backendtrafficpolicies", "BackendTrafficPolicy"
)
ENVOY_PROXIES = Resource("gateway.envoyproxy.io", "v1alpha1", "envoyproxies", "EnvoyProxy")
GATEWAY_CONFIGS = Resource("aigateway.envoyproxy.io", "v1beta1", "gatewayconfigs", "GatewayConfig")
CLIENT_TRAFFIC_POLICIES = Resource(
    "gateway.envoyproxy.io", "v1alpha1", "clienttrafficpolicies", "ClientTrafficPolicy"
)
AI_GATEWAY_ROUTES = Resource("aigateway.envoyproxy.io", "v1beta1", "aigatewayroutes", "AIGatewayRoute")
AI_SERVICE_BACKENDS = Resource("aigateway.envoyproxy.io", "v1beta1", "aiservicebackends", "AIServiceBackend")
BACKEND_SECURITY_POLICIES = Resource(
    "aigateway.envoyproxy.io", "v1beta1", "backendsecuritypolicies", "BackendSecurityPolicy"
)
SECURITY_POLICIES = Resource("gateway.envoyproxy.io", "v1alpha1", "securitypolicies", "SecurityPolicy")
API_KEYS = Resource("gateway.kajitori.dev", "v1alpha1", "apikeys", "APIKey")
QUOTA_POLICIES = Resource("aigateway.envoyproxy.io", "v1alpha1", "quotapolicies", "QuotaPolicy")
BUDGETS = Resource("gateway.kajitori.dev", "v1alpha1", "budgets", "Budget")
PRICE_LISTS = Resource("gateway.kajitori.dev", "v1alpha1", "pricelists", "PriceList")
TENANTS = Resource("gateway.kajitori.dev", "v1alpha1", "tenants", "Tenant")
AI_TRAFFIC_POLICIES = Resource("gateway.kajitori.dev", "v1alpha1", "aitrafficpolicies", "AITrafficPolicy")
VALIDATING_WEBHOOK_CONFIGURATIONS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
