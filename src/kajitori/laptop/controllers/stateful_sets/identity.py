"""Who a pod of a StatefulSet is: its name and ordinal, its labels, its host name, its claims. Pure.

Source: Kubernetes' documentation of StatefulSet, "Pod Identity".
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kajitori.kube.objects import Object
from kajitori.laptop.controllers.pods import pod_of_template
from kajitori.laptop.controllers.stateful_sets.views import StatefulSetView
from kajitori.laptop.controllers.views import PodView

POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"
REVISION_LABEL = "controller-revision-hash"
_NAME = re.compile(r"(.*)-([0-9]+)", re.DOTALL)
_LARGEST_ORDINAL = 2**31 - 1


def parent_and_ordinal(pod_name: str) -> tuple[str, int]:
    """The name of the set that a pod's name speaks of, and its ordinal; an empty name and -1 for other pods."""
    found = _NAME.fullmatch(pod_name)
    if found is None:
        return "", -1
    number = int(found[2])
    return found[1], number if number <= _LARGEST_ORDINAL else -1


def ordinal_of(pod: PodView) -> int:
    return parent_and_ordinal(pod.metadata.name)[1]


def belongs(stateful_set: StatefulSetView, pod: PodView) -> bool:
    """Whether the pod's name is one of the set's."""
    return parent_and_ordinal(pod.metadata.name)[0] == stateful_set.metadata.name


def pod_name(stateful_set: StatefulSetView, ordinal: int) -> str:
    return f"{stateful_set.metadata.name}-{ordinal}"


def revision_of(pod: PodView) -> str:
    """The name of the revision that the pod was made of."""
    return pod.metadata.labels.get(REVISION_LABEL, "")


def identity_labels(stateful_set: StatefulSetView, ordinal: int) -> dict[str, str]:
    return {POD_NAME_LABEL: pod_name(stateful_set, ordinal), POD_INDEX_LABEL: str(ordinal)}


def has_identity(stateful_set: StatefulSetView, pod: PodView) -> bool:
    """Whether the pod says of itself who it is."""
    name = pod.metadata.name
    return name == pod_name(stateful_set, ordinal_of(pod)) == pod.metadata.labels.get(POD_NAME_LABEL)


def claim_names(stateful_set: StatefulSetView, ordinal: int) -> dict[str, str]:
    """Names of the claims of one pod, by the volume that each is for."""
    return {
        template["metadata"]["name"]: f"{template['metadata']['name']}-{pod_name(stateful_set, ordinal)}"
        for template in stateful_set.spec.volume_claim_templates
    }


def all_claim_names(stateful_set: StatefulSetView, pods: Iterable[PodView]) -> list[str]:
    """Names of the claims of all pods that are or shall be."""
    first = stateful_set.first_ordinal
    ordinals = {*range(first, first + stateful_set.spec.replicas), *map(ordinal_of, pods)}
    return [name for ordinal in ordinals for name in claim_names(stateful_set, ordinal).values()]


def has_storage(stateful_set: StatefulSetView, pod: PodView) -> bool:
    """Whether the pod's volumes are the set's claims for it."""
    held = {
        volume.name: volume.persistent_volume_claim.claim_name
        for volume in pod.spec.volumes
        if volume.persistent_volume_claim is not None
    }
    return claim_names(stateful_set, ordinal_of(pod)).items() <= held.items()


def claim_bodies(stateful_set: StatefulSetView, ordinal: int) -> dict[str, Object]:
    """The claims that a pod needs, by their names."""
    bodies: dict[str, Object] = {}
    for template in stateful_set.spec.volume_claim_templates:
        given: Object = template["metadata"]
        name = f"{given['name']}-{pod_name(stateful_set, ordinal)}"
        metadata: Object = {
            **given,
            "name": name,
            "namespace": stateful_set.metadata.namespace,
            "labels": {**(given.get("labels") or {}), **stateful_set.spec.selector.match_labels},
        }
        bodies[name] = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {key: value for key, value in metadata.items() if value},
            "spec": template.get("spec") or {},
        }
    return bodies


def with_claims(stateful_set: StatefulSetView, ordinal: int, volumes: list[Object]) -> list[Object]:
    """Volumes of a pod: the set's claims, and what else it has under other names."""
    names = claim_names(stateful_set, ordinal)
    claims: list[Object] = [
        {"name": volume, "persistentVolumeClaim": {"claimName": claim}} for volume, claim in names.items()
    ]
    return claims + [volume for volume in volumes if volume.get("name") not in names]


def pod_body(stateful_set: StatefulSetView, template: Object, revision: str, ordinal: int) -> Object:
    """A new pod of this ordinal."""
    pod = pod_of_template(stateful_set, template)
    name = pod_name(stateful_set, ordinal)
    metadata: Object = pod["metadata"]
    metadata["name"], metadata["generateName"] = name, f"{stateful_set.metadata.name}-"
    metadata["labels"] = {
        **metadata.get("labels", {}),
        **identity_labels(stateful_set, ordinal),
        REVISION_LABEL: revision,
    }
    spec: Object = {**pod["spec"], "hostname": name}
    if stateful_set.spec.service_name:
        spec["subdomain"] = stateful_set.spec.service_name
    else:
        spec.pop("subdomain", None)
    volumes = with_claims(stateful_set, ordinal, spec.get("volumes") or [])
    if volumes:
        spec["volumes"] = volumes
    return {**pod, "spec": spec}
