"""What is read of claims, volumes and storage classes."""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.api.kubernetes.core_v1 import NodeSelector
from kajitori.api.kubernetes.meta_v1 import LabelSelector
from kajitori.laptop.controllers.views import PodView, View

Object = dict[str, Any]

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
FOLDER_PROVISIONER = "kajitori.dev/folder"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
PODS_BY_CLAIM = "claim"


class ResourcesView(msgspec.Struct, frozen=True, kw_only=True):
    requests: dict[str, str] = {}


class ClaimSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    access_modes: list[str] = []
    selector: LabelSelector | None = None
    resources: ResourcesView = ResourcesView()
    volume_name: str = ""
    storage_class_name: str | None = None
    volume_mode: str = "Filesystem"
    volume_attributes_class_name: str | None = None


class ClaimStatusView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    phase: str = ""
    access_modes: list[str] = []
    capacity: dict[str, str] = {}


class ClaimView(View, frozen=True, kw_only=True):
    kind: str = "PersistentVolumeClaim"
    api_version: str = "v1"
    spec: ClaimSpecView = ClaimSpecView()
    status: ClaimStatusView = ClaimStatusView()

    @property
    def size(self) -> str:
        return self.spec.resources.requests.get("storage", "0")


class ClaimReference(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    namespace: str = ""
    name: str = ""
    uid: str = ""


class NodeAffinityView(msgspec.Struct, frozen=True, kw_only=True):
    required: NodeSelector | None = None


class PathView(msgspec.Struct, frozen=True, kw_only=True):
    path: str = ""


class VolumeSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    access_modes: list[str] = []
    capacity: dict[str, str] = {}
    claim_ref: ClaimReference | None = None
    storage_class_name: str = ""
    persistent_volume_reclaim_policy: str = "Retain"
    volume_mode: str = "Filesystem"
    volume_attributes_class_name: str | None = None
    node_affinity: NodeAffinityView | None = None
    host_path: PathView | None = None


class VolumeStatusView(msgspec.Struct, frozen=True, kw_only=True):
    phase: str = ""
    message: str = ""


class VolumeView(View, frozen=True, kw_only=True):
    kind: str = "PersistentVolume"
    api_version: str = "v1"
    spec: VolumeSpecView = VolumeSpecView()
    status: VolumeStatusView = VolumeStatusView()

    @property
    def size(self) -> str:
        return self.spec.capacity.get("storage", "0")


class ClassView(View, frozen=True, kw_only=True, rename="camel"):
    kind: str = "StorageClass"
    api_version: str = "storage.k8s.io/v1"
    provisioner: str = ""
    parameters: dict[str, str] = {}
    reclaim_policy: str = "Delete"
    volume_binding_mode: str = "Immediate"
    mount_options: list[str] = []

    @property
    def is_default(self) -> bool:
        return self.metadata.annotations.get(DEFAULT_CLASS) == "true"

    @property
    def waits_for_consumer(self) -> bool:
        return self.volume_binding_mode == "WaitForFirstConsumer"


def claim_index(pod: PodView) -> list[str]:
    """Index value: namespace and name of each claim that the pod mounts."""
    return [
        f"{pod.metadata.namespace}/{volume.persistent_volume_claim.claim_name}"
        for volume in pod.spec.volumes
        if volume.persistent_volume_claim is not None
    ]
