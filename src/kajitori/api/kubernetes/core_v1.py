"""core/v1 as structs; made by tools/generate_kubernetes_schemas.py from Kubernetes v1.36.3, not edited by hand."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from kajitori.api.kubernetes import meta_v1


class Pod(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "v1"
    kind: str = "Pod"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: PodSpec = field(default_factory=lambda: PodSpec())
    status: PodStatus = field(default_factory=lambda: PodStatus())


class PodSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    active_deadline_seconds: int | None = None
    affinity: Affinity | None = None
    automount_service_account_token: bool | None = None
    containers: list[Container] = []
    dns_config: PodDNSConfig | None = None
    dns_policy: str | None = None
    enable_service_links: bool | None = None
    ephemeral_containers: list[EphemeralContainer] = []
    host_aliases: list[HostAlias] = []
    host_ipc: bool | None = field(name='hostIPC', default=None)
    host_network: bool | None = None
    host_pid: bool | None = field(name='hostPID', default=None)
    host_users: bool | None = None
    hostname: str | None = None
    hostname_override: str | None = None
    image_pull_secrets: list[LocalObjectReference] = []
    init_containers: list[Container] = []
    node_name: str | None = None
    node_selector: dict[str, str] = {}
    os: PodOS | None = None
    overhead: dict[str, str] = {}
    preemption_policy: str | None = None
    priority: int | None = None
    priority_class_name: str | None = None
    readiness_gates: list[PodReadinessGate] = []
    resource_claims: list[PodResourceClaim] = []
    resources: ResourceRequirements | None = None
    restart_policy: str | None = None
    runtime_class_name: str | None = None
    scheduler_name: str | None = None
    scheduling_gates: list[PodSchedulingGate] = []
    scheduling_group: PodSchedulingGroup | None = None
    security_context: PodSecurityContext | None = None
    service_account: str | None = None
    service_account_name: str | None = None
    set_hostname_as_fqdn: bool | None = field(name='setHostnameAsFQDN', default=None)
    share_process_namespace: bool | None = None
    subdomain: str | None = None
    termination_grace_period_seconds: int | None = None
    tolerations: list[Toleration] = []
    topology_spread_constraints: list[TopologySpreadConstraint] = []
    volumes: list[Volume] = []


class Affinity(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAntiAffinity | None = None


class NodeAffinity(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    preferred_during_scheduling_ignored_during_execution: list[PreferredSchedulingTerm] = []
    required_during_scheduling_ignored_during_execution: NodeSelector | None = None


class PreferredSchedulingTerm(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    preference: NodeSelectorTerm | None = None
    weight: int = 0


class NodeSelectorTerm(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    match_expressions: list[NodeSelectorRequirement] = []
    match_fields: list[NodeSelectorRequirement] = []


class NodeSelectorRequirement(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    key: str = ''
    operator: str = ''
    values: list[str] = []


class NodeSelector(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    node_selector_terms: list[NodeSelectorTerm] = []


class PodAffinity(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    preferred_during_scheduling_ignored_during_execution: list[WeightedPodAffinityTerm] = []
    required_during_scheduling_ignored_during_execution: list[PodAffinityTerm] = []


class WeightedPodAffinityTerm(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    pod_affinity_term: PodAffinityTerm | None = None
    weight: int = 0


class PodAffinityTerm(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    label_selector: meta_v1.LabelSelector | None = None
    match_label_keys: list[str] = []
    mismatch_label_keys: list[str] = []
    namespace_selector: meta_v1.LabelSelector | None = None
    namespaces: list[str] = []
    topology_key: str = ''


class PodAntiAffinity(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    preferred_during_scheduling_ignored_during_execution: list[WeightedPodAffinityTerm] = []
    required_during_scheduling_ignored_during_execution: list[PodAffinityTerm] = []


class Container(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    args: list[str] = []
    command: list[str] = []
    env: list[EnvVar] = []
    env_from: list[EnvFromSource] = []
    image: str | None = None
    image_pull_policy: str | None = None
    lifecycle: Lifecycle | None = None
    liveness_probe: Probe | None = None
    name: str = ''
    ports: list[ContainerPort] = []
    readiness_probe: Probe | None = None
    resize_policy: list[ContainerResizePolicy] = []
    resources: ResourceRequirements | None = None
    restart_policy: str | None = None
    restart_policy_rules: list[ContainerRestartRule] = []
    security_context: SecurityContext | None = None
    startup_probe: Probe | None = None
    stdin: bool | None = None
    stdin_once: bool | None = None
    termination_message_path: str | None = None
    termination_message_policy: str | None = None
    tty: bool | None = None
    volume_devices: list[VolumeDevice] = []
    volume_mounts: list[VolumeMount] = []
    working_dir: str | None = None


class EnvVar(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str = ''
    value: str | None = None
    value_from: EnvVarSource | None = None


class EnvVarSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    config_map_key_ref: ConfigMapKeySelector | None = None
    field_ref: ObjectFieldSelector | None = None
    file_key_ref: FileKeySelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    secret_key_ref: SecretKeySelector | None = None


class ConfigMapKeySelector(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    key: str = ''
    name: str = ''
    optional: bool | None = None


class ObjectFieldSelector(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    api_version: str | None = None
    field_path: str = ''


class FileKeySelector(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    key: str = ''
    optional: bool = False
    path: str = ''
    volume_name: str = ''


class ResourceFieldSelector(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    container_name: str | None = None
    divisor: str | None = None
    resource: str = ''


class SecretKeySelector(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    key: str = ''
    name: str = ''
    optional: bool | None = None


class EnvFromSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    config_map_ref: ConfigMapEnvSource | None = None
    prefix: str | None = None
    secret_ref: SecretEnvSource | None = None


class ConfigMapEnvSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str = ''
    optional: bool | None = None


class SecretEnvSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str = ''
    optional: bool | None = None


class Lifecycle(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None


class LifecycleHandler(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    sleep: SleepAction | None = None
    tcp_socket: TCPSocketAction | None = None


class ExecAction(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    command: list[str] = []


class HTTPGetAction(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    host: str | None = None
    http_headers: list[HTTPHeader] = []
    path: str | None = None
    port: int | str | None = None
    scheme: str | None = None


class HTTPHeader(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str = ''
    value: str = ''


class SleepAction(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    seconds: int = 0


class TCPSocketAction(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    host: str | None = None
    port: int | str | None = None


class Probe(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    exec: ExecAction | None = None
    failure_threshold: int | None = None
    grpc: GRPCAction | None = None
    http_get: HTTPGetAction | None = None
    initial_delay_seconds: int | None = None
    period_seconds: int | None = None
    success_threshold: int | None = None
    tcp_socket: TCPSocketAction | None = None
    termination_grace_period_seconds: int | None = None
    timeout_seconds: int | None = None


class GRPCAction(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    port: int = 0
    service: str = ''


class ContainerPort(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    container_port: int = 0
    host_ip: str | None = field(name='hostIP', default=None)
    host_port: int | None = None
    name: str | None = None
    protocol: str = 'TCP'


class ContainerResizePolicy(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    resource_name: str = ''
    restart_policy: str = ''


class ResourceRequirements(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    claims: list[ResourceClaim] = []
    limits: dict[str, str] = {}
    requests: dict[str, str] = {}


class ResourceClaim(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str = ''
    request: str | None = None


class ContainerRestartRule(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    action: str | None = None
    exit_codes: ContainerRestartRuleOnExitCodes | None = None


class ContainerRestartRuleOnExitCodes(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    operator: str | None = None
    values: list[int] = []


class SecurityContext(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    allow_privilege_escalation: bool | None = None
    app_armor_profile: AppArmorProfile | None = None
    capabilities: Capabilities | None = None
    privileged: bool | None = None
    proc_mount: str | None = None
    read_only_root_filesystem: bool | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    run_as_user: int | None = None
    se_linux_options: SELinuxOptions | None = None
    seccomp_profile: SeccompProfile | None = None
    windows_options: WindowsSecurityContextOptions | None = None


class AppArmorProfile(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    localhost_profile: str | None = None
    type: str = ''


class Capabilities(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    add: list[str] = []
    drop: list[str] = []


class SELinuxOptions(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    level: str | None = None
    role: str | None = None
    type: str | None = None
    user: str | None = None


class SeccompProfile(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    localhost_profile: str | None = None
    type: str = ''


class WindowsSecurityContextOptions(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    gmsa_credential_spec: str | None = None
    gmsa_credential_spec_name: str | None = None
    host_process: bool | None = None
    run_as_user_name: str | None = None


class VolumeDevice(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    device_path: str = ''
    name: str = ''


class VolumeMount(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    mount_path: str = ''
    mount_propagation: str | None = None
    name: str = ''
    read_only: bool | None = None
    recursive_read_only: str | None = None
    sub_path: str | None = None
    sub_path_expr: str | None = None


class PodDNSConfig(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    nameservers: list[str] = []
    options: list[PodDNSConfigOption] = []
    searches: list[str] = []


class PodDNSConfigOption(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str | None = None
    value: str | None = None


class EphemeralContainer(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    args: list[str] = []
    command: list[str] = []
    env: list[EnvVar] = []
    env_from: list[EnvFromSource] = []
    image: str | None = None
    image_pull_policy: str | None = None
    lifecycle: Lifecycle | None = None
    liveness_probe: Probe | None = None
    name: str = ''
    ports: list[ContainerPort] = []
    readiness_probe: Probe | None = None
    resize_policy: list[ContainerResizePolicy] = []
    resources: ResourceRequirements | None = None
    restart_policy: str | None = None
    restart_policy_rules: list[ContainerRestartRule] = []
    security_context: SecurityContext | None = None
    startup_probe: Probe | None = None
    stdin: bool | None = None
    stdin_once: bool | None = None
    target_container_name: str | None = None
    termination_message_path: str | None = None
    termination_message_policy: str | None = None
    tty: bool | None = None
    volume_devices: list[VolumeDevice] = []
    volume_mounts: list[VolumeMount] = []
    working_dir: str | None = None


class HostAlias(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    hostnames: list[str] = []
    ip: str = ''


class LocalObjectReference(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str = ''


class PodOS(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str = ''


class PodReadinessGate(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    condition_type: str = ''


class PodResourceClaim(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str = ''
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None


class PodSchedulingGate(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str = ''


class PodSchedulingGroup(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    pod_group_name: str | None = None


class PodSecurityContext(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    app_armor_profile: AppArmorProfile | None = None
    fs_group: int | None = None
    fs_group_change_policy: str | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    run_as_user: int | None = None
    se_linux_change_policy: str | None = None
    se_linux_options: SELinuxOptions | None = None
    seccomp_profile: SeccompProfile | None = None
    supplemental_groups: list[int] = []
    supplemental_groups_policy: str | None = None
    sysctls: list[Sysctl] = []
    windows_options: WindowsSecurityContextOptions | None = None


class Sysctl(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str = ''
    value: str = ''


class Toleration(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    effect: str | None = None
    key: str | None = None
    operator: str | None = None
    toleration_seconds: int | None = None
    value: str | None = None


class TopologySpreadConstraint(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    label_selector: meta_v1.LabelSelector | None = None
    match_label_keys: list[str] = []
    max_skew: int = 0
    min_domains: int | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None
    topology_key: str = ''
    when_unsatisfiable: str = ''


class Volume(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    aws_elastic_block_store: AWSElasticBlockStoreVolumeSource | None = None
    azure_disk: AzureDiskVolumeSource | None = None
    azure_file: AzureFileVolumeSource | None = None
    cephfs: CephFSVolumeSource | None = None
    cinder: CinderVolumeSource | None = None
    config_map: ConfigMapVolumeSource | None = None
    csi: CSIVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = field(name='downwardAPI', default=None)
    empty_dir: EmptyDirVolumeSource | None = None
    ephemeral: EphemeralVolumeSource | None = None
    fc: FCVolumeSource | None = None
    flex_volume: FlexVolumeSource | None = None
    flocker: FlockerVolumeSource | None = None
    gce_persistent_disk: GCEPersistentDiskVolumeSource | None = None
    git_repo: GitRepoVolumeSource | None = None
    glusterfs: GlusterfsVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None
    image: ImageVolumeSource | None = None
    iscsi: ISCSIVolumeSource | None = None
    name: str = ''
    nfs: NFSVolumeSource | None = None
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    photon_persistent_disk: PhotonPersistentDiskVolumeSource | None = None
    portworx_volume: PortworxVolumeSource | None = None
    projected: ProjectedVolumeSource | None = None
    quobyte: QuobyteVolumeSource | None = None
    rbd: RBDVolumeSource | None = None
    scale_io: ScaleIOVolumeSource | None = field(name='scaleIO', default=None)
    secret: SecretVolumeSource | None = None
    storageos: StorageOSVolumeSource | None = None
    vsphere_volume: VsphereVirtualDiskVolumeSource | None = None


class AWSElasticBlockStoreVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    fs_type: str | None = None
    partition: int | None = None
    read_only: bool | None = None
    volume_id: str = field(name='volumeID', default='')


class AzureDiskVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    caching_mode: str = 'ReadWrite'
    disk_name: str = ''
    disk_uri: str = field(name='diskURI', default='')
    fs_type: str = 'ext4'
    kind: str = 'Shared'
    read_only: bool = False


class AzureFileVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    read_only: bool | None = None
    secret_name: str = ''
    share_name: str = ''


class CephFSVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    monitors: list[str] = []
    path: str | None = None
    read_only: bool | None = None
    secret_file: str | None = None
    secret_ref: LocalObjectReference | None = None
    user: str | None = None


class CinderVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    fs_type: str | None = None
    read_only: bool | None = None
    secret_ref: LocalObjectReference | None = None
    volume_id: str = field(name='volumeID', default='')


class ConfigMapVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    default_mode: int | None = None
    items: list[KeyToPath] = []
    name: str = ''
    optional: bool | None = None


class KeyToPath(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    key: str = ''
    mode: int | None = None
    path: str = ''


class CSIVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    driver: str = ''
    fs_type: str | None = None
    node_publish_secret_ref: LocalObjectReference | None = None
    read_only: bool | None = None
    volume_attributes: dict[str, str] = {}


class DownwardAPIVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    default_mode: int | None = None
    items: list[DownwardAPIVolumeFile] = []


class DownwardAPIVolumeFile(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    field_ref: ObjectFieldSelector | None = None
    mode: int | None = None
    path: str = ''
    resource_field_ref: ResourceFieldSelector | None = None


class EmptyDirVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    medium: str | None = None
    size_limit: str | None = None


class EphemeralVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    volume_claim_template: PersistentVolumeClaimTemplate | None = None


class PersistentVolumeClaimTemplate(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: PersistentVolumeClaimSpec = field(default_factory=lambda: PersistentVolumeClaimSpec())


class PersistentVolumeClaimSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    access_modes: list[str] = []
    data_source: TypedLocalObjectReference | None = None
    data_source_ref: TypedObjectReference | None = None
    resources: VolumeResourceRequirements | None = None
    selector: meta_v1.LabelSelector | None = None
    storage_class_name: str | None = None
    volume_attributes_class_name: str | None = None
    volume_mode: str | None = None
    volume_name: str | None = None


class TypedLocalObjectReference(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    api_group: str | None = None
    kind: str = ''
    name: str = ''


class TypedObjectReference(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    api_group: str | None = None
    kind: str = ''
    name: str = ''
    namespace: str | None = None


class VolumeResourceRequirements(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    limits: dict[str, str] = {}
    requests: dict[str, str] = {}


class FCVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    fs_type: str | None = None
    lun: int | None = None
    read_only: bool | None = None
    target_ww_ns: list[str] = field(name='targetWWNs', default_factory=list)
    wwids: list[str] = []


class FlexVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    driver: str = ''
    fs_type: str | None = None
    options: dict[str, str] = {}
    read_only: bool | None = None
    secret_ref: LocalObjectReference | None = None


class FlockerVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    dataset_name: str | None = None
    dataset_uuid: str | None = field(name='datasetUUID', default=None)


class GCEPersistentDiskVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    fs_type: str | None = None
    partition: int | None = None
    pd_name: str = ''
    read_only: bool | None = None


class GitRepoVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    directory: str | None = None
    repository: str = ''
    revision: str | None = None


class GlusterfsVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    endpoints: str = ''
    path: str = ''
    read_only: bool | None = None


class HostPathVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    path: str = ''
    type: str | None = None


class ImageVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    pull_policy: str | None = None
    reference: str | None = None


class ISCSIVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    chap_auth_discovery: bool | None = None
    chap_auth_session: bool | None = None
    fs_type: str | None = None
    initiator_name: str | None = None
    iqn: str = ''
    iscsi_interface: str = 'default'
    lun: int = 0
    portals: list[str] = []
    read_only: bool | None = None
    secret_ref: LocalObjectReference | None = None
    target_portal: str = ''


class NFSVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    path: str = ''
    read_only: bool | None = None
    server: str = ''


class PersistentVolumeClaimVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    claim_name: str = ''
    read_only: bool | None = None


class PhotonPersistentDiskVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    fs_type: str | None = None
    pd_id: str = field(name='pdID', default='')


class PortworxVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    fs_type: str | None = None
    read_only: bool | None = None
    volume_id: str = field(name='volumeID', default='')


class ProjectedVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    default_mode: int | None = None
    sources: list[VolumeProjection] = []


class VolumeProjection(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    cluster_trust_bundle: ClusterTrustBundleProjection | None = None
    config_map: ConfigMapProjection | None = None
    downward_api: DownwardAPIProjection | None = field(name='downwardAPI', default=None)
    pod_certificate: PodCertificateProjection | None = None
    secret: SecretProjection | None = None
    service_account_token: ServiceAccountTokenProjection | None = None


class ClusterTrustBundleProjection(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    label_selector: meta_v1.LabelSelector | None = None
    name: str | None = None
    optional: bool | None = None
    path: str = ''
    signer_name: str | None = None


class ConfigMapProjection(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    items: list[KeyToPath] = []
    name: str = ''
    optional: bool | None = None


class DownwardAPIProjection(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    items: list[DownwardAPIVolumeFile] = []


class PodCertificateProjection(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    certificate_chain_path: str | None = None
    credential_bundle_path: str | None = None
    key_path: str | None = None
    key_type: str | None = None
    max_expiration_seconds: int | None = None
    signer_name: str | None = None
    user_annotations: dict[str, str] = {}


class SecretProjection(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    items: list[KeyToPath] = []
    name: str = ''
    optional: bool | None = None


class ServiceAccountTokenProjection(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    audience: str | None = None
    expiration_seconds: int | None = None
    path: str = ''


class QuobyteVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    group: str | None = None
    read_only: bool | None = None
    registry: str = ''
    tenant: str | None = None
    user: str | None = None
    volume: str = ''


class RBDVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    fs_type: str | None = None
    image: str = ''
    keyring: str = '/etc/ceph/keyring'
    monitors: list[str] = []
    pool: str = 'rbd'
    read_only: bool | None = None
    secret_ref: LocalObjectReference | None = None
    user: str = 'admin'


class ScaleIOVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    fs_type: str = 'xfs'
    gateway: str = ''
    protection_domain: str | None = None
    read_only: bool | None = None
    secret_ref: LocalObjectReference | None = None
    ssl_enabled: bool | None = None
    storage_mode: str = 'ThinProvisioned'
    storage_pool: str | None = None
    system: str = ''
    volume_name: str | None = None


class SecretVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    default_mode: int | None = None
    items: list[KeyToPath] = []
    optional: bool | None = None
    secret_name: str | None = None


class StorageOSVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    fs_type: str | None = None
    read_only: bool | None = None
    secret_ref: LocalObjectReference | None = None
    volume_name: str | None = None
    volume_namespace: str | None = None


class VsphereVirtualDiskVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    fs_type: str | None = None
    storage_policy_id: str | None = field(name='storagePolicyID', default=None)
    storage_policy_name: str | None = None
    volume_path: str = ''


class PodStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    allocated_resources: dict[str, str] = {}
    conditions: list[PodCondition] = []
    container_statuses: list[ContainerStatus] = []
    ephemeral_container_statuses: list[ContainerStatus] = []
    extended_resource_claim_status: PodExtendedResourceClaimStatus | None = None
    host_ip: str | None = field(name='hostIP', default=None)
    host_ips: list[HostIP] = field(name='hostIPs', default_factory=list)
    init_container_statuses: list[ContainerStatus] = []
    message: str | None = None
    node_allocatable_resource_claim_statuses: list[NodeAllocatableResourceClaimStatus] = []
    nominated_node_name: str | None = None
    observed_generation: int | None = None
    phase: str | None = None
    pod_ip: str | None = field(name='podIP', default=None)
    pod_ips: list[PodIP] = field(name='podIPs', default_factory=list)
    qos_class: str | None = None
    reason: str | None = None
    resize: str | None = None
    resource_claim_statuses: list[PodResourceClaimStatus] = []
    resources: ResourceRequirements | None = None
    start_time: str | None = None


class PodCondition(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    last_probe_time: str | None = None
    last_transition_time: str | None = None
    message: str | None = None
    observed_generation: int | None = None
    reason: str | None = None
    status: str = ''
    type: str = ''


class ContainerStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    allocated_resources: dict[str, str] = {}
    allocated_resources_status: list[ResourceStatus] = []
    container_id: str | None = field(name='containerID', default=None)
    image: str = ''
    image_id: str = field(name='imageID', default='')
    last_state: ContainerState | None = None
    name: str = ''
    ready: bool = False
    resources: ResourceRequirements | None = None
    restart_count: int = 0
    started: bool | None = None
    state: ContainerState | None = None
    stop_signal: str | None = None
    user: ContainerUser | None = None
    volume_mounts: list[VolumeMountStatus] = []


class ResourceStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str = ''
    resources: list[ResourceHealth] = []


class ResourceHealth(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    health: str | None = None
    message: str | None = None
    resource_id: str = field(name='resourceID', default='')


class ContainerState(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None
    waiting: ContainerStateWaiting | None = None


class ContainerStateRunning(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    started_at: str | None = None


class ContainerStateTerminated(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    container_id: str | None = field(name='containerID', default=None)
    exit_code: int = 0
    finished_at: str | None = None
    message: str | None = None
    reason: str | None = None
    signal: int | None = None
    started_at: str | None = None


class ContainerStateWaiting(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    message: str | None = None
    reason: str | None = None


class ContainerUser(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    linux: LinuxContainerUser | None = None


class LinuxContainerUser(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    gid: int = 0
    supplemental_groups: list[int] = []
    uid: int = 0


class VolumeMountStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    mount_path: str = ''
    name: str = ''
    read_only: bool | None = None
    recursive_read_only: str | None = None
    volume_status: VolumeStatus | None = None


class VolumeStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    image: ImageVolumeStatus | None = None


class ImageVolumeStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    image_ref: str | None = None


class PodExtendedResourceClaimStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    request_mappings: list[ContainerExtendedResourceRequest] = []
    resource_claim_name: str = ''


class ContainerExtendedResourceRequest(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    container_name: str = ''
    request_name: str = ''
    resource_name: str = ''


class HostIP(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    ip: str = ''


class NodeAllocatableResourceClaimStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    containers: list[str] = []
    resource_claim_name: str = ''
    resources: dict[str, str] = {}


class PodIP(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    ip: str = ''


class PodResourceClaimStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str = ''
    resource_claim_name: str | None = None


class Service(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "v1"
    kind: str = "Service"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: ServiceSpec = field(default_factory=lambda: ServiceSpec())
    status: ServiceStatus = field(default_factory=lambda: ServiceStatus())


class ServiceSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    allocate_load_balancer_node_ports: bool | None = None
    cluster_ip: str | None = field(name='clusterIP', default=None)
    cluster_ips: list[str] = field(name='clusterIPs', default_factory=list)
    external_ips: list[str] = field(name='externalIPs', default_factory=list)
    external_name: str | None = None
    external_traffic_policy: str | None = None
    health_check_node_port: int | None = None
    internal_traffic_policy: str | None = None
    ip_families: list[str] = []
    ip_family_policy: str | None = None
    load_balancer_class: str | None = None
    load_balancer_ip: str | None = field(name='loadBalancerIP', default=None)
    load_balancer_source_ranges: list[str] = []
    ports: list[ServicePort] = []
    publish_not_ready_addresses: bool | None = None
    selector: dict[str, str] = {}
    session_affinity: str | None = None
    session_affinity_config: SessionAffinityConfig | None = None
    traffic_distribution: str | None = None
    type: str | None = None


class ServicePort(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    app_protocol: str | None = None
    name: str | None = None
    node_port: int | None = None
    port: int = 0
    protocol: str = 'TCP'
    target_port: int | str | None = None


class SessionAffinityConfig(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    client_ip: ClientIPConfig | None = field(name='clientIP', default=None)


class ClientIPConfig(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    timeout_seconds: int | None = None


class ServiceStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    conditions: list[meta_v1.Condition] = []
    load_balancer: LoadBalancerStatus | None = None


class LoadBalancerStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    ingress: list[LoadBalancerIngress] = []


class LoadBalancerIngress(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    hostname: str | None = None
    ip: str | None = None
    ip_mode: str | None = None
    ports: list[PortStatus] = []


class PortStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    error: str | None = None
    port: int = 0
    protocol: str = ''


class Node(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "v1"
    kind: str = "Node"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: NodeSpec = field(default_factory=lambda: NodeSpec())
    status: NodeStatus = field(default_factory=lambda: NodeStatus())


class NodeSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    config_source: NodeConfigSource | None = None
    external_id: str | None = field(name='externalID', default=None)
    pod_cidr: str | None = field(name='podCIDR', default=None)
    pod_cidrs: list[str] = field(name='podCIDRs', default_factory=list)
    provider_id: str | None = field(name='providerID', default=None)
    taints: list[Taint] = []
    unschedulable: bool | None = None


class NodeConfigSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    config_map: ConfigMapNodeConfigSource | None = None


class ConfigMapNodeConfigSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    kubelet_config_key: str = ''
    name: str = ''
    namespace: str = ''
    resource_version: str | None = None
    uid: str | None = None


class Taint(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    effect: str = ''
    key: str = ''
    time_added: str | None = None
    value: str | None = None


class NodeStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    addresses: list[NodeAddress] = []
    allocatable: dict[str, str] = {}
    capacity: dict[str, str] = {}
    conditions: list[NodeCondition] = []
    config: NodeConfigStatus | None = None
    daemon_endpoints: NodeDaemonEndpoints | None = None
    declared_features: list[str] = []
    features: NodeFeatures | None = None
    images: list[ContainerImage] = []
    node_info: NodeSystemInfo | None = None
    phase: str | None = None
    runtime_handlers: list[NodeRuntimeHandler] = []
    volumes_attached: list[AttachedVolume] = []
    volumes_in_use: list[str] = []


class NodeAddress(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    address: str = ''
    type: str = ''


class NodeCondition(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    last_heartbeat_time: str | None = None
    last_transition_time: str | None = None
    message: str | None = None
    reason: str | None = None
    status: str = ''
    type: str = ''


class NodeConfigStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    active: NodeConfigSource | None = None
    assigned: NodeConfigSource | None = None
    error: str | None = None
    last_known_good: NodeConfigSource | None = None


class NodeDaemonEndpoints(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    kubelet_endpoint: DaemonEndpoint | None = None


class DaemonEndpoint(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    port: int = field(name='Port', default=0)


class NodeFeatures(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    supplemental_groups_policy: bool | None = None


class ContainerImage(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    names: list[str] = []
    size_bytes: int | None = None


class NodeSystemInfo(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    architecture: str = ''
    boot_id: str = field(name='bootID', default='')
    container_runtime_version: str = ''
    kernel_version: str = ''
    kube_proxy_version: str = ''
    kubelet_version: str = ''
    machine_id: str = field(name='machineID', default='')
    operating_system: str = ''
    os_image: str = ''
    swap: NodeSwapStatus | None = None
    system_uuid: str = field(name='systemUUID', default='')


class NodeSwapStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    capacity: int | None = None


class NodeRuntimeHandler(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    features: NodeRuntimeHandlerFeatures | None = None
    name: str = ''


class NodeRuntimeHandlerFeatures(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    recursive_read_only_mounts: bool | None = None
    user_namespaces: bool | None = None


class AttachedVolume(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    device_path: str = ''
    name: str = ''


class Namespace(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "v1"
    kind: str = "Namespace"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: NamespaceSpec = field(default_factory=lambda: NamespaceSpec())
    status: NamespaceStatus = field(default_factory=lambda: NamespaceStatus())


class NamespaceSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    finalizers: list[str] = []


class NamespaceStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    conditions: list[NamespaceCondition] = []
    phase: str | None = None


class NamespaceCondition(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    last_transition_time: str | None = None
    message: str | None = None
    reason: str | None = None
    status: str = ''
    type: str = ''


class ConfigMap(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "v1"
    binary_data: dict[str, str] = {}
    data: dict[str, str] = {}
    immutable: bool | None = None
    kind: str = "ConfigMap"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())


class Secret(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "v1"
    data: dict[str, str] = {}
    immutable: bool | None = None
    kind: str = "Secret"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    string_data: dict[str, str] = {}
    type: str | None = None


class ServiceAccount(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "v1"
    automount_service_account_token: bool | None = None
    image_pull_secrets: list[LocalObjectReference] = []
    kind: str = "ServiceAccount"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    secrets: list[ObjectReference] = []


class ObjectReference(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    api_version: str | None = None
    field_path: str | None = None
    kind: str | None = None
    name: str | None = None
    namespace: str | None = None
    resource_version: str | None = None
    uid: str | None = None


class PersistentVolumeClaim(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "v1"
    kind: str = "PersistentVolumeClaim"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: PersistentVolumeClaimSpec = field(default_factory=lambda: PersistentVolumeClaimSpec())
    status: PersistentVolumeClaimStatus = field(default_factory=lambda: PersistentVolumeClaimStatus())


class PersistentVolumeClaimStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    access_modes: list[str] = []
    allocated_resource_statuses: dict[str, str] = {}
    allocated_resources: dict[str, str] = {}
    capacity: dict[str, str] = {}
    conditions: list[PersistentVolumeClaimCondition] = []
    current_volume_attributes_class_name: str | None = None
    modify_volume_status: ModifyVolumeStatus | None = None
    phase: str | None = None


class PersistentVolumeClaimCondition(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    last_probe_time: str | None = None
    last_transition_time: str | None = None
    message: str | None = None
    reason: str | None = None
    status: str = ''
    type: str = ''


class ModifyVolumeStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    status: str = ''
    target_volume_attributes_class_name: str | None = None


class PersistentVolume(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "v1"
    kind: str = "PersistentVolume"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: PersistentVolumeSpec = field(default_factory=lambda: PersistentVolumeSpec())
    status: PersistentVolumeStatus = field(default_factory=lambda: PersistentVolumeStatus())


class PersistentVolumeSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    access_modes: list[str] = []
    aws_elastic_block_store: AWSElasticBlockStoreVolumeSource | None = None
    azure_disk: AzureDiskVolumeSource | None = None
    azure_file: AzureFilePersistentVolumeSource | None = None
    capacity: dict[str, str] = {}
    cephfs: CephFSPersistentVolumeSource | None = None
    cinder: CinderPersistentVolumeSource | None = None
    claim_ref: ObjectReference | None = None
    csi: CSIPersistentVolumeSource | None = None
    fc: FCVolumeSource | None = None
    flex_volume: FlexPersistentVolumeSource | None = None
    flocker: FlockerVolumeSource | None = None
    gce_persistent_disk: GCEPersistentDiskVolumeSource | None = None
    glusterfs: GlusterfsPersistentVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None
    iscsi: ISCSIPersistentVolumeSource | None = None
    local: LocalVolumeSource | None = None
    mount_options: list[str] = []
    nfs: NFSVolumeSource | None = None
    node_affinity: VolumeNodeAffinity | None = None
    persistent_volume_reclaim_policy: str | None = None
    photon_persistent_disk: PhotonPersistentDiskVolumeSource | None = None
    portworx_volume: PortworxVolumeSource | None = None
    quobyte: QuobyteVolumeSource | None = None
    rbd: RBDPersistentVolumeSource | None = None
    scale_io: ScaleIOPersistentVolumeSource | None = field(name='scaleIO', default=None)
    storage_class_name: str | None = None
    storageos: StorageOSPersistentVolumeSource | None = None
    volume_attributes_class_name: str | None = None
    volume_mode: str | None = None
    vsphere_volume: VsphereVirtualDiskVolumeSource | None = None


class AzureFilePersistentVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    read_only: bool | None = None
    secret_name: str = ''
    secret_namespace: str | None = None
    share_name: str = ''


class CephFSPersistentVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    monitors: list[str] = []
    path: str | None = None
    read_only: bool | None = None
    secret_file: str | None = None
    secret_ref: SecretReference | None = None
    user: str | None = None


class SecretReference(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str | None = None
    namespace: str | None = None


class CinderPersistentVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    fs_type: str | None = None
    read_only: bool | None = None
    secret_ref: SecretReference | None = None
    volume_id: str = field(name='volumeID', default='')


class CSIPersistentVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    controller_expand_secret_ref: SecretReference | None = None
    controller_publish_secret_ref: SecretReference | None = None
    driver: str = ''
    fs_type: str | None = None
    node_expand_secret_ref: SecretReference | None = None
    node_publish_secret_ref: SecretReference | None = None
    node_stage_secret_ref: SecretReference | None = None
    read_only: bool | None = None
    volume_attributes: dict[str, str] = {}
    volume_handle: str = ''


class FlexPersistentVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    driver: str = ''
    fs_type: str | None = None
    options: dict[str, str] = {}
    read_only: bool | None = None
    secret_ref: SecretReference | None = None


class GlusterfsPersistentVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    endpoints: str = ''
    endpoints_namespace: str | None = None
    path: str = ''
    read_only: bool | None = None


class ISCSIPersistentVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    chap_auth_discovery: bool | None = None
    chap_auth_session: bool | None = None
    fs_type: str | None = None
    initiator_name: str | None = None
    iqn: str = ''
    iscsi_interface: str = 'default'
    lun: int = 0
    portals: list[str] = []
    read_only: bool | None = None
    secret_ref: SecretReference | None = None
    target_portal: str = ''


class LocalVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    fs_type: str | None = None
    path: str = ''


class VolumeNodeAffinity(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    required: NodeSelector | None = None


class RBDPersistentVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    fs_type: str | None = None
    image: str = ''
    keyring: str = '/etc/ceph/keyring'
    monitors: list[str] = []
    pool: str = 'rbd'
    read_only: bool | None = None
    secret_ref: SecretReference | None = None
    user: str = 'admin'


class ScaleIOPersistentVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    fs_type: str = 'xfs'
    gateway: str = ''
    protection_domain: str | None = None
    read_only: bool | None = None
    secret_ref: SecretReference | None = None
    ssl_enabled: bool | None = None
    storage_mode: str = 'ThinProvisioned'
    storage_pool: str | None = None
    system: str = ''
    volume_name: str | None = None


class StorageOSPersistentVolumeSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    fs_type: str | None = None
    read_only: bool | None = None
    secret_ref: ObjectReference | None = None
    volume_name: str | None = None
    volume_namespace: str | None = None


class PersistentVolumeStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    last_phase_transition_time: str | None = None
    message: str | None = None
    phase: str | None = None
    reason: str | None = None


class Event(Struct, frozen=True, kw_only=True, rename='camel'):
    action: str | None = None
    api_version: str = "v1"
    count: int | None = None
    event_time: str | None = None
    first_timestamp: str | None = None
    involved_object: ObjectReference | None = None
    kind: str = "Event"
    last_timestamp: str | None = None
    message: str | None = None
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    reason: str | None = None
    related: ObjectReference | None = None
    reporting_component: str = ''
    reporting_instance: str = ''
    series: EventSeries | None = None
    source: EventSource | None = None
    type: str | None = None


class EventSeries(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    count: int | None = None
    last_observed_time: str | None = None


class EventSource(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    component: str | None = None
    host: str | None = None


class Endpoints(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "v1"
    kind: str = "Endpoints"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    subsets: list[EndpointSubset] = []


class EndpointSubset(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    addresses: list[EndpointAddress] = []
    not_ready_addresses: list[EndpointAddress] = []
    ports: list[EndpointPort] = []


class EndpointAddress(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    hostname: str | None = None
    ip: str = ''
    node_name: str | None = None
    target_ref: ObjectReference | None = None


class EndpointPort(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    app_protocol: str | None = None
    name: str | None = None
    port: int = 0
    protocol: str | None = None


class Binding(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "v1"
    kind: str = "Binding"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    target: ObjectReference | None = None


class PodTemplateSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: PodSpec = field(default_factory=lambda: PodSpec())
