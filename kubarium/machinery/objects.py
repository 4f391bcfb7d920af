"""Typed, read-only views of the Kubernetes objects that components read.

A view holds the fields that kubarium uses, under Kubernetes' names in snake_case; what it does not know it ignores, so
a view is never encoded and sent back (that would drop fields): writes send wire-shaped dicts or patches. Absent strings
are "", absent lists `()`, absent maps `{}`; `None` stands where absence means something of its own. Times stay RFC 3339
text, quantities and base64 data stay text. Defaults that the API server fills in (probe periods, one replica) are the
views' defaults as well.
Source: https://kubernetes.io/docs/reference/kubernetes-api/
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

T = TypeVar("T")


class ObjectKey(NamedTuple):
    """What a work queue holds: namespace ("" for cluster-scoped objects) and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


_ACRONYMS = {
    word.lower(): word for word in ("IP", "IPs", "CIDR", "CIDRs", "ID", "PID", "IPC", "UUID", "FQDN", "API", "TLS")
}


@functools.cache
def wire_name(field: str) -> str:
    """`pod_cidrs` -> `podCIDRs`, `from_` -> `from`: how Kubernetes spells a field on the wire."""
    first, *rest = field.rstrip("_").split("_")
    return first + "".join(_ACRONYMS.get(word) or word.capitalize() for word in rest)


class _View(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, rename=wire_name):
    """A part of an object. Views are trees, so the garbage collector need not walk them."""


class OwnerReference(_View, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(_View, frozen=True, kw_only=True):
    """Metadata that every object has. Source: API conventions, "Metadata"."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()


class LabelSelectorRequirement(_View, frozen=True, kw_only=True):
    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class LabelSelector(_View, frozen=True, kw_only=True):
    """Empty selects everything; absent (None) selects nothing."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()


class Condition(_View, frozen=True, kw_only=True):
    type: str = ""
    status: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""
    reason: str = ""
    message: str = ""


class LocalObjectReference(_View, frozen=True, kw_only=True):
    name: str = ""


class ObjectReference(_View, frozen=True, kw_only=True):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""


class _Object(_View, frozen=True, kw_only=True):
    """A top-level object; `api_version` and `kind` are right also where a list leaves them out."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.metadata.namespace, self.metadata.name)


class NamespaceSpec(_View, frozen=True, kw_only=True):
    finalizers: tuple[str, ...] = ()


class NamespaceStatus(_View, frozen=True, kw_only=True):
    phase: str = ""
    conditions: tuple[NamespaceCondition, ...] = ()


class Namespace(_Object, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "Namespace"
    spec: NamespaceSpec = NamespaceSpec()
    status: NamespaceStatus = NamespaceStatus()


class NamespaceCondition(_View, frozen=True, kw_only=True):
    type: str = ""
    status: str = ""
    last_transition_time: str = ""
    reason: str = ""
    message: str = ""


class NodeSpec(_View, frozen=True, kw_only=True):
    pod_cidr: str = ""
    provider_id: str = ""
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    pod_cidrs: tuple[str, ...] = ()


class DaemonEndpoint(_View, frozen=True, kw_only=True):
    port: int = 0


class NodeDaemonEndpoints(_View, frozen=True, kw_only=True):
    kubelet_endpoint: DaemonEndpoint = DaemonEndpoint()


class NodeSystemInfo(_View, frozen=True, kw_only=True):
    machine_id: str = ""
    system_uuid: str = ""
    boot_id: str = ""
    kernel_version: str = ""
    os_image: str = ""
    container_runtime_version: str = ""
    kubelet_version: str = ""
    kube_proxy_version: str = ""
    operating_system: str = ""
    architecture: str = ""


class NodeStatus(_View, frozen=True, kw_only=True):
    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}
    conditions: tuple[NodeCondition, ...] = ()
    addresses: tuple[NodeAddress, ...] = ()
    daemon_endpoints: NodeDaemonEndpoints = NodeDaemonEndpoints()
    node_info: NodeSystemInfo = NodeSystemInfo()
    images: tuple[ContainerImage, ...] = ()


class Node(_Object, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "Node"
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class Taint(_View, frozen=True, kw_only=True):
    key: str = ""
    value: str = ""
    effect: str = ""
    time_added: str = ""


class NodeCondition(_View, frozen=True, kw_only=True):
    type: str = ""
    status: str = ""
    last_heartbeat_time: str = ""
    last_transition_time: str = ""
    reason: str = ""
    message: str = ""


class NodeAddress(_View, frozen=True, kw_only=True):
    type: str = ""
    address: str = ""


class ContainerImage(_View, frozen=True, kw_only=True):
    names: tuple[str, ...] = ()
    size_bytes: int = 0


class PodSpec(_View, frozen=True, kw_only=True):
    volumes: tuple[Volume, ...] = ()
    containers: tuple[Container, ...] = ()
    restart_policy: str = ""
    termination_grace_period_seconds: int | None = None
    active_deadline_seconds: int | None = None
    dns_policy: str = ""
    node_selector: dict[str, str] = {}
    service_account_name: str = ""
    service_account: str = ""
    node_name: str = ""
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    security_context: PodSecurityContext | None = None
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    hostname: str = ""
    subdomain: str = ""
    affinity: Affinity | None = None
    scheduler_name: str = ""
    init_containers: tuple[Container, ...] = ()
    ephemeral_containers: tuple[EphemeralContainer, ...] = ()
    automount_service_account_token: bool | None = None
    tolerations: tuple[Toleration, ...] = ()
    host_aliases: tuple[HostAlias, ...] = ()
    priority_class_name: str = ""
    priority: int | None = None
    dns_config: PodDNSConfig | None = None
    share_process_namespace: bool = False
    readiness_gates: tuple[PodReadinessGate, ...] = ()
    runtime_class_name: str = ""
    enable_service_links: bool | None = None
    preemption_policy: str = ""
    overhead: dict[str, str] = {}
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] = ()
    set_hostname_as_fqdn: bool = False
    os: PodOS | None = None
    host_users: bool | None = None
    scheduling_gates: tuple[PodSchedulingGate, ...] = ()


class PodTemplateSpec(_View, frozen=True, kw_only=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()


class PodStatus(_View, frozen=True, kw_only=True):
    phase: str = ""
    conditions: tuple[PodCondition, ...] = ()
    message: str = ""
    reason: str = ""
    host_ip: str = ""
    pod_ip: str = ""
    start_time: str = ""
    container_statuses: tuple[ContainerStatus, ...] = ()
    qos_class: str = ""
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    ephemeral_container_statuses: tuple[ContainerStatus, ...] = ()
    nominated_node_name: str = ""
    pod_ips: tuple[PodIP, ...] = ()
    host_ips: tuple[HostIP, ...] = ()
    observed_generation: int = 0


class Pod(_Object, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "Pod"
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Volume(_View, frozen=True, kw_only=True):
    name: str = ""
    host_path: HostPathVolumeSource | None = None
    empty_dir: EmptyDirVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    config_map: ConfigMapVolumeSource | None = None
    projected: ProjectedVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = None
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    ephemeral: EphemeralVolumeSource | None = None


class PersistentVolumeClaimVolumeSource(_View, frozen=True, kw_only=True):
    claim_name: str = ""
    read_only: bool = False


class EphemeralVolumeSource(_View, frozen=True, kw_only=True):
    """A claim made for the pod, under the name POD-VOLUME."""


class HostPathVolumeSource(_View, frozen=True, kw_only=True):
    path: str = ""
    type: str = ""


class EmptyDirVolumeSource(_View, frozen=True, kw_only=True):
    medium: str = ""
    size_limit: str = ""


class SecretVolumeSource(_View, frozen=True, kw_only=True):
    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int | None = None
    optional: bool = False


class ConfigMapVolumeSource(_View, frozen=True, kw_only=True):
    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int | None = None
    optional: bool = False


class KeyToPath(_View, frozen=True, kw_only=True):
    key: str = ""
    path: str = ""
    mode: int | None = None


class ProjectedVolumeSource(_View, frozen=True, kw_only=True):
    sources: tuple[VolumeProjection, ...] = ()
    default_mode: int | None = None


class VolumeProjection(_View, frozen=True, kw_only=True):
    secret: SecretProjection | None = None
    downward_api: DownwardAPIProjection | None = None
    config_map: ConfigMapProjection | None = None
    service_account_token: ServiceAccountTokenProjection | None = None


class SecretProjection(_View, frozen=True, kw_only=True):
    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class ConfigMapProjection(_View, frozen=True, kw_only=True):
    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class ServiceAccountTokenProjection(_View, frozen=True, kw_only=True):
    audience: str = ""
    expiration_seconds: int = 3600
    path: str = ""


class DownwardAPIProjection(_View, frozen=True, kw_only=True):
    items: tuple[DownwardAPIVolumeFile, ...] = ()


class DownwardAPIVolumeSource(_View, frozen=True, kw_only=True):
    items: tuple[DownwardAPIVolumeFile, ...] = ()
    default_mode: int | None = None


class DownwardAPIVolumeFile(_View, frozen=True, kw_only=True):
    path: str = ""
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: int | None = None


class ObjectFieldSelector(_View, frozen=True, kw_only=True):
    api_version: str = ""
    field_path: str = ""


class ResourceFieldSelector(_View, frozen=True, kw_only=True):
    container_name: str = ""
    resource: str = ""
    divisor: str = ""


class ResourceRequirements(_View, frozen=True, kw_only=True):
    limits: dict[str, str] = {}
    requests: dict[str, str] = {}


class Container(_View, frozen=True, kw_only=True):
    name: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    ports: tuple[ContainerPort, ...] = ()
    env: tuple[EnvVar, ...] = ()
    resources: ResourceRequirements = ResourceRequirements()
    volume_mounts: tuple[VolumeMount, ...] = ()
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    termination_message_path: str = ""
    image_pull_policy: str = ""
    security_context: SecurityContext | None = None
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    env_from: tuple[EnvFromSource, ...] = ()
    termination_message_policy: str = ""
    startup_probe: Probe | None = None
    restart_policy: str = ""


class EphemeralContainer(Container, frozen=True, kw_only=True):
    """Joins a running pod; it shares the processes of `target_container_name` where that is given."""

    target_container_name: str = ""


class ContainerPort(_View, frozen=True, kw_only=True):
    name: str = ""
    host_port: int = 0
    container_port: int = 0
    protocol: str = ""
    host_ip: str = ""


class EnvVar(_View, frozen=True, kw_only=True):
    name: str = ""
    value: str = ""
    value_from: EnvVarSource | None = None


class EnvVarSource(_View, frozen=True, kw_only=True):
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    config_map_key_ref: ConfigMapKeySelector | None = None
    secret_key_ref: SecretKeySelector | None = None


class ConfigMapKeySelector(_View, frozen=True, kw_only=True):
    name: str = ""
    key: str = ""
    optional: bool = False


class SecretKeySelector(_View, frozen=True, kw_only=True):
    name: str = ""
    key: str = ""
    optional: bool = False


class EnvFromSource(_View, frozen=True, kw_only=True):
    prefix: str = ""
    config_map_ref: ConfigMapEnvSource | None = None
    secret_ref: SecretEnvSource | None = None


class ConfigMapEnvSource(_View, frozen=True, kw_only=True):
    name: str = ""
    optional: bool = False


class SecretEnvSource(_View, frozen=True, kw_only=True):
    name: str = ""
    optional: bool = False


class VolumeMount(_View, frozen=True, kw_only=True):
    name: str = ""
    read_only: bool = False
    mount_path: str = ""
    sub_path: str = ""
    mount_propagation: str = ""
    sub_path_expr: str = ""
    recursive_read_only: str = ""


class Probe(_View, frozen=True, kw_only=True):
    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class ExecAction(_View, frozen=True, kw_only=True):
    command: tuple[str, ...] = ()


class HTTPGetAction(_View, frozen=True, kw_only=True):
    path: str = ""
    port: int | str = 0
    host: str = ""
    scheme: str = ""
    http_headers: tuple[HTTPHeader, ...] = ()


class HTTPHeader(_View, frozen=True, kw_only=True):
    name: str = ""
    value: str = ""


class TCPSocketAction(_View, frozen=True, kw_only=True):
    port: int | str = 0
    host: str = ""


class GRPCAction(_View, frozen=True, kw_only=True):
    port: int = 0
    service: str = ""


class SleepAction(_View, frozen=True, kw_only=True):
    seconds: int = 0


class Lifecycle(_View, frozen=True, kw_only=True):
    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None


class LifecycleHandler(_View, frozen=True, kw_only=True):
    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class SecurityContext(_View, frozen=True, kw_only=True):
    capabilities: Capabilities | None = None
    privileged: bool = False
    run_as_user: int | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool = False
    allow_privilege_escalation: bool | None = None
    run_as_group: int | None = None
    proc_mount: str = ""
    seccomp_profile: SeccompProfile | None = None


class Capabilities(_View, frozen=True, kw_only=True):
    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SeccompProfile(_View, frozen=True, kw_only=True):
    type: str = ""
    localhost_profile: str = ""


class PodSecurityContext(_View, frozen=True, kw_only=True):
    run_as_user: int | None = None
    run_as_non_root: bool | None = None
    supplemental_groups: tuple[int, ...] = ()
    fs_group: int | None = None
    run_as_group: int | None = None
    sysctls: tuple[Sysctl, ...] = ()
    fs_group_change_policy: str = ""
    seccomp_profile: SeccompProfile | None = None
    supplemental_groups_policy: str = ""


class Sysctl(_View, frozen=True, kw_only=True):
    name: str = ""
    value: str = ""


class Affinity(_View, frozen=True, kw_only=True):
    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAntiAffinity | None = None


class NodeAffinity(_View, frozen=True, kw_only=True):
    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredSchedulingTerm, ...] = ()


class NodeSelector(_View, frozen=True, kw_only=True):
    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class NodeSelectorTerm(_View, frozen=True, kw_only=True):
    match_expressions: tuple[NodeSelectorRequirement, ...] = ()
    match_fields: tuple[NodeSelectorRequirement, ...] = ()


class NodeSelectorRequirement(_View, frozen=True, kw_only=True):
    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class PreferredSchedulingTerm(_View, frozen=True, kw_only=True):
    weight: int = 0
    preference: NodeSelectorTerm = NodeSelectorTerm()


class PodAffinity(_View, frozen=True, kw_only=True):
    required_during_scheduling_ignored_during_execution: tuple[PodAffinityTerm, ...] = ()
    preferred_during_scheduling_ignored_during_execution: tuple[WeightedPodAffinityTerm, ...] = ()


class PodAntiAffinity(_View, frozen=True, kw_only=True):
    required_during_scheduling_ignored_during_execution: tuple[PodAffinityTerm, ...] = ()
    preferred_during_scheduling_ignored_during_execution: tuple[WeightedPodAffinityTerm, ...] = ()


class PodAffinityTerm(_View, frozen=True, kw_only=True):
    label_selector: LabelSelector | None = None
    namespaces: tuple[str, ...] = ()
    topology_key: str = ""
    namespace_selector: LabelSelector | None = None
    match_label_keys: tuple[str, ...] = ()
    mismatch_label_keys: tuple[str, ...] = ()


class WeightedPodAffinityTerm(_View, frozen=True, kw_only=True):
    weight: int = 0
    pod_affinity_term: PodAffinityTerm = PodAffinityTerm()


class Toleration(_View, frozen=True, kw_only=True):
    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class TopologySpreadConstraint(_View, frozen=True, kw_only=True):
    max_skew: int = 0
    topology_key: str = ""
    when_unsatisfiable: str = ""
    label_selector: LabelSelector | None = None
    min_domains: int | None = None
    node_affinity_policy: str = ""
    node_taints_policy: str = ""
    match_label_keys: tuple[str, ...] = ()


class HostAlias(_View, frozen=True, kw_only=True):
    ip: str = ""
    hostnames: tuple[str, ...] = ()


class PodDNSConfig(_View, frozen=True, kw_only=True):
    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[PodDNSConfigOption, ...] = ()


class PodDNSConfigOption(_View, frozen=True, kw_only=True):
    name: str = ""
    value: str = ""


class PodReadinessGate(_View, frozen=True, kw_only=True):
    condition_type: str = ""


class PodSchedulingGate(_View, frozen=True, kw_only=True):
    name: str = ""


class PodOS(_View, frozen=True, kw_only=True):
    name: str = ""


class PodCondition(_View, frozen=True, kw_only=True):
    type: str = ""
    status: str = ""
    last_transition_time: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0


class PodIP(_View, frozen=True, kw_only=True):
    ip: str = ""


class HostIP(_View, frozen=True, kw_only=True):
    ip: str = ""


class ContainerState(_View, frozen=True, kw_only=True):
    """At most one of the three is set; none means waiting."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(_View, frozen=True, kw_only=True):
    name: str = ""
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()
    ready: bool = False
    restart_count: int = 0
    image: str = ""
    image_id: str = ""
    container_id: str = ""
    started: bool | None = None
    resources: ResourceRequirements = ResourceRequirements()


class ContainerStateWaiting(_View, frozen=True, kw_only=True):
    reason: str = ""
    message: str = ""


class ContainerStateRunning(_View, frozen=True, kw_only=True):
    started_at: str = ""


class ContainerStateTerminated(_View, frozen=True, kw_only=True):
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: str = ""
    finished_at: str = ""
    container_id: str = ""


class ServiceSpec(_View, frozen=True, kw_only=True):
    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = {}
    cluster_ip: str = ""
    type: str = ""
    external_ips: tuple[str, ...] = ()
    session_affinity: str = ""
    load_balancer_ip: str = ""
    load_balancer_source_ranges: tuple[str, ...] = ()
    external_name: str = ""
    external_traffic_policy: str = ""
    health_check_node_port: int = 0
    publish_not_ready_addresses: bool = False
    session_affinity_config: SessionAffinityConfig | None = None
    ip_family_policy: str = ""
    cluster_ips: tuple[str, ...] = ()
    ip_families: tuple[str, ...] = ()
    allocate_load_balancer_node_ports: bool | None = None
    load_balancer_class: str = ""
    internal_traffic_policy: str = ""
    traffic_distribution: str = ""


class LoadBalancerStatus(_View, frozen=True, kw_only=True):
    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(_View, frozen=True, kw_only=True):
    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    conditions: tuple[Condition, ...] = ()


class Service(_Object, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "Service"
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class ServicePort(_View, frozen=True, kw_only=True):
    name: str = ""
    protocol: str = ""
    port: int = 0
    target_port: int | str = 0
    node_port: int = 0
    app_protocol: str = ""


class SessionAffinityConfig(_View, frozen=True, kw_only=True):
    client_ip: ClientIPConfig | None = None


class ClientIPConfig(_View, frozen=True, kw_only=True):
    timeout_seconds: int | None = None


class LoadBalancerIngress(_View, frozen=True, kw_only=True):
    ip: str = ""
    hostname: str = ""
    ip_mode: str = ""
    ports: tuple[PortStatus, ...] = ()


class PortStatus(_View, frozen=True, kw_only=True):
    port: int = 0
    protocol: str = ""
    error: str = ""


class Endpoints(_Object, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "Endpoints"
    subsets: tuple[EndpointSubset, ...] = ()


class EndpointSubset(_View, frozen=True, kw_only=True):
    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class EndpointAddress(_View, frozen=True, kw_only=True):
    ip: str = ""
    target_ref: ObjectReference | None = None
    hostname: str = ""
    node_name: str = ""


class EndpointPort(_View, frozen=True, kw_only=True):
    """`port` None means every port (EndpointSlice only)."""

    name: str = ""
    port: int | None = None
    protocol: str = ""
    app_protocol: str = ""


class ConfigMap(_Object, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "ConfigMap"
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}
    immutable: bool = False


class Secret(_Object, frozen=True, kw_only=True):
    """`data` values are base64 text, as on the wire."""

    api_version: str = "v1"
    kind: str = "Secret"
    data: dict[str, str] = {}
    type: str = ""
    string_data: dict[str, str] = {}
    immutable: bool = False


class ServiceAccount(_Object, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "ServiceAccount"
    secrets: tuple[ObjectReference, ...] = ()
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    automount_service_account_token: bool | None = None


class EventSource(_View, frozen=True, kw_only=True):
    component: str = ""
    host: str = ""


class Event(_Object, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "Event"
    involved_object: ObjectReference = ObjectReference()
    reason: str = ""
    message: str = ""
    source: EventSource = EventSource()
    first_timestamp: str = ""
    last_timestamp: str = ""
    count: int = 0
    type: str = ""
    event_time: str = ""
    series: EventSeries | None = None
    action: str = ""
    related: ObjectReference | None = None
    reporting_component: str = ""
    reporting_instance: str = ""


class EventSeries(_View, frozen=True, kw_only=True):
    count: int = 0
    last_observed_time: str = ""


class DeploymentStrategy(_View, frozen=True, kw_only=True):
    type: str = ""
    rolling_update: RollingUpdateDeployment | None = None


class DeploymentSpec(_View, frozen=True, kw_only=True):
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: PodTemplateSpec = PodTemplateSpec()
    strategy: DeploymentStrategy = DeploymentStrategy()
    min_ready_seconds: int = 0
    revision_history_limit: int | None = None
    paused: bool = False
    progress_deadline_seconds: int | None = None


class DeploymentStatus(_View, frozen=True, kw_only=True):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    conditions: tuple[DeploymentCondition, ...] = ()
    ready_replicas: int = 0
    collision_count: int = 0
    terminating_replicas: int = 0


class Deployment(_Object, frozen=True, kw_only=True):
    api_version: str = "apps/v1"
    kind: str = "Deployment"
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class RollingUpdateDeployment(_View, frozen=True, kw_only=True):
    """Absolute numbers or percentages such as "25%"."""

    max_unavailable: int | str | None = None
    max_surge: int | str | None = None


class DeploymentCondition(_View, frozen=True, kw_only=True):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_update_time: str = ""
    last_transition_time: str = ""


class ReplicaSetSpec(_View, frozen=True, kw_only=True):
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: PodTemplateSpec = PodTemplateSpec()
    min_ready_seconds: int = 0


class ReplicaSetStatus(_View, frozen=True, kw_only=True):
    replicas: int = 0
    fully_labeled_replicas: int = 0
    observed_generation: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    conditions: tuple[ReplicaSetCondition, ...] = ()
    terminating_replicas: int = 0


class ReplicaSet(_Object, frozen=True, kw_only=True):
    api_version: str = "apps/v1"
    kind: str = "ReplicaSet"
    spec: ReplicaSetSpec = ReplicaSetSpec()
    status: ReplicaSetStatus = ReplicaSetStatus()


class ReplicaSetCondition(_View, frozen=True, kw_only=True):
    type: str = ""
    status: str = ""
    last_transition_time: str = ""
    reason: str = ""
    message: str = ""


class EndpointSlice(_Object, frozen=True, kw_only=True):
    api_version: str = "discovery.k8s.io/v1"
    kind: str = "EndpointSlice"
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()
    address_type: str = ""


class EndpointConditions(_View, frozen=True, kw_only=True):
    """`ready` and `serving` absent mean true for a consumer that cannot tell."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool = False


class Endpoint(_View, frozen=True, kw_only=True):
    """One backend of an EndpointSlice; its addresses are fungible, consumers use the first."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    target_ref: ObjectReference | None = None
    node_name: str = ""
    zone: str = ""
    hints: EndpointHints | None = None


class EndpointHints(_View, frozen=True, kw_only=True):
    for_zones: tuple[ForZone, ...] = ()
    for_nodes: tuple[ForNode, ...] = ()


class ForZone(_View, frozen=True, kw_only=True):
    name: str = ""


class ForNode(_View, frozen=True, kw_only=True):
    name: str = ""


class IngressSpec(_View, frozen=True, kw_only=True):
    default_backend: IngressBackend | None = None
    tls: tuple[IngressTLS, ...] = ()
    rules: tuple[IngressRule, ...] = ()
    ingress_class_name: str = ""


class IngressLoadBalancerStatus(_View, frozen=True, kw_only=True):
    ingress: tuple[IngressLoadBalancerIngress, ...] = ()


class IngressStatus(_View, frozen=True, kw_only=True):
    load_balancer: IngressLoadBalancerStatus = IngressLoadBalancerStatus()


class Ingress(_Object, frozen=True, kw_only=True):
    api_version: str = "networking.k8s.io/v1"
    kind: str = "Ingress"
    spec: IngressSpec = IngressSpec()
    status: IngressStatus = IngressStatus()


class IngressBackend(_View, frozen=True, kw_only=True):
    resource: TypedLocalObjectReference | None = None
    service: IngressServiceBackend | None = None


class ServiceBackendPort(_View, frozen=True, kw_only=True):
    name: str = ""
    number: int = 0


class IngressServiceBackend(_View, frozen=True, kw_only=True):
    name: str = ""
    port: ServiceBackendPort = ServiceBackendPort()


class IngressTLS(_View, frozen=True, kw_only=True):
    hosts: tuple[str, ...] = ()
    secret_name: str = ""


class IngressRule(_View, frozen=True, kw_only=True):
    host: str = ""
    http: HTTPIngressRuleValue | None = None


class HTTPIngressRuleValue(_View, frozen=True, kw_only=True):
    paths: tuple[HTTPIngressPath, ...] = ()


class HTTPIngressPath(_View, frozen=True, kw_only=True):
    path: str = ""
    backend: IngressBackend = IngressBackend()
    path_type: str = ""


class IngressLoadBalancerIngress(_View, frozen=True, kw_only=True):
    ip: str = ""
    hostname: str = ""
    ports: tuple[IngressPortStatus, ...] = ()


class IngressPortStatus(_View, frozen=True, kw_only=True):
    port: int = 0
    protocol: str = ""
    error: str = ""


class TypedLocalObjectReference(_View, frozen=True, kw_only=True):
    api_group: str = ""
    kind: str = ""
    name: str = ""


class LeaseSpec(_View, frozen=True, kw_only=True):
    holder_identity: str = ""
    lease_duration_seconds: int | None = None
    acquire_time: str = ""
    renew_time: str = ""
    lease_transitions: int = 0


class Lease(_Object, frozen=True, kw_only=True):
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"
    spec: LeaseSpec = LeaseSpec()


class RuntimeClass(_Object, frozen=True, kw_only=True):
    api_version: str = "node.k8s.io/v1"
    kind: str = "RuntimeClass"
    handler: str = ""
    overhead: Overhead | None = None
    scheduling: Scheduling | None = None


class Overhead(_View, frozen=True, kw_only=True):
    pod_fixed: dict[str, str] = {}


class Scheduling(_View, frozen=True, kw_only=True):
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()


_decoders: dict[type, msgspec.json.Decoder[Any]] = {}


def _decoder(view: type[T]) -> msgspec.json.Decoder[T]:
    if (decoder := _decoders.get(view)) is None:
        decoder = _decoders[view] = msgspec.json.Decoder(view)
    return decoder


def decode(view: type[T], data: bytes) -> T:
    """JSON bytes to a view. Raises msgspec.ValidationError where a known field has another type.

    Upstream writes `null` for absent lists and times here and there; such an object takes a second, slower way.
    """
    try:
        return _decoder(view).decode(data)
    except msgspec.ValidationError:
        if b"null" not in data:
            raise
        return msgspec.convert(_without_nulls(msgspec.json.decode(data)), view)


def convert(view: type[T], obj: Mapping[str, Any]) -> T:
    """A wire-shaped dict to a view."""
    return msgspec.convert(_without_nulls(obj), view)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(item) for item in value]
    return value
