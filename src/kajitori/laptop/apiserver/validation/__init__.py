"""The rules that objects must keep, beyond the types of their fields; broken ones are named by field path.

`rules_of` gives the check of a definition, `metadata_errors` the rules that all kinds share. Texts are those of
the published API server, since users search for them and clients compare them. Objects have been made to fit
their kind and defaulted before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.validation import (
    access,
    autoscalers,
    configuration,
    coordination,
    networking,
    pods,
    storage,
    workloads,
)
from kajitori.laptop.apiserver.validation.advice import warnings_about
from kajitori.laptop.apiserver.validation.cluster_fields import cluster_field_errors, has_cluster_fields
from kajitori.laptop.apiserver.validation.metadata import metadata_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.laptop.apiserver.status import FieldError


def _definition_errors(new: dict[str, Any], old: dict[str, Any] | None, subresource: str) -> list[FieldError]:
    """Definitions of custom kinds; their rules load the CEL library, so they come with the first definition."""
    if subresource == "status":
        return []
    from kajitori.laptop.apiserver.crd.definition import definition_errors

    return definition_errors(new, old)


def _webhook_errors(new: dict[str, Any], old: dict[str, Any] | None, subresource: str) -> list[FieldError]:
    from kajitori.laptop.apiserver.admission.declared import webhook_configuration_errors

    return webhook_configuration_errors(new, old, subresource)


def _policy_errors(new: dict[str, Any], old: dict[str, Any] | None, subresource: str) -> list[FieldError]:
    from kajitori.laptop.apiserver.admission.declared import policy_errors

    return policy_errors(new, old, subresource)


def _binding_errors(new: dict[str, Any], old: dict[str, Any] | None, subresource: str) -> list[FieldError]:
    from kajitori.laptop.apiserver.admission.declared import binding_errors

    return binding_errors(new, old, subresource)


_RULES: dict[str, Callable[[dict[str, Any], dict[str, Any] | None, str], list[FieldError]]] = {
    "io.k8s.api.core.v1.Pod": pods.pod_errors,
    "io.k8s.api.core.v1.PodTemplate": pods.pod_template_errors,
    "io.k8s.api.core.v1.ReplicationController": workloads.replication_controller_errors,
    "io.k8s.api.apps.v1.Deployment": workloads.deployment_errors,
    "io.k8s.api.apps.v1.ReplicaSet": workloads.replica_set_errors,
    "io.k8s.api.apps.v1.StatefulSet": workloads.stateful_set_errors,
    "io.k8s.api.apps.v1.DaemonSet": workloads.daemon_set_errors,
    "io.k8s.api.apps.v1.ControllerRevision": configuration.revision_errors,
    "io.k8s.api.batch.v1.Job": workloads.job_errors,
    "io.k8s.api.batch.v1.CronJob": workloads.cron_job_errors,
    "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler": autoscalers.autoscaler_errors,
    "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler": autoscalers.autoscaler_errors,
    "io.k8s.api.policy.v1.PodDisruptionBudget": workloads.disruption_budget_errors,
    "io.k8s.api.core.v1.Service": networking.service_errors,
    "io.k8s.api.core.v1.Endpoints": networking.endpoints_errors,
    "io.k8s.api.discovery.v1.EndpointSlice": networking.endpoint_slice_errors,
    "io.k8s.api.networking.v1.Ingress": networking.ingress_errors,
    "io.k8s.api.networking.v1.NetworkPolicy": networking.network_policy_errors,
    "io.k8s.api.core.v1.ConfigMap": configuration.config_map_errors,
    "io.k8s.api.core.v1.Secret": configuration.secret_errors,
    "io.k8s.api.core.v1.Node": configuration.node_errors,
    "io.k8s.api.core.v1.PersistentVolume": storage.volume_errors,
    "io.k8s.api.core.v1.PersistentVolumeClaim": storage.claim_errors,
    "io.k8s.api.core.v1.ResourceQuota": configuration.quota_errors,
    "io.k8s.api.core.v1.LimitRange": configuration.limit_range_errors,
    "io.k8s.api.core.v1.Event": coordination.core_event_errors,
    "io.k8s.api.events.v1.Event": coordination.event_errors,
    "io.k8s.api.storage.v1.StorageClass": storage.storage_class_errors,
    "io.k8s.api.rbac.v1.Role": access.role_errors,
    "io.k8s.api.rbac.v1.ClusterRole": access.role_errors,
    "io.k8s.api.rbac.v1.RoleBinding": access.binding_errors,
    "io.k8s.api.rbac.v1.ClusterRoleBinding": access.binding_errors,
    "io.k8s.api.coordination.v1.Lease": coordination.lease_errors,
    "io.k8s.api.scheduling.v1.PriorityClass": configuration.priority_class_errors,
    "io.k8s.api.node.v1.RuntimeClass": configuration.runtime_class_errors,
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition": _definition_errors,
    "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration": _webhook_errors,
    "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration": _webhook_errors,
    "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy": _policy_errors,
    "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding": _binding_errors,
}


def _no_rules(_new: dict[str, Any], _old: dict[str, Any] | None, _subresource: str) -> list[FieldError]:
    return []


def rules_of(
    definition: str,
) -> Callable[[dict[str, Any], dict[str, Any] | None, str], list[FieldError]]:
    """check(new, old or None, subresource) of a definition such as `io.k8s.api.core.v1.Pod`."""
    check = _RULES.get(definition, _no_rules)
    if not has_cluster_fields(definition):
        return check
    return lambda new, old, subresource: [
        *check(new, old, subresource),
        *cluster_field_errors(definition, new, old, subresource),
    ]


__all__ = ["metadata_errors", "rules_of", "warnings_about"]
