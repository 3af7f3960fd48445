"""The `system:` roles of every cluster, as facts in few words: what Kubernetes 1.36 gives each of them.

A line names the API groups (`core` is the one without a name), then resources, each with the `=NAMES` to which it
is restricted, then verbs. Lines that begin with a path are of URLs that are no resources. Held against a real
server by the contract suite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

Object = dict[str, Any]

_ROLES: Final = """
system:aggregate-to-admin
  authorization.k8s.io: localsubjectaccessreviews: create
  rbac.authorization.k8s.io: rolebindings roles: create delete deletecollection get list patch update watch
system:aggregate-to-edit
  core: pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy: get list watch
  core: serviceaccounts: impersonate
  core: pods pods/attach pods/exec pods/portforward pods/proxy: create delete deletecollection patch update
  core: pods/eviction: create
  core: configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale: create delete deletecollection patch update
  core: secrets serviceaccounts services services/proxy: create delete deletecollection patch update
  core: serviceaccounts/token: create
  core events.k8s.io: events: create delete deletecollection patch update
  apps: daemonsets deployments deployments/rollback deployments/scale: create delete deletecollection patch update
  apps: replicasets replicasets/scale statefulsets statefulsets/scale: create delete deletecollection patch update
  autoscaling: horizontalpodautoscalers: create delete deletecollection patch update
  batch: cronjobs jobs: create delete deletecollection patch update
  extensions: daemonsets deployments deployments/rollback deployments/scale ingresses: create delete deletecollection patch update
  extensions: networkpolicies replicasets replicasets/scale replicationcontrollers/scale: create delete deletecollection patch update
  policy: poddisruptionbudgets: create delete deletecollection patch update
  networking.k8s.io: ingresses networkpolicies: create delete deletecollection patch update
  coordination.k8s.io: leases: create delete deletecollection get list patch update watch
  resource.k8s.io: resourceclaims resourceclaimtemplates: create delete deletecollection patch update
system:aggregate-to-view
  core: configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods: get list watch
  core: replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status: get list watch
  core: bindings limitranges namespaces/status pods/log: get list watch
  core: pods/status replicationcontrollers/status resourcequotas resourcequotas/status: get list watch
  core: namespaces: get list watch
  core events.k8s.io: events: get list watch
  discovery.k8s.io: endpointslices: get list watch
  apps: controllerrevisions daemonsets daemonsets/status deployments: get list watch
  apps: deployments/scale deployments/status replicasets replicasets/scale: get list watch
  apps: replicasets/status statefulsets statefulsets/scale statefulsets/status: get list watch
  autoscaling: horizontalpodautoscalers horizontalpodautoscalers/status: get list watch
  batch: cronjobs cronjobs/status jobs jobs/status: get list watch
  extensions: daemonsets daemonsets/status deployments deployments/scale: get list watch
  extensions: deployments/status ingresses ingresses/status networkpolicies: get list watch
  extensions: replicasets replicasets/scale replicasets/status replicationcontrollers/scale: get list watch
  policy: poddisruptionbudgets poddisruptionbudgets/status: get list watch
  networking.k8s.io: ingresses ingresses/status networkpolicies: get list watch
  resource.k8s.io: resourceclaims resourceclaims/status resourceclaimtemplates: get list watch
system:auth-delegator
  authentication.k8s.io: tokenreviews: create
  authorization.k8s.io: subjectaccessreviews: create
system:basic-user
  authorization.k8s.io: selfsubjectaccessreviews selfsubjectrulesreviews: create
  authentication.k8s.io: selfsubjectreviews: create
system:certificates.k8s.io:certificatesigningrequests:nodeclient
  certificates.k8s.io: certificatesigningrequests/nodeclient: create
system:certificates.k8s.io:certificatesigningrequests:selfnodeclient
  certificates.k8s.io: certificatesigningrequests/selfnodeclient: create
system:certificates.k8s.io:kube-apiserver-client-approver
  certificates.k8s.io: signers =kubernetes.io/kube-apiserver-client: approve
system:certificates.k8s.io:kube-apiserver-client-kubelet-approver
  certificates.k8s.io: signers =kubernetes.io/kube-apiserver-client-kubelet: approve
system:certificates.k8s.io:kubelet-serving-approver
  certificates.k8s.io: signers =kubernetes.io/kubelet-serving: approve
system:certificates.k8s.io:legacy-unknown-approver
  certificates.k8s.io: signers =kubernetes.io/legacy-unknown: approve
system:discovery
  /api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/: get
system:heapster
  core: events namespaces nodes pods: get list watch
  extensions: deployments: get list watch
system:kube-aggregator
  core: endpoints services: get list watch
system:kube-controller-manager
  core events.k8s.io: events: create patch update
  coordination.k8s.io: leases: create
  coordination.k8s.io: leases =kube-controller-manager: get update
  core: secrets serviceaccounts: create
  core: secrets: delete
  core: configmaps namespaces secrets serviceaccounts: get
  core: secrets serviceaccounts: update
  authentication.k8s.io: tokenreviews: create
  authorization.k8s.io: subjectaccessreviews: create
  *: *: list watch
  core: serviceaccounts/token: create
system:kube-dns
  core: endpoints services: list watch
system:kube-scheduler
  core events.k8s.io: events: create patch update
  coordination.k8s.io: leases: create
  coordination.k8s.io: leases =kube-scheduler: get list update watch
  coordination.k8s.io: leasecandidates: create delete deletecollection get list patch update watch
  core: nodes: get list watch
  core: pods: delete get list watch
  core: bindings pods/binding: create
  core: pods/status: patch update
  core: replicationcontrollers services: get list watch
  apps extensions: replicasets: get list watch
  apps: statefulsets: get list watch
  policy: poddisruptionbudgets: get list watch
  core: persistentvolumeclaims persistentvolumes: get list watch
  authentication.k8s.io: tokenreviews: create
  authorization.k8s.io: subjectaccessreviews: create
  storage.k8s.io: csinodes: get list watch
  storage.k8s.io: volumeattachments: get list watch
  core: namespaces: get list watch
  storage.k8s.io: csidrivers: get list watch
  storage.k8s.io: csistoragecapacities: get list watch
  resource.k8s.io: deviceclasses: get list watch
  resource.k8s.io: resourceclaims: get list patch update watch
  resource.k8s.io: resourceclaims/status: get list patch update watch
  core: pods/finalizers: update
  resource.k8s.io: resourceslices: get list watch
  resource.k8s.io: resourceclaims: create delete
  resource.k8s.io: resourceclaims/binding: patch update
system:kubelet-api-admin
  core: nodes: get list watch
  core: nodes: proxy
  core: nodes/log nodes/metrics nodes/proxy nodes/stats: *
  core: nodes/configz nodes/healthz nodes/pods: *
system:monitoring
  /flagz /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/* /statusz: get
  core: nodes/metrics: get
system:node
  authentication.k8s.io: tokenreviews: create
  authorization.k8s.io: localsubjectaccessreviews subjectaccessreviews: create
  core: services: get list watch
  core: nodes: create get list watch
  core: nodes/status: patch update
  core: nodes: patch update
  core events.k8s.io: events: create patch update
  core: pods: get list watch
  core: pods: create delete
  core: pods/status: patch update
  core: pods/eviction: create
  core: configmaps secrets: get list watch
  core: persistentvolumeclaims persistentvolumes: get
  core: endpoints: get
  certificates.k8s.io: certificatesigningrequests: create get list watch
  coordination.k8s.io: leases: create delete get patch update
  storage.k8s.io: volumeattachments: get
  core: serviceaccounts/token: create
  core: persistentvolumeclaims/status: get patch update
  storage.k8s.io: csidrivers: get list watch
  storage.k8s.io: csinodes: create delete get patch update
  node.k8s.io: runtimeclasses: get list watch
  resource.k8s.io: resourceclaims: get
  resource.k8s.io: resourceslices: deletecollection
  core: serviceaccounts: get
system:node-bootstrapper
  certificates.k8s.io: certificatesigningrequests: create get list watch
system:node-problem-detector
  core: nodes: get
  core: nodes/status: patch
  core events.k8s.io: events: create patch update
system:node-proxier
  core: endpoints services: list watch
  core: nodes: get list watch
  core events.k8s.io: events: create patch update
  networking.k8s.io: servicecidrs: list watch
  discovery.k8s.io: endpointslices: list watch
system:persistent-volume-provisioner
  core: persistentvolumes: create delete get list watch
  core: persistentvolumeclaims: get list update watch
  storage.k8s.io: storageclasses: get list watch
  core: events: watch
  core events.k8s.io: events: create patch update
system:public-info-viewer
  /healthz /livez /readyz /version /version/: get
system:service-account-issuer-discovery
  /.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/: get
system:volume-scheduler
  core: persistentvolumes: get list patch update watch
  storage.k8s.io: storageclasses: get list watch
  core: persistentvolumeclaims: get list patch update watch
"""

BINDINGS: Final[dict[str, tuple[str, list[tuple[str, str]]]]] = {
    "system:discovery": ("system:discovery", [("Group", "system:authenticated")]),
    "system:basic-user": ("system:basic-user", [("Group", "system:authenticated")]),
    "system:public-info-viewer": (
        "system:public-info-viewer",
        [("Group", "system:authenticated"), ("Group", "system:unauthenticated")],
    ),
    "system:service-account-issuer-discovery": (
        "system:service-account-issuer-discovery",
        [("Group", "system:serviceaccounts")],
    ),
    "system:kube-controller-manager": (
        "system:kube-controller-manager",
        [("User", "system:kube-controller-manager")],
    ),
    "system:kube-dns": ("system:kube-dns", [("ServiceAccount", "kube-system/kube-dns")]),
    "system:kube-scheduler": ("system:kube-scheduler", [("User", "system:kube-scheduler")]),
    "system:monitoring": ("system:monitoring", [("Group", "system:monitoring")]),
    "system:node": ("system:node", []),
    "system:node-proxier": ("system:node-proxier", [("User", "system:kube-proxy")]),
    "system:volume-scheduler": ("system:volume-scheduler", [("User", "system:kube-scheduler")]),
}
"""Role and subjects of the bindings that come with them."""


def standard_roles() -> dict[str, list[Object]]:
    """Policy rules by the name of the role."""
    roles: dict[str, list[Object]] = {}
    rules: list[Object] = []
    for line in _ROLES.strip().splitlines():
        if not line.startswith(" "):
            rules = roles.setdefault(line, [])
            continue
        *about, verbs = line.strip().rsplit(": ", 2)
        rules.append({**_about(about), "verbs": verbs.split()})
    return roles


def _about(parts: Sequence[str]) -> Object:
    if len(parts) == 1:
        return {"nonResourceURLs": parts[0].split()}
    groups, things = parts
    words = things.split()
    rule: Object = {
        "apiGroups": ["" if group == "core" else group for group in groups.split()],
        "resources": [word for word in words if not word.startswith("=")],
    }
    names = [word[1:] for word in words if word.startswith("=")]
    return {**rule, "resourceNames": names} if names else rule
